"""Successive halving: against a hand calculation, and a plain loop that keeps lists."""

from __future__ import annotations

import json
import math
import pickle
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sweeper.halving import Halving
from sweeper.spec import expressions
from sweeper.spec.search_types import BASELINE, CONFIGURATION
from sweeper.spec.sweep import Condition
from sweeper.track.folder import Folder
from sweeper.trial import Shared, TrainerRef, Trial

ROOT = Path(__file__).parents[2]
STUDY = "0f" * 8


def halving(root: Path, **changes: object) -> Halving:
    given = {
        "root": root,
        "studies": {(("dataset", "A"),): STUDY},
        "source": "valid/loss",
        "by": "cost/updates",
        "goal": "min",
        "grace": 0.2,
        "factor": 3,
    }
    return Halving(**{**given, **changes})


@pytest.fixture
def rule(tmp_path: Path) -> Halving:
    """Rungs at 20, 60 and 180 updates of whole trials of 100."""
    found = halving(tmp_path)
    found.place_rungs(STUDY, 100.0)
    return found


def trial(name: str, **labels: str) -> Trial:
    return Trial(
        trainer=TrainerRef(function="a.b:c"),
        config=Shared({"name": name}),
        evaluation=Shared({}),
        seed=0,
        labels={"dataset": "A", CONFIGURATION: name, **labels},
    )


def at(updates: float, loss: float, progress: float | None = None) -> dict[str, float]:
    share = {} if progress is None else {"progress": progress}
    return {"cost/updates": updates, "valid/loss": loss, **share}


# ---- by hand


def test_the_best_third_of_those_that_came_so_far_go_on(rule: Halving):
    """Rounded up: of 1 to 3 trials one, of 4 to 6 two, of 7 to 9 three."""
    came = [
        (5.0, True),  # the first
        (6.0, False),  # 2nd of 2
        (4.0, True),  # 1st of 3
        (4.5, True),  # 2nd of 4
        (4.2, True),  # 2nd of 5
        (4.3, False),  # 3rd of 6
        (4.2, True),  # as good as the 2nd of 7
        (9.0, False),
        (4.25, False),  # 4th of 9
    ]
    for number, (loss, goes_on) in enumerate(came):
        said = rule.behind(trial(str(number)), at(20, loss))
        assert (said is None) == goes_on, (number, said)


def test_what_is_said_of_one_that_is_behind(rule: Halving):
    rule.behind(trial("one"), at(25, 5.0))
    said = rule.behind(trial("two"), at(25, 6.0))
    assert said == "behind at 20 updates: valid/loss 6 is number 2 of 2"


@pytest.mark.parametrize(
    ("grace", "factor", "whole", "rungs"),
    [
        (0.2, 3, 100, [20, 60, 180]),
        (0.25, 2, 80, [20, 40, 80, 160]),
        (0.07, 10, 100, [7, 70, 700]),  # 0.07 x 100 is 7.000000000000001
    ],
)
def test_rungs_are_at_the_share_of_a_whole_trial_and_its_multiples(
    tmp_path: Path, grace: float, factor: int, whole: float, rungs: list[float]
):
    rule = halving(tmp_path, grace=grace, factor=factor)
    rule.place_rungs(STUDY, whole)
    for number, place in enumerate(rungs):
        one, before = trial(f"at {place}"), trial(f"before {place}")
        rule.behind(before, at(place - 0.5, 1.0))
        rule.behind(one, at(place, 1.0))
        there = {path.stem for path in (tmp_path / STUDY).glob(f"rung-{number}/*.json")}
        assert one.id in there
        assert before.id not in there
        assert not (tmp_path / STUDY / f"rung-{number + 1}" / f"{one.id}.json").exists()


def test_before_anybody_knows_what_a_whole_trial_takes_nothing_ends(tmp_path: Path):
    rule = halving(tmp_path)
    for loss in (1.0, 2.0, 3.0):
        assert rule.behind(trial(str(loss)), at(1000, loss)) is None
    rule.place_rungs(STUDY, 0.0)  # of a trainer that says nothing of its cost
    assert rule.behind(trial("0"), at(1000, 9.0)) is None
    rule.place_rungs(STUDY, 100.0)
    rule.place_rungs(STUDY, 1e9)  # The first to say so stands.
    assert rule.behind(trial("1.0"), at(20, 1.0)) is None
    assert rule.behind(trial("2.0"), at(20, 2.0)) is not None


def test_the_files_own_configuration_and_trials_of_no_study_are_let_be(rule: Halving):
    rule.behind(trial("good"), at(20, 1.0))
    assert rule.behind(trial(BASELINE), at(20, 9.0)) is None
    assert rule.behind(trial("bad", dataset="B"), at(20, 9.0)) is None
    assert rule.behind(trial("bad"), at(20, 9.0)) is not None


def test_what_does_not_say_what_is_compared_is_let_be(rule: Halving):
    rule.behind(trial("good"), at(20, 1.0))
    assert rule.behind(trial("silent"), {"cost/updates": 20.0, "train/loss": 9.0}) is None
    assert rule.behind(trial("costless"), {"valid/loss": 9.0}) is None
    assert rule.behind(trial("bad"), at(20, 9.0)) is not None


def test_more_may_be_better(tmp_path: Path):
    rule = halving(tmp_path, goal="max")
    rule.place_rungs(STUDY, 100.0)
    assert rule.behind(trial("one"), at(20, 0.5)) is None
    assert rule.behind(trial("two"), at(20, 0.4)) is not None
    assert rule.behind(trial("three"), at(20, 0.6)) is None


# ---- grace


def test_nobody_is_judged_before_the_share_of_its_own_training(rule: Halving):
    """One that anneals three times as long is at 20 updates where others are at 7."""
    rule.behind(trial("quick"), at(20, 1.0, 0.2))
    slow = trial("slow")
    assert rule.behind(slow, at(20, 5.0, 0.05)) is None
    assert rule.behind(slow, at(40, 4.0, 0.1)) is None
    # At its grace it is compared by what it had at the rung, as the others are.
    assert "valid/loss 5 is number 2 of 2" in rule.behind(slow, at(80, 0.1, 0.2))


def test_one_in_its_grace_counts_for_the_others(rule: Halving):
    assert rule.behind(trial("slow"), at(20, 1.0, 0.05)) is None
    assert rule.behind(trial("quick"), at(20, 2.0, 0.2)) is not None


def test_once_training_is_over_nobody_is_judged_and_it_counts(rule: Halving):
    rule.behind(trial("one"), at(20, 1.0, 0.2))
    rule.behind(trial("one"), at(60, 1.0, 0.6))
    late = trial("late")
    assert rule.behind(late, at(61, 0.9, 1.0)) is None
    assert rule.behind(late, at(61, 5.0)) is None  # its result, which says no progress
    assert rule.behind(trial("other"), at(20, 0.8, 0.2)) is None
    assert rule.behind(trial("other"), at(60, 0.95, 0.6)) is not None


# ---- like with like


def test_one_in_which_something_has_still_to_settle_is_not_judged_nor_compared_with(
    tmp_path: Path,
):
    """With a KL weight that still grows a loss is lower, and says nothing."""
    rule = halving(tmp_path / "searches", settled="kl/weight")
    rule.place_rungs(STUDY, 100.0)
    folder = Folder(tmp_path)

    def behind(name: str, loss: float, *weights: float) -> bool:
        """Measured every 10 updates, as often as there are weights."""
        one, attempt = trial(name), folder.start(trial(name))
        for number, weight in enumerate(weights, 1):
            values = {**at(10 * number, loss), "kl/weight": weight}
            attempt.measure(10 * number, values)
        said = rule.behind(one, values)
        attempt.abandon("seen")
        return said is not None

    assert not behind("warms up", 1.0, 0.1, 0.2)
    assert not behind("settled", 5.0, 1.0, 1.0)  # the first that is
    assert behind("settled too", 6.0, 0.5, 0.5 + 1e-12)
    assert not behind("warms up too", 9.0, 0.9, 1.0)
    assert not behind("is there at once", 9.0, 1.0, 1.0 + 1e-3)
    assert not behind("better", 4.0, 0.2, 0.2)


def test_what_breaks_a_constraint_there_comes_last(tmp_path: Path):
    """A collapsed posterior has the lower loss at first."""
    constraint = Condition(test=expressions.condition("valid/kl >= 0.5"))
    rule = halving(tmp_path, constraints=(constraint,))
    rule.place_rungs(STUDY, 100.0)

    def said(name: str, loss: float, kl: float) -> str | None:
        return rule.behind(trial(name), {**at(20, loss), "valid/kl": kl})

    assert said("collapsed", 1.0, 0.0) is None  # the first
    assert said("feasible", 9.0, 0.5) is None
    assert said("collapsed too", 0.5, 0.4) == (
        "behind at 20 updates: valid/loss 0.5, and breaks a constraint there, is number 2 of 3"
    )
    assert said("feasible too", 8.0, 3.0) is None
    assert said("less collapsed", 0.4, 0.49) is not None  # 3rd of 5, of which two go on
    assert said("feasible at last", 8.5, 3.0) is None  # 2nd of 6


def test_where_cost_is_an_objective_one_is_compared_with_what_costs_no_more(tmp_path: Path):
    """Halfway through 40 updates, a fifth of the way through 100."""
    rule = halving(tmp_path, cheap_first=True)
    rule.place_rungs(STUDY, 100.0)
    assert rule.behind(trial("long"), at(20, 1.0, 0.2)) is None
    assert rule.behind(trial("short"), at(20, 5.0, 0.5)) is None  # and will cost 40
    assert rule.behind(trial("short too"), at(20, 6.0, 0.5)) is not None
    assert "number 4 of 4" in rule.behind(trial("longer"), at(20, 7.0, 0.2))
    assert halving(tmp_path).behind(trial("any"), at(20, 4.0, 0.5)) is None  # 2nd of 5


# ---- rungs


def test_several_rungs_at_once_each_judges(tmp_path: Path):
    """Measured every 30 updates; one that is measured at 100 only has passed both."""
    rule = halving(tmp_path)
    rule.place_rungs(STUDY, 100.0)
    good = trial("good")
    assert rule.behind(good, at(30, 3.0)) is None
    assert rule.behind(good, at(60, 1.0)) is None
    rare = trial("rare")
    said = rule.behind(rare, at(100, 2.0))
    assert said == "behind at 60 updates: valid/loss 2 is number 2 of 2"
    # At the first rung it was the better one, and that is known there.
    assert rule.behind(trial("next"), at(30, 2.5)) is not None


def test_one_is_judged_once_at_each_rung(rule: Halving):
    """It leads at 60 updates: those that come to 20 later do not end it."""
    leader = trial("leader")
    assert rule.behind(leader, at(20, 9.0)) is None
    assert rule.behind(leader, at(60, 1.0)) is None
    for number in range(3):
        rule.behind(trial(f"late {number}"), at(20, 2.0))
    assert rule.behind(leader, at(70, 0.9)) is None
    assert rule.behind(leader, at(70, 9.0)) is None
    assert rule.behind(leader, at(180, 0.8)) is None


def test_what_it_had_when_it_came_there_stays(rule: Halving):
    one = trial("one")
    rule.behind(one, at(20, 5.0))
    rule.behind(one, at(40, 1.0))
    assert rule.behind(trial("two"), at(20, 3.0)) is None  # 3 < 5


@pytest.mark.parametrize("content", [b"", b'{"value":0.0,"at":20', b'{"value":0.0}', b"[]"])
def test_a_torn_rung_file_is_as_if_nobody_had_been_there(rule: Halving, content: bytes):
    rung = rule.root / STUDY / "rung-0"
    rule.behind(trial("one"), at(20, 5.0))
    rule.behind(trial("two"), at(20, 6.0))
    for name in ("torn", "three"):
        (rung / f"{trial(name).id}.json").write_bytes(content)
    (rung / f".{trial('four').id}.json.123.abcd").write_bytes(content)  # a draft
    said = rule.behind(trial("three"), at(20, 7.0))
    assert said.endswith("valid/loss 7 is number 3 of 3")
    (rule.root / STUDY / "whole.json").write_bytes(content)
    assert rule.behind(trial("four"), at(20, 9.0)) is None
    rule.place_rungs(STUDY, 100.0)
    assert rule.behind(trial("four"), at(20, 9.0)) is not None


# ---- against a plain loop

Course = Sequence[tuple[float, float]]  # (updates, loss) at each measurement
Event = tuple[str, dict[str, float]]


def courses(seed: int, count: int = 40) -> dict[str, Course]:
    draw = random.Random(seed)
    found = {}
    for number in range(count):
        stride, last = draw.choice([5, 10, 20, 40]), draw.choice([80, 120, 240])
        start, end = draw.randint(2, 9), draw.randint(0, 4)
        updates = range(stride, last + 1, stride)
        found[str(number)] = [(float(n), start + (end - start) * n / last) for n in updates]
    return found


def interleaved(courses: Mapping[str, Course], seed: int, parallel: int) -> list[Event]:
    """Measurements of some at a time, in any order among them."""
    draw = random.Random(seed)
    waiting, open_, found = list(courses), {}, []
    while waiting or open_:
        while waiting and len(open_) < parallel:
            name = waiting.pop(0)
            open_[name] = list(courses[name])
        name = draw.choice(list(open_))
        updates, loss = open_[name].pop(0)
        found.append((name, at(updates, loss, updates / courses[name][-1][0])))
        if not open_[name]:
            del open_[name]
    return found


def plain(events: Sequence[Event], grace: float, factor: int, whole: float) -> list[str]:
    """Who is ended, in order: rungs are lists, and a trial has a set of those it was judged at."""
    rungs: dict[int, dict[str, float]] = {}
    judged: dict[str, set[int]] = {}
    ended: list[str] = []
    for name, values in events:
        if name in ended:
            continue
        places = [n for n in range(20) if grace * whole * factor**n <= values["cost/updates"]]
        for number in places:
            rung = rungs.setdefault(number, {})
            rung.setdefault(name, values["valid/loss"])
            if number in judged.setdefault(name, set()) or values["progress"] < grace:
                continue
            kept = sorted(rung.values())[: math.ceil(len(rung) / factor)]
            if values["progress"] < 1 and rung[name] > kept[-1]:
                ended.append(name)
                break
            judged[name].add(number)
    return ended


@pytest.mark.parametrize("seed", range(6))
def test_it_ends_those_that_a_plain_loop_ends(tmp_path: Path, seed: int):
    grace, factor = [(0.2, 3), (0.25, 2), (0.1, 4)][seed % 3]
    rule = halving(tmp_path, grace=grace, factor=factor)
    rule.place_rungs(STUDY, 100.0)
    events = interleaved(courses(seed), seed, parallel=1 + 3 * (seed % 2))
    ended: list[str] = []
    for name, values in events:
        if name not in ended:
            # Each measurement may be looked at by another process.
            rule = pickle.loads(pickle.dumps(rule))
            if rule.behind(trial(name), values) is not None:
                ended.append(name)
    expected = plain(events, grace, factor, 100.0)
    assert ended == expected
    assert 5 < len(ended) < 40


def test_another_process_decides_alike(rule: Halving):
    for number, loss in enumerate((5.0, 6.0, 4.0)):
        rule.behind(trial(str(number)), at(20, loss))
    code = (
        "import sys, pickle\n"
        "rule, asked = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
        "import json; print(json.dumps([rule.behind(*one) for one in asked]))"
    )
    asked = [(trial("new"), at(20, 5.5)), (trial("0"), at(60, 9.0)), (trial("1"), at(20, 6.0))]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((rule, asked)).hex(),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    there = json.loads(done.stdout)
    assert there == [
        "behind at 20 updates: valid/loss 5.5 is number 3 of 4",
        None,  # judged there before, and the first at 60
        "behind at 20 updates: valid/loss 6 is number 2 of 2",  # as it was told before
    ]
    assert [rule.behind(*one) for one in asked] == there
    assert [rule.verdict(one) for one, _ in asked] == there
    assert rule.verdict(trial("2")) is None
    assert rule.verdict(trial(BASELINE)) is None
