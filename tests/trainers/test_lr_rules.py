from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from trainers.lr_rules import Milestones, Plateau, Verdict

PLATEAU = SimpleNamespace(lr=1.0, decay=0.5, patience=2, first_decay_epoch=15, decays=5)


def he_transcribed(losses: list[float]) -> list[tuple[float, bool, bool]]:
    """The rule as it stands in He et al.'s script, with plain variables: (rate after the
    epoch, best weights reloaded, stopped) per epoch."""
    lr, bad, ref, decays, told = 1.0, 0, 1e4, 0, []
    for epoch, val in enumerate(losses):
        reload = False
        if val > ref:
            bad += 1
            if bad >= 2 and epoch >= 15:
                ref, bad, reload = val, 0, True
                lr *= 0.5
                decays += 1
        else:
            bad, ref = 0, val
        told.append((lr, reload, decays == 5))
        if decays == 5:
            break
    return told


def followed(rule: Plateau, losses: list[float]) -> list[tuple[float, bool, bool]]:
    told = []
    for epoch, loss in enumerate(losses):
        verdict = rule.after(epoch, loss)
        told.append((verdict.lr, verdict.reload_best, verdict.stop))
        if verdict.stop:
            break
    return told


@pytest.mark.parametrize("seed", range(20))
def test_plateau_is_the_rule_of_he_et_al(seed: int) -> None:
    draw = random.Random(seed)
    losses = [400 - 20 * min(epoch, 12) / 12 + draw.gauss(0, 2) for epoch in range(60)]
    assert followed(Plateau(PLATEAU), losses) == he_transcribed(losses)


def test_losses_before_the_first_decay_epoch_are_counted() -> None:
    rising = [float(epoch) for epoch in range(40)]
    told = followed(Plateau(PLATEAU), rising)
    # Worse than epoch 0 ever since: the first decay at epoch 15 itself, then every second.
    assert [epoch for epoch, (_, reload, _) in enumerate(told) if reload] == [15, 17, 19, 21, 23]
    assert told[-1] == (0.5**5, True, True)


def test_losses_of_an_unsettled_objective_are_as_if_there_had_been_none() -> None:
    """Neither counted nor made the reference: the first settled loss is better than none."""
    rule = Plateau(SimpleNamespace(lr=1.0, decay=0.5, patience=2, first_decay_epoch=0, decays=5))
    for epoch, loss in enumerate([1.0, 5.0, 2.0, 9.0, 9.5, 9.9]):
        assert rule.after(epoch, loss, settled=False) == Verdict(lr=1.0)
    told = [rule.after(6 + n, loss) for n, loss in enumerate([7.0, 7.1, 7.2])]
    assert told == [Verdict(lr=1.0), Verdict(lr=1.0), Verdict(lr=0.5, reload_best=True)]


def test_plateau_goes_on_from_its_state() -> None:
    losses = [float(epoch % 7) for epoch in range(30)]
    whole, first = Plateau(PLATEAU), Plateau(PLATEAU)
    for epoch, loss in enumerate(losses[:17]):
        whole.after(epoch, loss)
        first.after(epoch, loss)
    second = Plateau(PLATEAU)
    second.load_state_dict(first.state_dict())
    for epoch, loss in enumerate(losses[17:], 17):
        assert second.after(epoch, loss) == whole.after(epoch, loss)


def test_milestones_are_shares_of_the_epochs_rounded_down() -> None:
    optim = SimpleNamespace(lr=0.008, decay=0.4, epochs=12, milestones=(0.6, 0.75, 0.9))
    rule = Milestones(optim)
    rates = [rule.after(epoch, 0.0).lr for epoch in range(12)]
    after = {epoch + 1 for epoch in range(1, 12) if rates[epoch] != rates[epoch - 1]}
    assert after == {7, 9, 10}
    assert rates[-1] == pytest.approx(0.008 * 0.4**3)


def test_a_milestone_is_read_in_decimals() -> None:
    optim = SimpleNamespace(lr=1.0, decay=0.5, epochs=100, milestones=(0.29,))
    rule = Milestones(optim)
    rates = [rule.after(epoch, 0.0).lr for epoch in range(100)]
    assert rates.index(0.5) + 1 == 29
