"""Tables, claims and figures over designs in which an axis is absent at some points."""

from __future__ import annotations

import pytest

from sweeper import run
from sweeper.claims import judge
from sweeper.design import expand
from sweeper.errors import SpecError
from sweeper.record import Record
from sweeper.run import Place
from sweeper.spec import parse
from sweeper.tables import mixtures, tabulate

HEAD = """\
name: t
trainer: a.b:c
axes:
  pooling: [last, max]
  schedule: [none, cyclical]
  cycles: {values: [2, 4], when: schedule == 'cyclical'}
  seed: [0, 1]
metrics: {loss: {from: loss, format: ".0f"}}
profiles: {quick: {}}
"""  # the line after it is line 10


def worth(trial) -> float:
    """A loss that names its trial: 100 for max, 10 x cycles, the seed."""
    at = trial.labels
    return (
        100 * (at.get("pooling") == "max")
        + 10 * int(at.get("cycles", 0))
        + int(at["seed"])
        + 1000 * (trial.config.get("model") == "lm")
    )


def made(text: str):
    sweep = parse(HEAD + text, "s.yaml")
    trials = expand(sweep, None)
    records = {
        trial.key: Record(
            trial_id=trial.id,
            evaluation_id=trial.evaluation_id,
            state="done",
            result={"loss": worth(trial)},
        )
        for trial in trials
    }
    return sweep, trials, records


def cells(text: str) -> dict[str, list[str]]:
    sweep, trials, records = made(f"tables: {{t: {text}}}\n")
    table = tabulate(sweep.tables["t"], sweep, trials, records)
    return {row.label: [cell.text for cell in line] for row, line in table.lines()}


def test_a_pin_on_an_absent_axis_pins_nothing():
    found = cells(
        "{rows: pooling, columns: [schedule], where: {cycles: 4}, values: [loss], over: seed, "
        "cell: '{min}'}"
    )
    assert found == {"last": ["0", "40"], "max": ["100", "140"]}


def test_an_absent_axis_has_a_row_of_its_own():
    found = cells("{rows: cycles, columns: [pooling], values: [loss], over: [schedule, seed]}")
    assert found == {"2": ["20", "120"], "4": ["40", "140"], "–": ["0", "100"]}


def test_what_is_averaged_over_an_absent_axis():
    """Cyclical has two trials a seed, none has one."""
    found = cells(
        "{rows: schedule, columns: [pooling], values: [loss], over: [cycles, seed], "
        "cell: '{mean} of {n}'}"
    )
    assert found["none"] == ["0 of 2", "100 of 2"]
    assert found["cyclical"] == ["30 of 4", "130 of 4"]


def test_included_points_are_not_averaged_with_others():
    text = (
        "include: [{schedule: none, model: lm, seed: [0, 1]}]\n"
        "tables:\n  mixed: {rows: schedule, values: [loss], over: [pooling, cycles, seed]}\n"
        "  apart: {rows: pooling, columns: [schedule], values: [loss], over: [cycles, seed]}\n"
    )
    sweep, trials, records = made(text)
    (problem,) = mixtures(sweep, trials)
    assert str(problem) == (
        "s.yaml:12:3: table 'mixed' would average trials with and without 'pooling' at none: say "
        "the axis of the included point, or give 'pooling' another place in the table"
    )
    apart = tabulate(sweep.tables["apart"], sweep, trials, records)
    assert [row.label for row in apart.rows] == ["last", "max", "–"]
    assert [cell.text for cell in apart.cells[2]] == ["1000 (n=2)", "–"]


def test_a_mixture_is_found_before_anything_runs(tmp_path):
    text = HEAD.replace("a.b:c", "{command: [echo, hello]}") + (
        "include: [{schedule: none, seed: 7}]\n"
        "tables: {t: {rows: schedule, values: [loss], over: [pooling, cycles, seed]}}\n"
    )
    with pytest.raises(SpecError, match="would average trials with and without 'pooling'"):
        run.look(parse(text, "s.yaml"), Place(store=tmp_path))


def test_a_claim_is_not_about_levels_that_are_absent_where_it_is_made():
    """Where there are no cycles there is no cyclical schedule to claim something of."""
    sweep, trials, records = made(
        "claims: {c: {test: 'loss[max] > loss[last]', each: [schedule, cycles]},\n"
        "  d: {test: 'loss[cyclical, max] < 500', each: cycles}}\n"
    )
    found = {one.name: one for one in judge(sweep, trials, records).verdicts}
    assert [len(found[name].findings) for name in "cd"] == [3, 2]
    assert found["d"].status == "supported"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{kind: curves, y: [a/b], series: schedule, over: [pooling, cycles, seed]}", "figure"),
        ("{test: 'loss[none] < 5', pool: [pooling, cycles]}", "claim"),
    ],
)
def test_neither_figures_nor_claims_mix_included_points_with_others(text, kind):
    include = "include: [{schedule: none, model: lm, seed: [0, 1]}]\n"
    sweep, trials, _ = made(f"{include}{kind}s: {{x: {text}}}\n")
    (problem,) = mixtures(sweep, trials)
    assert f"{kind} 'x' would average trials with and without 'pooling' at none" in str(problem)
    plain, trials, _ = made(f"{kind}s: {{x: {text}}}\n")
    assert mixtures(plain, trials) == []


def test_included_trials_that_nothing_shows_are_told(tmp_path):
    text = HEAD.replace("a.b:c", "{command: [echo, hello]}") + (
        "include: [{schedule: none, model: lm, seed: [0, 1]}]\n"
        "tables: {t: {rows: schedule, where: {pooling: max}, values: [loss], "
        "over: [cycles, seed]}}\n"
    )
    sweep = parse(text, "s.yaml")
    place = Place(store=tmp_path)
    plan = run.look(sweep, place)
    assert [str(problem) for problem in run.remarks(sweep, plan, place)] == [
        "s.yaml:10:11: 2 included trials are in no table, figure or claim (none 0, none 1 ...)"
    ]
