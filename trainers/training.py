"""A configuration in; a model in training out: all that moves while it learns, an epoch at a
time, and what a checkpoint holds of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainers.config import TextVaeConfig
from trainers.kl_schedules import KL_SCHEDULES
from trainers.lr_rules import LR_RULES
from trainers.metrics import base_means, batch_information, exact_nll, posterior_summary
from trainers.models import LanguageModel, build_model, initialise
from trainers.objectives import OBJECTIVES, likelihood
from trainers.parts import find
from trainers.schemes import SCHEMES
from trainers.streams import Streams, seed_of
from trainers.text import Text, load_text, same_length_batches
from trainers.updates import Updates

Batch = tuple[Tensor, Tensor]  # Tokens [B, T]; the sentences' places in their split [B].

# A loss that is not finite is looked for after so many outer steps. On a GPU to look is to
# wait, so that there the update at which it happened is known to so many steps only.
STEPS_BETWEEN_LOOKS = {"cpu": 1, "cuda": 25}

# Sentences of the training split to which the centres of a flow's penalty are fitted.
SENTENCES_FOR_CENTRES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A corpus as batches of sentences of one length on the device. Their composition is
    fixed; training permutes their order."""

    text: Text
    train: list[Tensor]
    valid: list[Batch]
    test: list[Batch]


def load_data(config: TextVaeConfig, run: Any) -> Data:
    text = load_text(config, run.data)
    train, valid, test = (
        [
            (torch.as_tensor(tokens, device=run.device), torch.as_tensor(places))
            for tokens, places in same_length_batches(sentences, config.optim.batch)
        ]
        for sentences in (text.train, text.valid, text.test)
    )
    return Data(text=text, train=[tokens for tokens, _ in train], valid=valid, test=test)


class Training:
    """All that moves while a model is trained, which is what a checkpoint holds."""

    def __init__(self, config: TextVaeConfig, run: Any) -> None:
        self.config, self.data = config, load_data(config, run)
        self.device = torch.device(run.device).type
        self.model = build_model(config, len(self.data.text.vocabulary))
        initialise(self.model, config.init, run.seed)
        self.model.to(run.device)
        self.exact = isinstance(self.model, LanguageModel)
        self.streams = Streams(run.seed, run.device)
        optim = config.optim
        self.updates = Updates(
            self.model,
            algorithm=optim.algorithm,
            lr=optim.lr,
            clip=optim.clip,
            critic_lr=config.critic.lr,
        )
        self.scheme = find(SCHEMES, config.scheme)(config, self.updates, self.streams)
        self.rule = find(LR_RULES, optim.rule)(optim)
        self.schedule = find(KL_SCHEDULES, config.kl.schedule).configured(
            config.kl, len(self.data.text.train) / optim.batch
        )
        self.objective = partial(
            likelihood if self.exact else find(OBJECTIVES, config.objective),
            self.model,
            streams=self.streams,
            config=config,
        )
        self.epoch, self.finished = 0, False
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0, "valid": {}, "weights": None}

    def epoch_of_updates(self) -> dict[str, float]:
        """One pass over the training batches, then validation and the learning rate's rule."""
        lr, loss = self.rule.lr, self.pass_over_batches()
        self.epoch += 1
        done = self.epoch / self.config.optim.epochs  # A rule may end training before that.
        measurement = self.cost() | {"progress": done, "train/loss": loss, "optim/lr": lr}
        if not math.isfinite(loss):
            return measurement
        if not self.exact:
            self.fit_centres()
            measurement["kl/weight"] = self.schedule.weight(self.updates.outer_steps - 1)
        valid = self.validate()
        if math.isfinite(self.loss(valid)):
            self.select(valid)
        return measurement | valid | self.scheme.measurements()

    def pass_over_batches(self) -> float:
        """The mean objective per sentence, nats, at the outer steps; not finite as soon as
        it is seen not to be."""
        batches = self.data.train
        order = torch.randperm(len(batches), generator=self.streams.apart("order", self.epoch))
        total = torch.zeros((), dtype=torch.float64, device=batches[0].device)
        looks = STEPS_BETWEEN_LOOKS.get(self.device, 1)
        self.model.train()
        for step, place in enumerate(order.tolist(), 1):
            weight = self.schedule.weight(self.updates.outer_steps)
            loss_of = partial(self.objective, weight=weight)
            loss = self.scheme.step(batches[place], batches, loss_of)
            total += loss.mean.detach() * len(batches[place])
            due = self.check_is_due(step)
            if (due or step % looks == 0) and not math.isfinite(total):
                return math.nan
            if due:
                self.scheme.check(self.information(step))
        return float(total) / len(self.data.text.train)

    def check_is_due(self, step: int) -> bool:
        """True `checks_per_epoch` times an epoch, evenly, the last at its end."""
        checks, steps = self.scheme.checks_per_epoch, len(self.data.train)
        return step * checks // steps > (step - 1) * checks // steps

    def information(self, step: int) -> float:
        generator = self.streams.apart("information", self.epoch, step)
        return batch_information(self.model, self.data.valid, generator)

    def fit_centres(self) -> None:
        """The centres of the codes, where the posterior wants to know them."""
        head = self.model.posterior
        if not getattr(head, "wants_centres", False):
            return
        batches = self.data.train
        every = max(1, len(batches) * self.config.optim.batch // SENTENCES_FOR_CENTRES)
        means_NZ = base_means(self.model, batches[::every])
        head.fit_centres(means_NZ, seed_of(self.streams.seed, "centres", self.epoch))

    def validate(self) -> dict[str, float]:
        """What the model is worth on the validation split, at a KL weight of 1."""
        if self.exact:
            return {"valid/nll_exact": float(exact_nll(self.model, self.data.valid).mean())}
        generator = self.streams.apart("evaluation", self.epoch)
        summary = posterior_summary(self.model, self.data.valid, generator)
        return defined({f"valid/{name}": value for name, value in summary.items()})

    def select(self, valid: dict[str, float]) -> None:
        """Keep the weights if they are the best so far (also while the KL term warms up),
        and let the rule set the learning rate, go back to the best, or stop."""
        loss = self.loss(valid)
        if loss < self.best["loss"]:
            weights = {name: it.clone() for name, it in self.model.state_dict().items()}
            self.best = {"loss": loss, "epoch": self.epoch, "valid": valid, "weights": weights}
        settled = self.updates.outer_steps >= getattr(self.schedule, "settled_after", 0)
        verdict = self.rule.after(self.epoch - 1, loss, settled=settled)
        if verdict.reload_best:
            self.model.load_state_dict(self.best["weights"])
            self.updates.renew(verdict.lr)
        self.updates.set_lr(verdict.lr)
        self.finished = verdict.stop or self.epoch == self.config.optim.epochs

    def loss(self, valid: dict[str, float]) -> float:
        """What weights are chosen by: the exact NLL, or the bound with one code a sentence."""
        return valid["valid/nll_exact" if self.exact else "valid/nelbo"]

    def cost(self) -> dict[str, float]:
        return self.updates.cost() | {"cost/epochs": float(self.epoch)}

    def result(self) -> dict[str, float]:
        """The cost, and the validation of the best weights, which the model now has."""
        self.model.load_state_dict(self.best["weights"])
        return self.cost() | {"best/epoch": float(self.best["epoch"])} | self.best["valid"]

    def state_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in STATEFUL}
        rest = {"epoch": self.epoch, "finished": self.finished, "best": self.best}
        return parts | rest | {"device": self.device}

    def takes(self, state: dict[str, Any]) -> bool:
        """Whether training can go on from `state`. The random streams of one kind of device
        cannot go on on another; a training that has finished needs none."""
        return state["finished"] or state["device"] == self.device

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert self.takes(state), state["device"]
        for name in STATEFUL:
            if name != "streams" or state["device"] == self.device:
                getattr(self, name).load_state_dict(state[name])
        self.epoch, self.finished, self.best = state["epoch"], state["finished"], state["best"]


STATEFUL = ("model", "updates", "streams", "scheme", "rule")


def defined(measurement: dict[str, float]) -> dict[str, float]:
    """Without what is not a number because a split is too small for it: a cosine of no pair,
    what varies over one sentence. All else stays whatever it is."""
    small = ("/au", "/cosine", "/cosine_batch", "_se", "_floor_t")
    return {
        name: value
        for name, value in measurement.items()
        if not (math.isnan(value) and name.endswith(small))
    }
