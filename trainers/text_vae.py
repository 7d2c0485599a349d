"""A configuration and a run in; measurements out: one an epoch, and the result at last.

    for measurement in train({"data": "synthetic_styles", "pooling": "max"}, run): ...

A language model or a sequence VAE is trained on one corpus, the weights with the best
validation loss are kept, and those are evaluated on the test split. Everything random comes
from (seed, purpose), so that a run that was killed continues from its last checkpoint bit
for bit, and one that had finished training is only evaluated again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers import checkpoint
from trainers.config import EVALUATION, effective, typed
from trainers.metrics import (
    exact_nll,
    importance_nll,
    mean_and_error,
    monte_carlo_error,
    perplexity,
    posterior_summary,
)
from trainers.training import Training, defined

log = logging.getLogger(__name__)


def train(config: Mapping[str, Any], run: Any) -> Iterator[dict[str, float]]:
    kept = effective(config)
    settle(run)
    training = Training(typed(kept), run)
    owner = digest(kept, run.seed)
    folder = run.folder / "checkpoints"
    state, notes = checkpoint.load(folder, owner)
    for note in notes:
        log.warning(note)
    if state is not None and training.takes(state):
        training.load_state_dict(state)
    elif state is not None:
        places = folder, state["device"], training.device
        log.warning("the checkpoint in %s was made on %s; training starts over on %s", *places)
    while not training.finished:
        measurement = training.epoch_of_updates()
        # Handed over before its checkpoint is written: a killed trial may repeat a
        # measurement, to the bit, but not lose one.
        yield measurement
        if not all(map(math.isfinite, measurement.values())):
            return  # This measurement is the result: the run diverged.
        checkpoint.save(folder, training.epoch, training.state_dict(), owner)
    yield training.result() | evaluate(training, run)


def settle(run: Any) -> None:
    """One answer on one machine: threads are the trial's, and every kernel deterministic."""
    torch.set_num_threads(run.cpus)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Before CUDA starts.
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # It would cost, for nothing.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def digest(config: Mapping[str, Any], seed: int) -> str:
    """Of all that training depends on: evaluation may change, and its checkpoint still does."""
    training = {key: value for key, value in config.items() if key not in EVALUATION}
    return hashlib.sha256(json.dumps([training, seed], sort_keys=True).encode()).hexdigest()


def evaluate(training: Training, run: Any) -> dict[str, float]:
    """The test split under the best weights, and a file of its sentences one by one, in the
    corpus's order: `nll`, and where they are known `ess` and `floor`. What is made of the
    NLL says of which: `iw` is estimated, `exact` is not."""
    text, kind = training.data.text, "exact" if training.exact else "iw"
    scores, nll_N, ess_N = score(training)
    kept = {"nll": nll_N} if ess_N is None else {"nll": nll_N, "ess": ess_N}
    scores |= {
        f"ppl_{kind}": perplexity(float(nll_N.sum()), text.targets("test")),
        "sentences": len(text.test),
        "targets": text.targets("test"),
        "nll_unigram": float(np.mean(text.unigram_nats)),
    }
    if text.floor_nats is not None:
        kept["floor"] = torch.as_tensor(text.floor_nats)
        above, error = mean_and_error(nll_N - kept["floor"])
        scores |= {
            "nll_floor": float(kept["floor"].mean()),
            f"nll_{kind}_above_floor": above,
            f"nll_{kind}_above_floor_se": error,
        }
    artifacts = run.folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    np.savez(artifacts / "test_sentences.npz", **{name: it.numpy() for name, it in kept.items()})
    return defined({f"test/{name}": float(score) for name, score in scores.items()})


def score(training: Training) -> tuple[dict[str, float], Tensor, Tensor | None]:
    """Scores of the test split, and per sentence the NLL (exact for a language model, else
    estimated with importance samples) and the effective number of those samples.

    nll_iw has two errors: nll_iw_se is the NLL's spread over sentences / sqrt N (another
    test split), nll_iw_mc_se the estimator's own (other samples, the same sentences)."""
    model, test, settings = training.model, training.data.test, training.config.evaluate
    if training.exact:
        nll_N = exact_nll(model, test)
        return {"nll_exact": float(nll_N.mean())}, nll_N, None
    summary = posterior_summary(
        model,
        test,
        training.streams.apart("test", "posterior"),
        active_threshold=settings.active_threshold,
    )
    estimate = importance_nll(
        model, test, settings.samples, training.streams.apart("test", "importance")
    )
    nll, error = mean_and_error(estimate.nll_N)
    scores = summary | {
        "nll_iw": nll,
        "nll_iw_se": error,
        "nll_iw_mc_se": monte_carlo_error(estimate.ess_N, settings.samples),
        "iw_ess": float(estimate.ess_N.mean()),
        "iw_ess_min": float(estimate.ess_N.min()),
    }
    return scores, estimate.nll_N, estimate.ess_N
