"""Points of a design that came to one trial: that it is said, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.design import expand
from sweeper.merges import Merge, merges
from sweeper.spec import parse

HEAD = """\
name: t
trainer: {function: "toy_trainers:keeps", config: toy_config}
profiles: {quick: {}}
metrics: {loss: {from: loss}}
"""


@pytest.fixture(autouse=True)
def _toys_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def found(text: str, *overrides: str) -> tuple[Merge, ...]:
    sweep = parse(HEAD + text, "s.yaml", overrides=overrides)
    return merges(sweep, expand(sweep, None))


LM = """\
axes:
  model: {VAE: {model: plain}, LM: {model: lm}}
  pooling: [last, avg, max]
  seed: [0, 1]
"""


def test_points_that_are_one_trial_are_said_once_for_all_seeds() -> None:
    (one,) = found(LM)
    assert one == Merge(
        at={"model": "LM"},
        points=({"pooling": "last"}, {"pooling": "avg"}, {"pooling": "max"}),
        why="pooling changes nothing here",
    )
    assert str(one) == (
        "one trial: model=LM pooling=last, pooling=avg, pooling=max (pooling changes nothing here)"
    )


def test_nothing_is_said_of_a_design_without_them() -> None:
    assert found("axes: {pooling: [last, max], seed: [0, 1]}\n") == ()


def test_what_holds_at_some_levels_of_an_axis_names_them() -> None:
    """At lr low and mid, not at high, whose pooling is written last by a later axis."""
    text = LM + "  lr: {low: {lr: 1}, mid: {lr: 2}, high: {lr: 3, model: plain, override: true}}\n"
    text = text.replace(
        "high: {lr: 3, model: plain, override: true}",
        ("high: {set: {lr: 3, model: plain}, override: true}"),
    )
    said = [str(one) for one in found(text)]
    poolings = "pooling=last, pooling=avg, pooling=max (pooling changes nothing here)"
    assert f"one trial: model=LM lr=low {poolings}" in said
    assert f"one trial: model=LM lr=mid {poolings}" in said
    # Under `high` every model is plain: VAE and LM are one, at each pooling and seed.
    assert "one trial: lr=high model=VAE, model=LM (model is plain in all)" in said
    assert len(said) == 3


def test_a_default_that_one_level_writes_is_no_difference() -> None:
    """10 and 10.0 are one number; the first point's is shown."""
    (one,) = found("axes: {kl: {Plain: {}, Same: {kl.epochs: 10.0}, Long: {kl.epochs: 20}}}\n")
    assert one.points == ({"kl": "Plain"}, {"kl": "Same"})
    assert one.why == "kl.epochs is 10 in all"


def test_levels_that_write_the_same() -> None:
    (one,) = found("axes: {kl: {One: {}, Two: {}}}\n")
    assert str(one) == "one trial: kl=One, kl=Two (they write the same)"


def test_the_command_line_has_the_last_word() -> None:
    (one,) = found("axes: {pooling: [last, max], lr: [1, 2]}\n", "pooling=avg")
    assert str(one) == ("one trial: pooling=last, pooling=max (--set pooling=avg holds for all)")


def test_a_table_with_a_row_for_each_is_named() -> None:
    tables = """\
tables:
  rows: {rows: pooling, columns: [model], values: [loss], over: seed}
  some: {rows: {axis: pooling, only: [max]}, columns: [model], values: [loss], over: seed}
  else: {rows: pooling, where: {model: VAE}, values: [loss], over: seed}
  mean: {rows: model, values: [loss], over: [pooling, seed]}
"""
    (one,) = found(LM + tables)
    assert one.tables == ("rows",)
    assert str(one).endswith("(pooling changes nothing here); shown apart in rows")
    assert one.as_json() == {
        "at": {"model": "LM"},
        "points": [{"pooling": "last"}, {"pooling": "avg"}, {"pooling": "max"}],
        "why": "pooling changes nothing here",
        "tables": ["rows"],
    }


def test_an_evaluation_of_its_own_is_a_point_of_its_own() -> None:
    assert found("axes: {samples: {S1: {evaluate.samples: 1}, S5: {evaluate.samples: 5}}}\n") == ()
