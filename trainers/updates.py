"""A loss in; one update of the parameters and one count of its kind out. The only place
where an optimiser steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainers.config import UPDATES

# One fused call per step: on small models the loop over parameters costs more than the
# arithmetic.
ALGORITHMS = {
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, momentum=0.0, fused=True),
}


class Updates:
    """An optimiser for each half of the model and one for its critics, and the count of
    updates by kind, which is a trial's cost. They have state, which a checkpoint keeps.

    Critics are moved by Adam at `critic_lr`, which no rule changes, and are not clipped."""

    def __init__(
        self,
        model: nn.Module,
        *,
        algorithm: str,
        lr: float,
        clip: float,
        critic_lr: float | None = None,
    ) -> None:
        self.model, self.algorithm, self.clip, self.critic_lr = model, algorithm, clip, critic_lr
        self.counts = dict.fromkeys(UPDATES, 0)
        self.renew(lr)

    def renew(self, lr: float) -> None:
        """New optimisers, which remember nothing."""
        make, halves = ALGORITHMS[self.algorithm], self.model.halves()
        self.critics = halves.pop("critic", [])
        self.parameters = [parameter for own in halves.values() for parameter in own]
        self.optimisers = {half: make(own, lr=lr) for half, own in halves.items()}
        if self.critics:
            self.optimisers["critic"] = ALGORITHMS["adam"](self.critics, lr=self.critic_lr)

    def set_lr(self, lr: float) -> None:
        for half, optimiser in self.optimisers.items():
            for group in optimiser.param_groups if half != "critic" else ():
                group["lr"] = lr

    def step(self, loss: Tensor, kind: str) -> None:
        """One update of the parameters of `kind` down the gradient of `loss`.

        The gradient is taken and clipped over the whole model, also when one half moves:
        the other half's gradient scales the step (He et al. 2019)."""
        for parameter in (*self.parameters, *self.critics):
            parameter.grad = None
        loss.backward()
        if kind != "critic":
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        for half in ("encoder", "decoder") if kind == "joint" else (kind,):
            if half in self.optimisers:  # A language model has no encoder.
                self.optimisers[half].step()
        self.counts[kind] += 1

    @property
    def outer_steps(self) -> int:
        return self.counts["joint"] + self.counts["decoder"]

    def cost(self) -> dict[str, float]:
        """What was paid so far, as measurements."""
        by_kind = {f"cost/updates_{kind}": float(n) for kind, n in self.counts.items()}
        return {
            "cost/updates": float(sum(self.counts.values())),
            **by_kind,
            "cost/outer_steps": float(self.outer_steps),
            "cost/inner_steps": float(self.counts["encoder"]),
        }

    def state_dict(self) -> dict[str, Any]:
        optimisers = {half: it.state_dict() for half, it in self.optimisers.items()}
        return {"counts": dict(self.counts), "optimisers": optimisers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = dict(state["counts"])
        for half, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][half])
