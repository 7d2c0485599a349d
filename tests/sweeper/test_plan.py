from __future__ import annotations

from dataclasses import replace

import pytest

from sweeper.plan import plan, state
from sweeper.record import Record
from sweeper.trial import TrainerRef, Trial


def new_code(trainer):
    return "new"


def no_code(trainer):
    """Not compared."""
    return None


def trial(seed: int, **labels: str) -> Trial:
    return Trial(
        trainer=TrainerRef(function="a:b"),
        config={"x": labels.get("x", "1")},
        seed=seed,
        labels={**labels, "seed": str(seed)},
    )


def record(of: Trial, state: str = "done", code: str = "new") -> Record:
    return Record(
        trial_id=of.id,
        evaluation_id=of.evaluation_id,
        state=state,
        provenance={"code_digest": code},
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "missing"),
        ("running", "running"),
        ("failed", "failed"),
        ("diverged", "diverged"),
        ("exceeded", "exceeded"),
        ("done", "done"),
    ],
)
def test_a_state_is_what_the_record_says(found: str | None, expected: str) -> None:
    assert state(record(trial(0), found) if found else None, "new") == expected


def test_a_result_of_other_code_is_stale_and_only_a_result() -> None:
    assert state(record(trial(0), "done", code="old"), "new") == "stale"
    assert state(record(trial(0), "failed", code="old"), "new") == "failed"
    assert state(record(trial(0), "done", code="old"), None) == "done"


def test_a_result_in_which_other_code_had_a_part_is_stale() -> None:
    def made_by(*codes: str) -> Record:
        return replace(record(trial(0)), provenance={"code_digest": "new", "code_digests": codes})

    assert state(made_by("new"), "new") == "done"
    assert state(made_by("new", "old"), "new") == "stale"


def test_first_seeds_come_before_second_seeds_and_a_shared_trial_comes_once() -> None:
    design = [trial(seed, x=x) for x in ("1", "2") for seed in (0, 1)]
    again = Trial(**{**fields(design[0]), "labels": {"x": "another name", "seed": "0"}})
    todo = plan([*design, again], {}, no_code).todo
    assert [(t.seed, t.config["x"]) for t in todo] == [(0, "1"), (0, "2"), (1, "1"), (1, "2")]


def test_what_ended_is_run_again_only_when_asked() -> None:
    one, two = trial(0), trial(1)
    records = {one.key: record(one, "failed"), two.key: record(two, "diverged")}
    assert plan([one, two], records, new_code).todo == ()
    assert plan([one, two], records, new_code, retry=["failed"]).todo == (one,)


def test_counts_name_every_state_and_tell_points_from_trials() -> None:
    one, two = trial(0), trial(1)
    said = plan([one, two, one], {one.key: record(one)}, new_code).as_json()
    assert said["counts"] == {
        "done": 1,
        "stale": 0,
        "running": 0,
        "unscored": 0,
        "missing": 1,
        "failed": 0,
        "diverged": 0,
        "exceeded": 0,
        "corrupt": 0,
        "total": 2,
        "points": 3,
        "trainings": 2,
    }
    assert said["trials"][1] == {
        "id": two.id,
        "labels": {"seed": "1"},
        "seed": 1,
        "state": "missing",
    }


def fields(of: Trial) -> dict:
    return {"trainer": of.trainer, "config": of.config, "seed": of.seed}
