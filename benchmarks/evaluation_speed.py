"""Evaluation speed, as ratios to plain PyTorch (baseline.py): sentences per second of the
importance-weighted NLL with 500 samples, and of the one-pass summary (ELBO, KL, mutual
information, active units).

    python benchmarks/evaluation_speed.py          one thread, about a minute

The size is small: 128 units, embeddings of 128, 32 latent dimensions, 8,000 words, random
sentences of 24 to 80 words.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # Before torch is imported.

from collections.abc import Sequence

import baseline
import torch
from measure import compare, interleave
from small import LATENT, random_batches, twins
from torch import Tensor

from trainers.metrics import importance_nll, posterior_summary

SAMPLES = 500
SENTENCES, SPLIT_BATCHES, SPLIT_TURNS = 7, 12, 5


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    model, plain = twins(dropout=0.5)
    plain.eval()
    compare_importance(model, plain, random_batches(SENTENCES, size=1))
    compare_summary(model, plain, random_batches(SPLIT_BATCHES))


def compare_importance(model, plain, sentences: Sequence[Tensor]) -> None:
    """Sentence by sentence, with the same codes for both."""
    nll: dict[str, dict[int, float]] = {"ours": {}, "baseline": {}}

    def ours(turn: int) -> None:
        batch = [(sentences[turn], torch.zeros(1, dtype=torch.long))]
        estimate = importance_nll(model, batch, SAMPLES, torch.Generator().manual_seed(turn))
        nll["ours"][turn] = float(estimate.nll_N)

    def theirs(turn: int) -> None:
        generator = torch.Generator().manual_seed(turn)
        noise_BSZ = torch.randn(1, SAMPLES, LATENT, generator=generator)
        nll["baseline"][turn] = float(baseline.importance_nll(plain, sentences[turn], noise_BSZ))

    seconds = interleave({"ours": ours, "baseline": theirs}, len(sentences))
    apart = max(abs(nll["ours"][turn] - nll["baseline"][turn]) for turn in nll["ours"])
    print(f"importance-weighted NLL, {SAMPLES} samples")
    print(f"check: NLLs of {len(sentences)} sentences are equal within {apart:.0e} nats")
    assert apart < 1e-3, apart
    compare("sentences", [1.0] * len(sentences), seconds, goal=2.5)


def compare_summary(model, plain, batches: Sequence[Tensor]) -> None:
    """The same split in each turn, with the same noise for both."""
    sizes = [len(tokens_BT) for tokens_BT in batches]
    split = list(zip(batches, torch.arange(sum(sizes)).split(sizes), strict=True))
    found: dict[str, dict[str, float]] = {}

    def ours(_: int) -> None:
        found["ours"] = posterior_summary(model, split, torch.Generator().manual_seed(3))

    def theirs(_: int) -> None:
        generator = torch.Generator().manual_seed(3)
        noise = [torch.randn(size, LATENT, generator=generator) for size in sizes]
        found["baseline"] = baseline.summary(plain, batches, noise)

    seconds = interleave({"ours": ours, "baseline": theirs}, SPLIT_TURNS)
    apart = max(abs(found["ours"][key] - value) for key, value in found["baseline"].items())
    print("summary of a split")
    print(f"check: {', '.join(found['baseline'])} are equal within {apart:.0e}")
    assert apart < 1e-3, apart
    compare("sentences", [sum(sizes)] * SPLIT_TURNS, seconds, goal=2.5)


if __name__ == "__main__":
    main()
