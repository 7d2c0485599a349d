"""A batch in; one outer training step out, made of one or many updates.

A scheme is pure control flow: `loss_of(batch)` says the objective at the KL weight of this
outer step, `updates` moves the parameters and counts. Shapes: B sentences, T words each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainers.objectives import Loss
from trainers.streams import Streams, normal_like
from trainers.updates import Updates

LossOf = Callable[[Tensor], Loss]


class Joint:
    """Every update moves the whole model."""

    checks_per_epoch = 0

    def __init__(self, config: Any, updates: Updates, streams: Streams) -> None:
        self.config, self.updates, self.streams = config, updates, streams

    def step(self, tokens_BT: Tensor, batches: Sequence[Tensor], loss_of: LossOf) -> Loss:
        loss = loss_of(tokens_BT)
        self.updates.step(loss.mean, "joint")
        return loss

    def measurements(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        assert not state, state


class Adversarial(Joint):
    """Fang et al. (2019, algorithm 1): before each update of the whole model, `steps` updates
    of its critics on the batch's own codes and as many from the prior, drawn anew each time.

    The two critics share no weight and are moved by one update, where their code makes two;
    they see codes of their own drawing, where theirs see those that the model's update reads."""

    def step(self, tokens_BT: Tensor, batches: Sequence[Tensor], loss_of: LossOf) -> Loss:
        model, noise = self.updates.model, self.streams["critic"]
        with torch.no_grad():
            feature_BH, posterior = model.encode(tokens_BT)
            codes_BZ = posterior.sample(normal_like(posterior.centre_BZ, noise))
        for _ in range(self.config.critic.steps):
            prior_BZ = normal_like(codes_BZ, noise)
            self.updates.step(model.critics.loss(codes_BZ, prior_BZ, feature_BH), "critic")
        return super().step(tokens_BT, batches, loss_of)


class Aggressive:
    """He et al. (2019): before each update of the decoder, updates of the encoder on random
    batches until its loss per word, looked at every `window` of them, no longer falls or
    `inner` is reached; once the mutual information on validation falls, joint updates for
    ever.

    As in their code the inner loop starts on the batch of the outer step, the first look
    has nothing to compare with, and `inner` = 100 allows 99 updates."""

    def __init__(self, config: Any, updates: Updates, streams: Streams) -> None:
        self.config, self.updates, self.generator = config.aggressive, updates, streams["inner"]
        self.active, self.information, self.checks = True, 0.0, 0
        self.batches = math.inf  # Of an epoch; the first step says how many.

    @property
    def checks_per_epoch(self) -> int:
        """How often an epoch `check` wants to be told the mutual information, at most after
        every batch."""
        return min(self.config.checks_per_epoch, self.batches) if self.active else 0

    def step(self, tokens_BT: Tensor, batches: Sequence[Tensor], loss_of: LossOf) -> Loss:
        self.batches = len(batches)
        if self.active:
            self.improve_encoder(tokens_BT, batches, loss_of)
        loss = loss_of(tokens_BT)
        self.updates.step(loss.mean, "decoder" if self.active else "joint")
        return loss

    def improve_encoder(
        self, tokens_BT: Tensor, batches: Sequence[Tensor], loss_of: LossOf
    ) -> None:
        before, total, words = 1e4, 0.0, 0
        for inner_step in range(1, self.config.inner):
            loss = loss_of(tokens_BT)
            self.updates.step(loss.mean, "encoder")
            total = total + loss.mean.detach() * len(tokens_BT)
            words += len(tokens_BT) * (tokens_BT.shape[1] - 1)
            if inner_step % self.config.window == 0:
                now = float(total) / words
                if before - now < 0:
                    return
                before, total, words = now, 0.0, 0
            tokens_BT = batches[self.draw(len(batches))]

    def draw(self, count: int) -> int:
        """A batch's place, uniform over batches, with replacement."""
        return int(torch.randint(count, (), generator=self.generator))

    def check(self, information: float) -> None:
        """Go on only while the mutual information of codes and validation sentences does
        not fall, and within the bound on the aggressive phase's epochs."""
        self.checks += 1
        bound = self.config.max_epochs
        spent = bound is not None and self.checks >= bound * self.checks_per_epoch
        self.active = self.active and information >= self.information and not spent
        self.information = information

    def measurements(self) -> dict[str, float]:
        return {"aggressive/on": float(self.active)}

    def state_dict(self) -> dict[str, float]:
        return {"active": self.active, "information": self.information, "checks": self.checks}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.active, self.checks = bool(state["active"]), int(state["checks"])
        self.information = state["information"]


SCHEMES = {"adversarial": Adversarial, "aggressive": Aggressive, "joint": Joint}
