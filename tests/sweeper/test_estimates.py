"""What is left will cost what the nearest thing recorded says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sweeper.budget import Spent
from sweeper.cli import costs
from sweeper.estimates import (
    MOST_NEAREST,
    Configuration,
    Recorded,
    Took,
    configuration_of,
    estimate,
    nearest,
    probes,
)
from sweeper.plan import Plan, plan
from sweeper.record import Record
from sweeper.track import journal
from sweeper.track.folder import Folder
from sweeper.track.sealed import seal
from sweeper.trial import TrainerRef, Trial

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]


@pytest.fixture
def store(tmp_path):
    return Folder(tmp_path / "runs")


def trial(seed: int = 0, trainer: str = "a:b", **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=trainer), config=config, seed=seed)


def checkpoint(store: Folder, of: Trial) -> None:
    """What a trainer leaves that goes on where it stopped."""
    folder = store.path(of.id) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "update").write_text("1")


def took(
    store: Folder,
    of: Trial,
    updates: float,
    seconds: float,
    *,
    state: str = "done",
    progress: float | None = None,
    **peaks: int,
) -> None:
    """The folder that a trial of one attempt leaves: with `state` "running", one at it."""
    folder = store.path(of.id)
    folder.mkdir(parents=True)
    what = {"id": of.id, "trainer": of.trainer.identity, "config": of.config, "seed": of.seed}
    what |= {"data_digest": of.data_digest}
    (folder / "trial.json").write_text(json.dumps(what))
    told = {} if progress is None else {"progress": progress}
    values = {"cost/updates": updates, **told}
    entries: list[dict[str, Any]] = [
        {"kind": "start", "attempt": 1, "gpus": 0},
        {"kind": "measure", "attempt": 1, "cost": updates, "seconds": seconds, "values": values},
        {"kind": "end", "attempt": 1, "seconds": seconds, "state": state, **peaks},
    ]
    lines = entries[:2] if state == "running" else entries
    (folder / "journal.jsonl").write_bytes(b"".join(seal(line) + b"\n" for line in lines))


def planned(*trials: Trial, trained: Iterable[str] = ()) -> Plan:
    return plan(trials, {}, lambda trainer: None, trained=trained)


def test_an_empty_store_knows_nothing(store):
    todo = [trial(seed, x=x) for x in (1, 2) for seed in (0, 1)]
    found = estimate(planned(*todo), store, slots=2)
    assert (found.updates, found.seconds, found.wall_seconds, found.by) == (0, 0, 0, {})
    assert {t.id for t in found.unknown} == {t.id for t in todo}
    assert costs.cost(found) == "4 trials unknown: --probe runs a piece of them"


def test_other_seeds_say_it_best_after_the_trial_itself(store):
    took(store, trial(0, x=1), 100, 40.0, peak_memory_bytes=5)
    took(store, trial(1, x=1), 300, 80.0, peak_memory_bytes=7)
    # A quarter of it took 50 updates and 30 s: three times that is left.
    took(store, trial(2, x=1), 50, 30.0, state="interrupted", progress=0.25, peak_memory_bytes=9)
    checkpoint(store, trial(2, x=1))
    found = estimate(planned(*(trial(seed, x=1) for seed in (2, 3, 4))), store, gpus=0.5, slots=2)
    assert found.by == {"continued": 1, "again": 0, "other seeds": 2, "near": 0}
    assert found.updates == pytest.approx(150 + 2 * 200)
    assert found.seconds == pytest.approx(90 + 2 * 60)
    assert found.gpu_hours == pytest.approx(210 * 0.5 / 3600)
    assert found.wall_seconds == pytest.approx(210 / 2)
    assert found.peak_memory_bytes == 9
    assert found.unknown == found.unprobed == ()
    said = "about 550 updates, 105 s on 2 slots, 0.029 GPU-hours, peak 9e-09 GB"
    assert costs.cost(found) == f"{said} (1 trial continued, 2 as other seeds)"


def test_a_piece_that_told_its_share_stands_for_its_configuration_until_one_is_done(store):
    took(store, trial(0, x=1), 50, 30.0, state="running", progress=0.25)
    found = estimate(planned(trial(1, x=1)), store)
    assert (found.updates, found.seconds, found.by["other seeds"]) == (200, 120, 1)
    took(store, trial(2, x=1), 90, 20.0)
    found = estimate(planned(trial(1, x=1)), store)
    assert (found.updates, found.seconds) == (90, 20)


def test_what_a_trial_took_already_is_not_expected_again(store):
    took(store, trial(0, x=1), 100, 40.0)
    took(store, trial(1, x=1), 30, 10.0, state="interrupted")  # told no progress
    checkpoint(store, trial(1, x=1))
    found = estimate(planned(trial(1, x=1)), store)
    assert (found.updates, found.seconds, found.by["other seeds"]) == (70, 30, 1)


def test_what_is_made_afresh_is_expected_whole(store):
    of = trial(0, x=1)
    took(store, of, 100, 40.0)
    record = Record(trial_id=of.id, evaluation_id=of.evaluation_id, state="diverged")
    found = estimate(plan([of], {of.key: record}, lambda trainer: None, ["diverged"]), store)
    assert (found.updates, found.seconds) == (100, 40)


def test_the_wall_time_is_not_below_that_of_the_longest(store):
    took(store, trial(0, x=1), 10, 100.0)
    took(store, trial(0, x=2), 10, 20.0)
    found = estimate(planned(trial(1, x=1), trial(1, x=2)), store, slots=8)
    assert (found.seconds, found.wall_seconds) == (120, 100)


def test_the_nearest_configuration_is_that_which_differs_in_the_fewest_settings(store):
    took(store, trial(0, a="1", b="1", c="1", d="1"), 100, 10.0)
    took(store, trial(0, a="2", b="2", c="1", d="1"), 300, 30.0)
    took(store, trial(0, a="2", b="2", c="2", d="2"), 900, 90.0)
    # It differs in b from the first, in a from the second.
    near = trial(0, a="1", b="2", c="1", d="1")
    found = estimate(planned(near), store)
    assert (found.updates, found.seconds, found.by["near"]) == (200, 20, 1)
    assert (found.least.updates, found.most.updates) == (100, 300)
    assert found.sure == Spent()
    far = trial(0, a="5", b="5", c="5", d="5")
    without = trial(0, a="1", b="1")  # inert settings are left out: two differences
    found = estimate(planned(far, without), store)
    assert (found.updates, found.by["near"], found.unknown) == (100, 1, (far,))


def test_another_trainer_says_nothing(store):
    took(store, trial(0, trainer="a:b", x=1), 100, 10.0)
    assert len(estimate(planned(trial(0, trainer="a:c", x=1)), store).unprobed) == 1


def test_numbers_are_equal_however_they_are_written_and_truth_is_no_number():
    one = configuration_of("a:b", {"x": 1, "y": {"z": [1.0, 2]}})
    assert one == configuration_of("a:b", {"y": {"z": [1, 2.0]}, "x": 1.0})
    assert one != configuration_of("a:b", {"x": True, "y": {"z": [1, 2]}})


def test_trials_to_be_scored_train_nothing(store):
    of = trial(0, x=1)
    other = Trial(trainer=of.trainer, config=of.config, evaluation={"n": 2}, seed=0)
    took(store, of, 100, 10.0)
    checkpoint(store, of)
    found = estimate(planned(other, trained=[of.id]), store)
    assert (found.updates, found.to_score, found.unknown) == (0, 1, ())
    assert costs.cost(found) == "1 trial to score only, which is not counted"


def test_pieces_that_told_no_progress_give_a_rate_and_the_memory(store):
    took(store, trial(0, x=1), 50, 2.0, state="interrupted", peak_memory_bytes=2 * 10**9)
    far = {"x": 2, "y": 2, "z": 2, "w": 2}
    todo = [trial(seed, **config) for seed in (0, 1) for config in ({"x": 1}, far)]
    found = estimate(planned(*todo), store)
    assert found.by == {"continued": 0, "again": 0, "other seeds": 0, "near": 0}
    assert (found.updates_per_second, found.peak_memory_bytes) == (25, 2e9)
    assert [t.config["x"] for t in found.unprobed] == [2, 2]
    assert len(found.unknown) == 4
    assert costs.cost(found) == (
        "2 trials unknown: --probe runs a piece of them; 2 trials of unknown length, "
        "at about 25 updates/s, peak 2 GB: their trainer gives no `progress`"
    )


def test_nearest_is_what_plain_loops_find():
    draw = random.Random(0)

    def config() -> dict[str, Any]:
        keys = [key for key in "abcdefg" if draw.random() < 0.9]
        return {key: draw.choice(["one", "two", "x", True]) for key in keys}

    known = {
        configuration_of("a:b", config()): Took(draw.random(), draw.random()) for _ in range(80)
    }
    recorded = {c: Recorded(done=[one]) for c, one in known.items()}
    wanted = {configuration_of("a:b", config()) for _ in range(200)} - known.keys()
    found, compared = nearest(wanted, recorded), 0
    for configuration in wanted:
        apart = {c: differences(c, configuration) for c in known}
        least = min(apart.values())
        if least > 3:
            assert configuration not in found
            continue
        tied = [known[c] for c, n in apart.items() if n == least]
        guess, low, high, _ = found[configuration]
        if len(tied) <= MOST_NEAREST:
            assert guess.updates == pytest.approx(sum(one.updates for one in tied) / len(tied))
            assert low.updates == min(one.updates for one in tied)
            assert high.seconds == max(one.seconds for one in tied)
            compared += 1
        assert guess.memory is None
    assert compared > 20
    assert 0 < len(found) < len(wanted)


def differences(one: Configuration, other: Configuration) -> int:
    a, b = dict(one.settings), dict(other.settings)
    return sum((k in a, a.get(k)) != (k in b, b.get(k)) for k in a.keys() | b.keys())


def test_many_configurations_and_nothing_recorded_take_no_time(store):
    config = {f"k{i}": i for i in range(30)}
    design = planned(*(trial(0, **config, x=x) for x in range(20_000)))
    began = time.process_time()
    assert len(estimate(design, store).unknown) == 20_000
    assert time.process_time() - began < 1


# --- near configurations ------------------------------------------------------------------


def test_a_number_of_unknown_effect_gives_a_range_and_no_ground_to_refuse(store):
    took(store, trial(0, steps=4, rate=0.5), 4, 2.0)
    more, fewer = trial(0, steps=40, rate=0.5), trial(0, steps=1, rate=0.5)
    found = estimate(planned(more), store)
    assert (found.least.updates, found.most.updates, found.most.seconds) == (4, 40, 20)
    assert (found.differing, found.sure) == (("steps",), Spent())
    assert costs.cost(found) == (
        "about 4 to 40 updates, 2 s to 20 s on 1 slot, 0 GPU-hours "
        "(1 trial as near configurations, which differ in steps)"
    )
    found = estimate(planned(fewer), store)
    assert (found.least.updates, found.most.updates) == (1, 4)
    rate = estimate(planned(trial(0, steps=4, rate=5.5)), store)  # A rate is no amount of work.
    assert (rate.least.updates, rate.most.updates, rate.differing) == (4, 4, ("rate",))


def test_cost_goes_with_a_number_as_two_records_show(store):
    took(store, trial(0, steps=4, rate=0.5, model="a"), 4, 2.0)
    took(store, trial(0, steps=16, rate=0.5, model="a"), 16, 4.0)  # its time as the square root
    found = estimate(planned(trial(0, steps=64, rate=0.5, model="a")), store)
    assert (found.updates, found.seconds) == (pytest.approx(64), pytest.approx(8))
    assert (found.differing, found.by["near"]) == ((), 1)
    assert found.least.updates == pytest.approx(found.most.updates)
    # Of two that are nearest each says the same here; the model stays of unknown effect.
    found = estimate(planned(trial(0, steps=64, rate=0.5, model="b")), store)
    assert (found.updates, found.differing) == (pytest.approx(64), ("model",))
    assert found.sure == Spent()


def test_what_goes_with_no_number_is_seen_to(store):
    took(store, trial(0, rate=1, model="a"), 10, 1.0)
    took(store, trial(0, rate=100, model="a"), 10, 1.0)
    found = estimate(planned(trial(0, rate=1000, model="a")), store)
    assert (found.least.updates, found.most.updates) == (10, 10)


@pytest.mark.parametrize(
    ("leave", "by", "updates"),
    [
        (True, "continued", 150),
        (False, "other seeds", 200),  # It kept nothing: it begins from nothing.
    ],
)
def test_only_what_kept_something_is_continued(store, leave, by, updates):
    of = trial(0, x=1)
    took(store, of, 50, 30.0, state="interrupted", progress=0.25)
    (store.path(of.id) / "closed").touch()  # That is nothing.
    (store.path(of.id) / "artifacts").mkdir()
    (store.path(of.id) / "artifacts" / "features").write_text("1")
    if leave:
        checkpoint(store, of)
    found = estimate(planned(of), store)
    assert (found.by[by], found.updates) == (1, updates)


def test_a_trainer_that_was_seen_to_begin_again_is_not_expected_to_go_on(store):
    def entries(first: int, second: int) -> list[dict[str, Any]]:
        costs = [(1, 10), (1, 20), (2, first), (2, second)]
        return [{"kind": "measure", "attempt": n, "values": {"cost/updates": c}} for n, c in costs]

    assert journal.goes_on(entries(20, 30)) is True
    assert journal.goes_on(entries(10, 20)) is False
    assert journal.goes_on(entries(10, 20)[:2]) is None


def test_what_is_to_be_scored_and_kept_nothing_is_trained_again(store):
    of = trial(0, x=1)
    other = Trial(trainer=of.trainer, config=of.config, evaluation={"n": 2}, seed=0)
    took(store, of, 100, 10.0)
    found = estimate(planned(other, trained=[of.id]), store)
    assert (found.updates, found.sure.updates, found.to_score) == (100, 100, 0)
    assert found.by == {"continued": 0, "again": 1, "other seeds": 0, "near": 0}
    assert "(1 trial again, for want of a checkpoint)" in costs.cost(found)


# --- what to probe ------------------------------------------------------------------------


def probed(store: Folder, *trials: Trial) -> tuple[list[dict[str, Any]], int]:
    chosen, of = probes(planned(*trials), store)
    return [dict(t.config) for t in chosen], of


def test_few_of_a_grid_are_probed(store):
    grid = [
        trial(seed, model=model, steps=steps, rate=rate)
        for model in ("a", "b", "c", "d")
        for steps in (1, 2, 4)
        for rate in (0.1, 0.2)
        for seed in (0, 1)
    ]
    # One, and one more for each number: that furthest from it.
    assert probed(store, *grid) == (
        [
            {"model": "a", "steps": 1, "rate": 0.1},
            {"model": "a", "steps": 1, "rate": 0.2},
            {"model": "a", "steps": 4, "rate": 0.1},
        ],
        24,
    )
    for steps, rate in ((1, 0.1), (4, 0.1), (1, 0.2)):
        took(store, trial(0, model="a", steps=steps, rate=rate), steps, 1.0)
    # Now all are near, and what is asked further is the models.
    chosen, of = probed(store, *grid)
    assert ([config["model"] for config in chosen], of) == (["b", "c", "d"], 21)
    for model in "bcd":
        took(store, trial(0, model=model, steps=1, rate=0.1), 1, 1.0)
    assert probed(store, *grid) == ([], 18)


def test_what_is_far_from_all_is_probed_too(store):
    one = {"a": 1, "b": 1, "c": 1, "d": 1}
    far = {"a": "x", "b": "x", "c": "x", "d": "x"}
    assert probed(store, trial(0, **one), trial(0, **far), trial(1, **far)) == ([one, far], 2)


# --- as a person sees it -----------------------------------------------------------------

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:%s"}
base: {steps: 4}
budget: {updates: %s}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1, 2]
profiles: {quick: {}}
"""


def sweeper(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{ROOT}{os.pathsep}{TOYS}"
    return subprocess.run(
        [sys.executable, "-m", "sweeper", arguments[0], "toy.yaml", *arguments[1:]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_probe_makes_what_is_unknown_known_and_is_continued(tmp_path):
    (tmp_path / "toy.yaml").write_text(SWEEP % ("paced", 20))
    before = sweeper(tmp_path, "plan")
    assert before.returncode == 0, before.stderr
    assert "cost: 6 trials unknown: --probe runs a piece of them" in before.stdout
    assert "budget: 20 updates" in before.stdout
    probed = sweeper(tmp_path, "plan", "--probe", "--dispatch", "inline")
    said = "probing 2 of 2 configurations of unknown cost: low · seed 0, high · seed 0"
    assert said in probed.stderr
    # A quarter of two trials is made; three quarters of them and four whole ones are left.
    assert "cost: about 22 updates, " in probed.stdout
    assert "(2 trials continued, 4 as other seeds)" in probed.stdout
    assert "spent so far: 2 updates, " in probed.stdout
    assert probed.returncode == 5
    assert "over the budget: 24 of 20 updates, spent and expected" in probed.stderr
    (tmp_path / "toy.yaml").write_text(SWEEP % ("paced", 24))
    said = json.loads(sweeper(tmp_path, "plan", "--json").stdout)
    assert said["cost"]["by"] == {"continued": 2, "again": 0, "other seeds": 4, "near": 0}
    assert (said["cost"]["updates"], said["spent"]["updates"]) == (22, 2)
    assert said["budget"]["total"]["updates"] == 24
    done = sweeper(tmp_path, "run", "--dispatch", "inline")
    assert done.returncode == 0, done.stderr
    journals = tmp_path.glob("runs/trials/*/journal.jsonl")
    assert {j.read_text().count('"measure"') for j in journals} == {5}  # nothing made twice


def test_a_probe_of_a_trainer_without_progress_gives_its_rate(tmp_path):
    (tmp_path / "toy.yaml").write_text(SWEEP % ("countdown", 24))
    probed = sweeper(tmp_path, "plan", "--probe", "--dispatch", "inline")
    assert probed.returncode == 0, probed.stderr
    assert "6 trials of unknown length, at about " in probed.stdout
    assert "their trainer gives no `progress`" in probed.stdout
    again = sweeper(tmp_path, "plan", "--probe", "--dispatch", "inline")
    assert "nothing to probe: the cost of what is left is known" in again.stderr  # once is enough


def test_a_setting_that_is_the_cost_is_probed_and_then_refused(tmp_path):
    (tmp_path / "toy.yaml").write_text(SWEEP % ("paced", 100))
    inline = ("--dispatch", "inline")
    assert sweeper(tmp_path, "run", *inline).returncode == 0
    path = tmp_path / "toy.yaml"
    path.write_text(path.read_text().replace("steps: 4", "steps: 40"))
    told = sweeper(tmp_path, "plan")
    assert told.returncode == 0, told.stderr
    assert "cost: about 24 to 240 updates, " in told.stdout
    assert "(6 trials as near configurations, which differ in steps)" in told.stdout
    assert "the budget may not last: 240 of 100 updates by near" in told.stdout
    said = json.loads(sweeper(tmp_path, "plan", "--json").stdout)
    assert (said["over_budget"], said["may_be_over_budget"]) == (None, "240 of 100 updates")
    probed = sweeper(tmp_path, "plan", "--probe", *inline)
    assert "probing 1 of 2 configurations of unknown cost: low · seed 0" in probed.stderr
    # The one is known, and so is how cost goes with steps: all 240 but the one that was made.
    assert "cost: about 239 updates, " in probed.stdout
    assert probed.returncode == 5, probed.stderr
    assert "over the budget: 120 of 100 updates" in probed.stderr


def test_only_what_is_asked_for_is_probed_and_a_failed_probe_is_told(tmp_path):
    (tmp_path / "toy.yaml").write_text(SWEEP % ("raises", 24))
    inline = ("--dispatch", "inline", "--where", "level == 'high'")
    probed = sweeper(tmp_path, "plan", "--probe", *inline)
    assert "probing 1 of 1 configuration of unknown cost: high · seed 0" in probed.stderr
    assert "high · seed 0: failed: ValueError: the third layer" in probed.stderr
    assert probed.returncode == 1
    assert "3 trials, 2 missing, 1 failed; 2 to run" in probed.stdout
    retried = sweeper(tmp_path, "plan", "--retry", "failed", "--where", "level == 'high'")
    assert "3 trials, 2 missing, 1 failed; 3 to run" in retried.stdout
