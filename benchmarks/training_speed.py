"""Training words per second, as a ratio to the same step in plain PyTorch (baseline.py).

    python benchmarks/training_speed.py            one thread, under a minute

The size is small: 128 units, embeddings of 128, 32 latent dimensions, 8,000 words, batches
of 32 random sentences of 24 to 80 words, dropout 0.5, SGD with joint clipping.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # Before torch is imported.

from collections.abc import Callable, Sequence

import torch
from baseline import CLIP, LR, PlainTraining
from measure import best_gflops, compare, interleave, matmul_gflops, missed
from small import HIDDEN, LATENT, WORDS, random_batches, training_flops_per_target, twins
from torch import Tensor

from trainers.config import typed
from trainers.objectives import elbo
from trainers.streams import Streams
from trainers.updates import Updates
from trainers.vocabulary import ROWS

KL_WEIGHT = 0.5
PLAIN = typed({"data": "any"})
BASELINE_SHARE = 0.2  # Of the best product seen: below it the baseline is a straw man.
TURNS, BATCHES_PER_TURN, CHECKED_STEPS = 9, 4, 5

Step = Callable[[Tensor], Tensor]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    batches = random_batches(TURNS * BATCHES_PER_TURN)
    check_equal(batches[:CHECKED_STEPS])
    probe()
    best = best_gflops()
    step, plain_step = training_steps(dropout=0.5)
    rounds = [batches[turn::TURNS] for turn in range(TURNS)]
    seconds = interleave(
        {
            "ours": lambda turn: [step(tokens_BT) for tokens_BT in rounds[turn]],
            "baseline": lambda turn: [plain_step(tokens_BT) for tokens_BT in rounds[turn]],
        },
        TURNS,
    )
    amounts = [sum(tokens_BT[:, 1:].numel() for tokens_BT in turn) for turn in rounds]
    rates = compare("target words", amounts, seconds, goal=1.8)
    for name, rate in rates.items():
        share = rate * training_flops_per_target() / 1e9 / best
        short = missed(name != "baseline" or share >= BASELINE_SHARE)
        print(f"{name:9} {share:10.0%} of the best fp32 rate seen, {best:.0f} GFLOP/s{short}")


def training_steps(dropout: float) -> tuple[Step, Step]:
    """A step of ours and one of the baseline: equal weights, equal noise."""
    model, plain = twins(dropout)
    updates = Updates(model, algorithm="sgd", lr=LR, clip=CLIP)
    training, streams, noise = PlainTraining(plain), Streams(7), Streams(7)["noise"]

    def step(tokens_BT: Tensor) -> Tensor:
        loss = elbo(model, tokens_BT, weight=KL_WEIGHT, streams=streams, config=PLAIN)
        updates.step(loss.mean, "joint")
        return loss.mean.detach()

    def plain_step(tokens_BT: Tensor) -> Tensor:
        noise_BZ = torch.randn(len(tokens_BT), LATENT, generator=noise)
        return training.step(tokens_BT, noise_BZ, KL_WEIGHT)

    return step, plain_step


def check_equal(batches: Sequence[Tensor]) -> None:
    """Without dropout, whose draws differ, the two are one computation."""
    step, plain_step = training_steps(dropout=0.0)
    apart = max(abs(float(step(batch) / plain_step(batch)) - 1) for batch in batches)
    print(f"check: losses of {len(batches)} steps are equal within {apart:.0e} of them")
    assert apart < 1e-4, apart


def probe() -> None:
    """How much faster oneDNN is at our shapes. For the record: what is used does not depend
    on it."""
    rows = ROWS["cpu"]
    shapes = {
        "logits": (rows, HIDDEN, WORDS),
        "gradient of states": (rows, WORDS, HIDDEN),
        "gradient of weights": (HIDDEN, rows, WORDS),
        "one sentence": (30, HIDDEN, WORDS),
    }
    for name, shape in shapes.items():
        rates = matmul_gflops(*shape)
        ratio = rates.get("oneDNN", 0.0) / rates["torch.mm"]
        print(f"probe: {name}: torch.mm {rates['torch.mm']:.0f} GFLOP/s, oneDNN {ratio:.2f}x")


if __name__ == "__main__":
    main()
