"""A seed and a purpose in; that purpose's own stream of random numbers out.

Nothing is drawn from a global generator, so that one more draw for one purpose moves no
other's: two trials that differ in their pooling see the same order of batches, the same
noise and the same initial decoder.
"""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor


def seed_of(seed: int, *purpose: str | int) -> int:
    """63 bits of SHA-256 of the seed and the purpose; the same on every machine."""
    text = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *purpose: str | int, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed_of(seed, *purpose))


def normal_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws of the shape of `values`, where they are."""
    return torch.randn(values.shape, generator=generator, device=values.device)


# Choices of batches are made on the CPU: they must not wait for a GPU.
ON_CPU = ("inner", "order")


class Streams:
    """The streams that training draws from, each made at its first use. They have state,
    which a checkpoint keeps."""

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.seed, self.device = seed, device
        self.generators: dict[str, torch.Generator] = {}

    def __getitem__(self, purpose: str) -> torch.Generator:
        if purpose not in self.generators:
            self.generators[purpose] = self.apart(purpose)
        return self.generators[purpose]

    def apart(self, *purpose: str | int) -> torch.Generator:
        """A stream of its own that training does not go on with, such as an evaluation's."""
        device = "cpu" if purpose[0] in ON_CPU else self.device
        return stream(self.seed, *purpose, device=device)

    def state_dict(self) -> dict[str, Tensor]:
        return {purpose: it.get_state() for purpose, it in sorted(self.generators.items())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for purpose, position in state.items():
            self[purpose].set_state(position.cpu())
