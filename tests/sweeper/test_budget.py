"""What trials have cost, and what becomes of a sweep, and of a trial, at its budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sweeper import budget
from sweeper.budget import Account, Spent, over, reached
from sweeper.dispatch.inline import dispatch
from sweeper.errors import EnvironmentFault
from sweeper.spec import Resources
from sweeper.spec.sweep import Limits
from sweeper.track import folder, journal
from sweeper.track.folder import Folder
from sweeper.track.parcel import STATUS
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]


@pytest.fixture(autouse=True)
def _toys_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS))


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs")


def toy(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"toy_trainers:{name}"), config=config, seed=seed)


# --- what was spent ----------------------------------------------------------------------


def start(attempt: int, **fields: object) -> dict:
    return {"kind": "start", "attempt": attempt, **fields}


def measure(attempt: int, cost: float, seconds: float, **values: float) -> dict:
    values = {"cost/updates": cost, **values}
    said = {"attempt": attempt, "at": 0.0, "cost": cost, "seconds": seconds, "values": values}
    return {"kind": "measure", **said}


def end(attempt: int, seconds: float, state: str, **fields: object) -> dict:
    return {"kind": "end", "attempt": attempt, "seconds": seconds, "state": state, **fields}


KILLED_AND_CONTINUED = [
    start(1, gpus=0.5),
    measure(1, 100, 900.0, progress=0.25),
    measure(1, 200, 1800.0, progress=0.5),  # killed: the checkpoint was that of 100
    start(2, gpus=1),
    measure(2, 200, 360.0, progress=0.5),
    measure(2, 400, 720.0, progress=1.0),
    end(2, 1080.0, "done", peak_memory_bytes=7),
]


def test_all_attempts_of_a_trial_are_paid_for():
    # 1800 s of half a GPU and 1080 s of one: 0.25 h + 0.3 h.
    assert journal.totals(KILLED_AND_CONTINUED) == {
        "updates": 400,
        "seconds": 1800 + 1080,
        "gpu_hours": pytest.approx(0.25 + 0.3),
        "measurements": 4,
        "done": True,
        "peak_memory_bytes": 7,
        "continues": True,
        "progress": 1.0,
    }


def test_what_is_made_anew_is_paid_for_twice_and_is_no_part_of_what_it_takes():
    anew = {"kind": "anew", "attempt": 3}
    entries = [*KILLED_AND_CONTINUED, start(3), anew, measure(3, 250, 60.0), end(3, 70.0, "done")]
    total = journal.totals(entries)
    assert (total["updates"], total["seconds"]) == (400 + 250, 1800 + 1080 + 70)
    assert (total["now"]["updates"], total["now"]["seconds"]) == (250, 70)
    assert [m.cost for m in journal.history(entries)] == [250]  # not 100, 200 of before
    back = [*entries[:-1], start(4), {"kind": "back", "attempt": 4}, measure(4, 400, 5.0)]
    assert [m.cost for m in journal.history(back)] == [100, 200, 400]
    assert journal.totals(back)["updates"] == 400 + 250
    assert journal.contributors(back) == {1, 2, 4}


def test_a_second_beginning_is_still_one_over_what_came_to_a_result():
    again = [start(4), {"kind": "anew", "attempt": 4}, measure(4, 100, 1.0)]
    first = [start(3), {"kind": "anew", "attempt": 3}, measure(3, 100, 1.0)]
    back = [start(5), {"kind": "back", "attempt": 5}]
    entries = [*KILLED_AND_CONTINUED, *first, *again]
    assert journal.begun_anew(entries)
    assert [m.attempt for m in journal.history(entries)] == [4]
    assert [m.cost for m in journal.history([*entries, *back])] == [100, 200, 400]
    assert not journal.begun_anew([*entries, *back])


@pytest.mark.parametrize(
    ("costs", "made"),
    [
        ([[100, 200, 300]], 300),
        ([[100, 200], [300, 400]], 400),  # continued
        ([[100, 200], [50, 100, 200, 300]], 200 + 300),  # made afresh
        ([[100, 200], [200], [200]], 200),  # scored twice more
        ([[100, 200, 300], [250, 350]], 300 + 350 - 200),  # from the checkpoint of 200
        ([], 0),
    ],
)
def test_updates_that_are_made_again_are_counted_again(costs, made):
    entries = [measure(n, cost, 1.0) for n, some in enumerate(costs, 1) for cost in some]
    assert journal.updates_made(entries) == made


def test_a_journal_of_before_gpus_were_told_costs_none():
    old = [start(1), measure(1, 100, 60.0), end(1, 60.0, "done")]
    assert journal.gpu_hours(old) == 0


def test_what_ended_is_read_from_its_last_line_and_what_runs_from_all(here):
    trial = toy("paced", steps=4)
    assert execute(trial, here, stopped=iter([False, False, True]).__next__) is None
    store = Folder(here.store)
    path = store.path(trial.id) / "journal.jsonl"
    whole = journal.totals(store.entries(trial.id))
    assert store.totals(trial.id) == whole
    assert (whole["updates"], whole["progress"], whole["done"]) == (2, 0.5, False)
    path.write_bytes(path.read_bytes()[-journal.TAIL_BYTES :].splitlines(keepends=True)[-1])
    assert store.totals(trial.id) == whole  # the last line is enough
    attempt = store.start(trial)
    attempt.measure(3.0, {"cost/updates": 3.0, "progress": 0.75})
    assert store.totals(trial.id)["progress"] == 0.75
    attempt.abandon("x" * 2 * journal.TAIL_BYTES)  # a line that is longer than what is read
    assert store.totals(trial.id)["progress"] == 0.75


@pytest.mark.parametrize(
    ("limits", "spent", "said"),
    [
        (Limits(updates=1_500_000), Spent(updates=1_503_210), "1,503,210 of 1,500,000 updates"),
        (Limits(wall=43_200), Spent(wall=45_000), "12.5 of 12 h of wall time"),
        (Limits(wall=1800), Spent(wall=1815), "30.25 of 30 min of wall time"),
        (Limits(wall=90), Spent(wall=91), "91 of 90 s of wall time"),
        (Limits(gpu_hours=0.5), Spent(gpu_hours=0.625), "0.625 of 0.5 GPU-hours"),
        (Limits(updates=3), Spent(wall=1e9, gpu_hours=1e9), None),
        (Limits(), Spent(updates=1e9, wall=1e9, gpu_hours=1e9), None),
    ],
)
def test_which_limit_is_passed(limits, spent, said):
    assert over(limits, spent) == reached(limits, spent) == said


def test_a_limit_that_is_met_is_reached_and_not_passed():
    assert over(Limits(updates=3), Spent(updates=3)) is None
    assert reached(Limits(updates=3), Spent(updates=3)) == "3 of 3 updates"


def test_an_account_counts_each_trial_once_whoever_ran_it_and_reads_on(here):
    one, two, other = (toy("countdown", seed, steps=5) for seed in range(3))
    for trial in (one, other):
        execute(trial, here)
    account = Account(Limits(updates=100), [one, one, two], Folder(here.store))
    assert account.spent().updates == 5
    attempt = Folder(here.store).start(two, gpus=2)
    attempt.measure(7, {"cost/updates": 7.0})
    spent = account.spent()
    took = [Folder(here.store).totals(trial.id) for trial in (one, two)]
    assert spent.updates == 5 + 7
    assert spent.seconds == pytest.approx(sum(t["seconds"] for t in took))
    assert spent.gpu_hours == pytest.approx(took[1]["seconds"] * 2 / 3600)
    attempt.abandon("test")


# --- a sweep at its budget ---------------------------------------------------------------


def test_no_trial_is_started_once_the_budget_is_reached(here):
    trials = [toy("countdown", seed, steps=30) for seed in range(6)]
    account = Account(Limits(updates=100), trials, Folder(here.store))
    records = []
    coming = account.as_far_as_it_reaches(trials)
    dispatch(coming, here, records.append, resources=Resources())
    # 30, 60, 90 are below 100: a fourth is started, and finishes.
    assert [(r.trial_id, r.state) for r in records] == [(t.id, "done") for t in trials[:4]]
    assert account.ended == "120 of 100 updates"


def test_a_budget_that_lasts_ends_nothing(here):
    trials = [toy("countdown", seed, steps=30) for seed in range(2)]
    account = Account(Limits(updates=60), trials, Folder(here.store))
    assert len(list(account.as_far_as_it_reaches(trials))) == 2
    assert account.ended is None


def test_what_runs_is_stopped_at_its_next_measurement_when_it_is_asked_for(here, monkeypatch):
    monkeypatch.setattr(budget, "SECONDS_BETWEEN_LOOKS", 0.05)
    trial = toy("waits")
    account = Account(Limits(updates=5), [trial], Folder(here.store))
    stop = threading.Event()
    with account.stopping(stop):
        dispatch([trial], here, pytest.fail, resources=Resources(), stop=stop)
    assert account.ended.endswith(" of 5 updates")
    assert Folder(here.store).entries(trial.id)[-1]["state"] == "interrupted"


# --- as a person sees it -----------------------------------------------------------------

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:%(trainer)s"}
base: {steps: %(steps)s, pause: %(pause)s}
budget: %(budget)s
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1, 2]
metrics:
  loss: {from: loss, goal: min, format: ".3f"}
profiles: {quick: {}}
tables:
  losses: {rows: level, values: [loss], over: seed, cell: "{mean}", write: [md]}
"""


class Desk:
    def __init__(self, folder: Path):
        self.folder = folder

    def write(
        self, budget: str, trainer: str = "countdown", steps: int = 30, pause: float = 0.0
    ) -> None:
        fields = {"budget": budget, "trainer": trainer, "steps": steps, "pause": pause}
        (self.folder / "toy.yaml").write_text(SWEEP % fields)

    def type(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{ROOT}{os.pathsep}{TOYS}"
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", arguments[0], "toy.yaml", *arguments[1:]],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.type("run", "--dispatch", "inline", *more)

    def plan(self) -> dict:
        return json.loads(self.type("plan", "--json").stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_run_that_reaches_the_budget_shows_what_is_there_and_says_what_is_missing(desk):
    desk.write("{updates: 100}")
    first = desk.run()
    assert first.returncode == 5, first.stderr
    assert "trials: 4 of 6 done, 2 missing" in first.stdout
    assert (
        first.stderr.splitlines()[-1] == "budget reached: 120 of 100 updates; 2 trials are missing"
    )
    # Two are left, known by the other seeds to take 30 updates each: 120 + 60.
    for refused in (desk.type("plan"), desk.run()):
        assert refused.returncode == 5
        assert "over the budget: 180 of 100 updates, spent and expected" in refused.stderr
        assert "[1/2]" not in refused.stderr
    assert "spent so far: 120 updates" in desk.type("plan").stdout
    assert desk.type("plan", "--json").returncode == 5
    assert desk.plan()["over_budget"] == "180 of 100 updates"
    further = desk.run("--to-budget")
    assert further.returncode == 5
    assert "budget reached: 120 of 100 updates; 2 trials are missing" in further.stderr
    desk.write("{updates: 180}")
    assert desk.plan()["over_budget"] is None
    assert desk.run().returncode == 0


def test_what_runs_may_be_stopped_at_the_budget_which_is_no_signal(desk):
    desk.write("{wall: 2s, on_exceed: stop}", trainer="waits")
    done = desk.run()
    assert done.returncode == 5, done.stderr
    assert "of 2 s of wall time; 6 trials are missing" in done.stderr
    assert "stopped" not in done.stderr
    assert desk.plan()["counts"]["missing"] == 6


def test_trials_over_their_own_budget_are_a_state_and_no_number(desk):
    desk.write("{per_trial: {updates: 10}}", trainer="paced")
    done = desk.run()
    assert done.returncode == 5, done.stderr
    assert "trials: 0 of 6 done, 6 exceeded" in done.stdout
    hint = "raise budget.per_trial, and sweeper run toy.yaml --retry exceeded continues"
    assert f"6 trials are over their own budget: {hint}" in done.stderr
    assert "over its budget: 11 of 10 updates" in done.stderr
    assert "exceeded" in (desk.folder / "runs/tables/toy.quick/losses.md").read_text()
    assert desk.plan()["counts"]["exceeded"] == 6
    idle = desk.run()
    assert "nothing left to do" in idle.stderr
    assert (idle.returncode, hint in idle.stderr) == (5, True)
    before = journals(desk)
    again = desk.run("--retry", "exceeded")  # under a limit that is passed already
    assert (again.returncode, journals(desk)) == (5, before)
    desk.write("{per_trial: {updates: 30}}", trainer="paced")
    again = desk.run("--retry", "exceeded")
    assert again.returncode == 0, again.stderr
    assert {text.count('"measure"') for text in journals(desk)} == {31}


def journals(desk: Desk) -> list[str]:
    return [j.read_text() for j in sorted(desk.folder.glob("runs/trials/*/journal.jsonl"))]


def test_a_finished_sweep_that_overran_is_planned_as_it_is_run(desk):
    desk.write("{updates: 100}", steps=19)  # After 95 a sixth is begun, and finishes.
    assert desk.run().returncode == 0
    for of in (desk.type("plan"), desk.type("plan", "--json"), desk.run()):
        assert of.returncode == 0, of.stderr
    assert "spent so far: 114 updates" in desk.type("plan").stdout


def test_what_was_made_and_is_made_again_is_paid_for_twice(desk):
    source = (TOYS / "toy_trainers.py").read_text(encoding="utf-8")
    (desk.folder / "mine.py").write_text(source, encoding="utf-8")
    desk.write("{updates: 100}", steps=15)
    path = desk.folder / "toy.yaml"
    path.write_text(path.read_text().replace("toy_trainers:", "mine:"))
    assert desk.run().returncode == 0  # 90 updates
    (desk.folder / "mine.py").write_text(source + "# edited\n", encoding="utf-8")
    refused = desk.run("--retry", "stale")
    assert refused.returncode == 5
    assert "over the budget: 180 of 100 updates, spent and expected" in refused.stderr
    assert desk.type("plan", "--retry", "stale").returncode == 5
    partly = desk.run("--retry", "stale", "--to-budget")
    assert partly.returncode == 5, partly.stderr
    # 90 and one more of 15, and nothing that was there is lost.
    last = "budget reached: 105 of 100 updates; 5 trials are as before"
    assert partly.stderr.splitlines()[-1] == last
    counts = desk.plan()["counts"]
    assert (counts["done"], counts["stale"]) == (1, 5)
    none = desk.run("--retry", "stale", "--to-budget")
    assert "budget reached: 105 of 100 updates" in none.stderr
    assert "spent so far: 105 updates" in desk.type("plan").stdout


def test_the_wall_time_is_counted_from_the_first_trial_on(here):
    account = Account(Limits(wall=1.0), [trial := toy("countdown", steps=1)], Folder(here.store))
    account._made -= 60.0  # Ray took a minute to start.
    assert (account.spent().wall, account.reached()) == (0, None)
    execute(trial, here)
    assert 0 < account.spent().wall < 1
    late = Account(Limits(wall=1.0), [trial], Folder(here.store))
    assert late.spent().wall == 0  # That was before it.


def test_a_killed_attempt_has_cost_the_time_until_its_last_beat(here, monkeypatch):
    monkeypatch.setattr(folder, "RENEWAL_SECONDS", 0.05)
    trial = toy("sleeps")
    attempt = Folder(here.store).start(trial, gpus=2)
    time.sleep(0.2)
    attempt.beat()
    attempt.beat()  # Said already.
    lines = (attempt.folder / "journal.jsonl").read_text().splitlines()
    assert len(lines) == 2
    total = Folder(here.store).totals(trial.id)
    assert 0.2 <= total["seconds"] < 0.5
    assert total["gpu_hours"] == pytest.approx(total["seconds"] * 2 / 3600)
    attempt.abandon("test")
    with pytest.raises(EnvironmentFault):
        attempt.beat()
    assert Folder(here.store).entries(trial.id)[-1]["kind"] == "end"


def test_mlflow_has_a_word_for_every_state():
    assert STATUS["exceeded"] == "KILLED"


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_by_ray_starts_nothing_past_the_budget(desk):
    desk.write("{updates: 100, per_trial: {updates: 1000}}", pause=0.01)
    done = desk.type("run", "--slots", "1")
    assert done.returncode == 5, done.stderr
    assert "trials: 4 of 6 done, 2 missing" in done.stdout
    assert "budget reached: 120 of 100 updates; 2 trials are missing" in done.stderr
