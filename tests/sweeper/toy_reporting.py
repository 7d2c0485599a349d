"""A configuration module that says what its trainer reports, which depends on the model."""

from __future__ import annotations

RESULTS = ("loss", "valid/kl", "valid/nelbo", "test/exact", "test/estimate")
EVALUATION = ("evaluate",)
asked = []


def reported(config):
    """A plain model has an exact score, another an estimate of it; `own` may say anything, and
    `odd` gives no collection."""
    asked.append(config)
    kinds = {
        "plain": {"loss", "test/exact"},
        "latent": ["loss", "valid/kl", "valid/nelbo", "test/estimate"],
        "own": None,
        "odd": "loss",
    }
    return kinds[config.get("model", "plain")]
