"""A trainer as a generator: scikit-learn's linear classifier, by stochastic gradient descent."""

import pickle

import numpy as np
from sklearn.linear_model import SGDClassifier

from own.digits import splits


def train(config, run):
    """Yields a measurement after each epoch. The last one is the result, and the only one that
    has seen the test split."""
    (pixels, digit), valid, test = splits(run.seed)
    kept = run.folder / "checkpoints" / "model.pickle"
    kept.parent.mkdir(exist_ok=True)
    # A killed trial continues, and a trained one is scored, from what it left in its folder.
    done, model = pickle.loads(kept.read_bytes()) if kept.exists() else (0, new(config, run.seed))
    if run.score_only and done < config["epochs"]:
        raise RuntimeError(f"trained for {done} of {config['epochs']} epochs: nothing to score")
    for epoch in range(done + 1, config["epochs"] + 1):
        order = np.random.default_rng([run.seed, epoch]).permutation(len(digit))
        model.partial_fit(pixels[order], digit[order], classes=np.arange(10))
        part = kept.with_suffix(".part")
        part.write_bytes(pickle.dumps((epoch, model)))
        part.replace(kept)  # Whole or not at all, whenever it is killed.
        yield {
            "cost/updates": epoch * len(digit),  # One for each digit that it was shown.
            "valid/accuracy": accuracy(model, *valid),
            "progress": epoch / config["epochs"],
        }
    yield {
        "cost/updates": config["epochs"] * len(digit),
        "valid/accuracy": accuracy(model, *valid, config["top"]),
        "test/accuracy": accuracy(model, *test, config["top"]),
    }


def new(config, seed):
    penalty = None if config["penalty"] == "none" else config["penalty"]
    return SGDClassifier(
        loss="log_loss",
        learning_rate="constant",
        eta0=config["lr"],
        penalty=penalty,
        alpha=config.get("alpha", 0.0),
        shuffle=False,
        random_state=seed,
    )


def accuracy(model, pixels, digit, top=1):
    """The share of digits that are among the `top` most probable."""
    ranked = np.argsort(-model.decision_function(pixels), axis=1)
    return np.mean((ranked[:, :top] == digit[:, None]).any(axis=1))
