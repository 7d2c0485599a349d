"""A trained model in; its scores on the test split out, and files of all that is no number.

Under `run.folder / "artifacts"`:

    test_sentences.npz    per test sentence, in the corpus's order: `nll`, and where they are
                          known `ess` and `floor`, nats; test_sentences_500.npz if estimated
                          from 500 samples
    valid_features.npz    `features` [N, H], what the posterior reads of validation sentences
    samples.json, .txt    sentences of the model's own, see samples
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers import samples
from trainers.config import TextVaeConfig
from trainers.metrics import (
    Batch,
    centre_nll,
    dual_summary,
    exact_nll,
    features,
    importance_nll,
    mean_and_error,
    monte_carlo_error,
    perplexity,
    posterior_summary,
)
from trainers.training import Training, defined

# Validation sentences whose features are kept: enough for a picture.
FEATURES = 2000


def evaluate(training: Training, run: Any) -> dict[str, float]:
    """The test split under the best weights. What is made of the NLL says of which: `iw` is
    estimated, `exact` is not."""
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
        scores[f"nll_{kind}_above_floor_t"] = above / error if error else math.nan
    keep(training, run.folder / "artifacts", kept)
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
    generator = training.streams.apart("test", "own")
    scores |= own_figures(training.config, model, test, generator)
    return scores, estimate.nll_N, estimate.ess_N


def own_figures(
    config: TextVaeConfig, model: Any, batches: Sequence[Batch], generator: torch.Generator
) -> dict[str, float]:
    """What the paper of one system reports of it, under its own name: no other system's is
    comparable, and none of them is an NLL."""
    if config.objective == "dual":
        return dual_summary(model, batches, config.evaluate.own_codes, generator)
    return centre_nll(model, batches) if config.objective == "wasserstein" else {}


def keep(training: Training, folder: Path, sentences: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: it.numpy() for name, it in sentences.items()}
    how = "" if training.exact else f"_{training.config.evaluate.samples}"
    np.savez(folder / f"test_sentences{how}.npz", **arrays)
    if not training.exact:
        features_NH = features(training.model, training.data.valid)[:FEATURES].float()
        np.savez(folder / "valid_features.npz", features=features_NH.numpy())
    generator = training.streams.apart("test", "samples")
    made = samples.samples(training.model, training.data.text, generator)
    samples.write(folder, made)
