"""MLflow that is away, slow, full, locked, or lies: training goes on, and in the end MLflow has
everything once. A real server behind a proxy that does harm; what it has is read by SQL."""

from __future__ import annotations

import os
import queue
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import tracking
from tracking import HARM, ORIGIN, Proxy, check, runs, train, trial, until

from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.track import courier as delivery
from sweeper.track.courier import Courier
from sweeper.track.folder import Folder
from sweeper.track.mlflow import MLflowStore
from sweeper.track.parcel import Origin

TOYS = Path(__file__).parents[1] / "sweeper"
ROOT = TOYS.parents[1]

# What mlflow and its dependencies do when they are imported is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with tracking.server(tmp_path_factory.mktemp("server")) as there:
        yield there


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(tracking.REQUEST_SECONDS)))
    between = Proxy(server.port)
    yield between
    between.down()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database of MLflow's in which there is nothing yet: to make one takes seconds."""
    root = tmp_path_factory.mktemp("template")
    with MLflowStore(root)._reachable():
        return root / "mlflow.db"


@pytest.fixture
def root(tmp_path, template):
    (tmp_path / "mlflow.db").write_bytes(template.read_bytes())
    return tmp_path


# --- one request after the other -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("B5", "B7", "B23")
@pytest.mark.parametrize("kind", HARM)
def test_whatever_becomes_of_a_request_all_is_there_once(
    kind, server, proxy, tmp_path, full, fault_seed, say
):
    """Each request of a delivery in turn (in CI those that create and a few more)."""
    folder, origin = Folder(tmp_path), Origin(sweep=f"harm-{kind}", profile="quick")
    first = 1000 * (1 + list(HARM).index(kind))  # Trials are another's in no test before.
    trials = [trial(first)]
    train(folder, trials[0])
    again(MLflowStore(tmp_path, proxy.uri), trials[0], folder, origin)
    requests = list(proxy.seen)
    numbers = range(1, len(requests) + 1)
    if not full:
        creates = [n for n, what in enumerate(requests, 1) if what.endswith("/runs/create")]
        numbers = sorted({creates[-1], *random.Random(f"{fault_seed}{kind}").sample(numbers, 1)})
    refused = 0
    for number in numbers:
        one = trial(first + number)
        train(folder, one)
        trials.append(one)
        store = MLflowStore(tmp_path, proxy.uri)
        proxy.begin(lambda method, path, n, at=number: kind if n == at else None)
        try:
            store.publish(one, folder, origin)
        except EnvironmentFault:
            refused += 1
            proxy.begin()
            again(store, one, folder, origin)
        proxy.begin()
        proxy.rest()  # What comes late has come.
        store.close(origin)
    proxy.begin()
    again(MLflowStore(tmp_path, proxy.uri), trials[-1], folder, origin)
    assert not [it for it in proxy.seen if it.endswith(("/runs/create", "/runs/delete"))]
    tally = check(folder, trials, server.database, server.artifacts, origin)
    say(f"{kind}: at {len(numbers)} requests ({refused} noticed; seed {fault_seed}): {tally}")


def again(store, one, folder, origin, tries=20):
    """As the courier does, for on a busy machine two seconds may be too few for an answer."""
    for left in reversed(range(tries)):
        try:
            store.publish(one, folder, origin)
            return
        except EnvironmentFault:
            if not left:
                raise


# --- the courier -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("B5", "B7", "B23")
def test_through_an_outage_of_every_kind_the_courier_gets_all_there_once(
    server, proxy, tmp_path, full, fault_seed, say, monkeypatch
):
    """Refused, then nothing but harm, then harm at random; then well. Trials end meanwhile."""
    folder, origin = Folder(tmp_path), Origin(sweep="outage", profile="courier")
    count = 40 if full else 4
    rng = random.Random(fault_seed)
    proxy.down()
    courier = Courier(folder, origin, proxy.uri)
    trials = [trial(seed) for seed in range(count)]
    longest = 0.0
    kinds = list(HARM)

    def harm(share: float):
        """Not of what is asked before MLflow's client is loaded: that would never be."""

        def of(method: str, path: str, number: int) -> str | None:
            spared = path in ("/health", "/version") or rng.random() >= share
            return None if spared else rng.choice(kinds)

        return of

    def harmed() -> int:
        return proxy.done.total() - proxy.done["pass"]

    def tell(some):
        nonlocal longest
        for one in some:
            train(folder, one)
            began = time.perf_counter()
            courier.notice(one)
            longest = max(longest, time.perf_counter() - began)

    try:
        tell(trials[: count // 2])
        until(lambda: courier.problem)
        proxy.begin(harm(1.0))
        proxy.up()
        tell(trials[count // 2 :])
        until(lambda: harmed() >= (4 if full else 2))
        proxy.begin(harm(0.02))  # A delivery is some 30 requests.
        until(lambda: courier.undelivered <= count // 2)
        assert courier.undelivered or proxy.done["pass"]
        proxy.begin()
        courier.publish_tables({"table": "| KL |"})
        until(lambda: courier.undelivered == 0)
        proxy.rest()
    finally:
        left = courier.close(60)
    assert left == 0, courier.problem
    tally = check(folder, trials, server.database, server.artifacts, origin)
    say(f"{harmed()} of {proxy.done.total()} requests harmed (seed {fault_seed}): {tally}")


class Inbox:
    """A courier's, by a clock of its own: to wait is to move it. `coming` are messages and
    when they come."""

    def __init__(self, coming):
        self.now, self.coming = 0.0, list(coming)

    def clock(self):
        return self.now

    def get(self, timeout=None):
        if self.coming and (timeout is None or self.coming[0][0] <= self.now + timeout):
            at, message = self.coming.pop(0)
            self.now = max(self.now, at)
            return message
        assert timeout is not None, "it waits for ever"
        self.now += timeout
        raise queue.Empty


@pytest.mark.fault("B5")
@pytest.mark.parametrize("delay", [0.0, 10.0])
def test_five_minutes_of_failures_lose_nothing_and_are_no_storm(root, say, delay):
    """The server is down for 5 minutes by the courier's clock, while 60 trials end; a failure
    takes `delay` seconds, which is what a hanging server costs."""
    folder, store = Folder(root), MLflowStore(root)
    trials = [trial(seed) for seed in range(60)]
    for one in trials:
        train(folder, one, points=3)
    coming = [
        (5.0 * n, {"trial": asdict(one), "name": delivery.name_of(one), "serial": n})
        for n, one in enumerate(trials)
    ]
    inbox = Inbox([*coming, (400.0, {"close": "FINISHED"})])
    tries, delivered = [], []

    def send(message):
        tries.append(inbox.now)
        if inbox.now < 300.0:
            inbox.now += delay
            raise EnvironmentFault("MLflow is down")
        delivery.delivery(message, store, folder, ORIGIN)

    def say_of(**answer):
        if "delivered" in answer:
            delivered.append(answer["delivered"])

    assert delivery.deliver(inbox, send, say_of, inbox.clock) == "FINISHED"
    store.close(ORIGIN)
    failed = [at for at in tries if at < 300.0]
    pauses = [b - a - delay for a, b in pairwise(failed)]
    assert [round(pause, 6) for pause in pauses[:6]] == [1, 2, 4, 8, 16, 30]
    assert all(pause == pytest.approx(30.0) for pause in pauses[5:])
    back = next(at for at in tries if at >= 300.0)
    assert back <= 300.0 + 30.0 + delay
    assert Counter(delivered) == Counter(delivery.name_of(one) for one in trials)
    tally = check(folder, trials, root / "mlflow.db")
    say(f"down for 300 s, {delay:g} s a failure: {len(failed)} tries; {tally}")


def test_a_trial_whose_journal_is_damaged_keeps_no_other_from_mlflow():
    """Though the courier gives up after two failures once its driver waits for it."""
    inbox = queue.SimpleQueue()
    for name in ("bad", "worse", "good", "better"):
        inbox.put({"name": name, "serial": 1})
    inbox.put({"close": "FINISHED"})
    said = []

    def send(message):
        if message["name"] in ("bad", "worse"):
            raise CorruptRecord(f"{message['name']} was changed")

    assert delivery.deliver(inbox, send, lambda **answer: said.append(answer)) == "FINISHED"
    assert [it["delivered"] for it in said if "delivered" in it] == ["good", "better"]
    assert said[-1]["problem"] == "worse was changed"  # what the driver tells in the end


# --- the embedded database --------------------------------------------------------------------


def measured(folder: Folder, of, seconds: float) -> int:
    """Trains for so long while the courier is in trouble; the measurements made."""
    attempt = folder.start(of)
    end, cost = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        cost += 1
        attempt.measure(cost, {"train/loss": 1 / cost})
        time.sleep(0.01)
    attempt.abandon("over")
    return cost


@pytest.mark.slow
@pytest.mark.fault("B4")
@pytest.mark.parametrize("seconds", [3, 25])
def test_a_locked_database_holds_up_nothing_but_the_delivery(root, seconds, full, say):
    """Another process holds it; with --full also longer than the 20 s for which MLflow waits."""
    if seconds > 20 and not full:
        pytest.skip("25 s, with --full")
    folder, one = Folder(root), trial(1)
    train(folder, one)
    program = """
import sqlite3, sys, time
there = sqlite3.connect(sys.argv[1], isolation_level=None)
there.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
there.execute("ROLLBACK")
"""
    command = [sys.executable, "-c", program, str(root / "mlflow.db"), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as locker:
        assert locker.stdout.readline() == "locked\n"
        courier = Courier(folder, ORIGIN)
        began = time.perf_counter()
        courier.notice(one)
        assert time.perf_counter() - began < 1.0
        points = measured(folder, trial(2), min(seconds, 5))
        waiting = courier.undelivered if locker.poll() is None else 1
    until(lambda: courier.undelivered == 0)
    assert courier.close(60) == 0, courier.problem
    assert waiting == 1
    tally = check(folder, [one], root / "mlflow.db")
    say(f"locked for {seconds} s: {points} measurements meanwhile; then {tally}")


@pytest.mark.slow
@pytest.mark.fault("B3")
def test_a_full_disk_under_the_database_holds_up_nothing_but_the_delivery(root, say):
    """The courier's process may write no file beyond 1,000 bytes, then it may again."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("needs prlimit, which Linux has")
    folder, trials = Folder(root), [trial(seed) for seed in range(3)]
    train(folder, trials[0])
    courier = Courier(folder, ORIGIN)
    courier.notice(trials[0])
    until(lambda: courier.undelivered == 0)
    pid = courier._process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, most))
    for one in trials[1:]:
        train(folder, one)
        courier.notice(one)
    until(lambda: courier.problem)
    problem = courier.problem
    assert courier.undelivered == 2
    assert set(folder.find(trials)) == {one.key for one in trials}
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
    until(lambda: courier.undelivered == 0)
    assert courier.close(60) == 0, courier.problem
    tally = check(folder, trials, root / "mlflow.db")
    say(f"no space ({problem[-60:]!r}): {tally}")


@pytest.mark.slow
@pytest.mark.fault("B4")
def test_many_sweeps_at_once_write_into_one_database(root, full, say):
    sweeps, points = (8, 1000) if full else (3, 200)
    origins = [Origin(sweep=f"crowd{n}", profile="quick") for n in range(sweeps)]
    folder = Folder(root)
    trials = [trial(100 + n) for n in range(sweeps)]
    for one in trials:
        train(folder, one, points=points // 2)  # of two metrics each
    couriers = [Courier(folder, origin) for origin in origins]
    for courier, one in zip(couriers, trials, strict=True):
        courier.notice(one)
    until(lambda: not any(courier.undelivered for courier in couriers), 2 * tracking.SECONDS)
    assert [courier.close(120) for courier in couriers] == [0] * sweeps
    for origin, one in zip(origins, trials, strict=True):
        tally = check(folder, [one], root / "mlflow.db", origin=origin)
        assert tally.points >= points
    say(f"{sweeps} sweeps at once, {points} points each: 0 errors, 0 lost, 0 twice")


# --- the verbs -----------------------------------------------------------------------------------

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
base: {steps: 3, pause: 0.0}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1]
metrics:
  loss: {from: loss, goal: min, format: ".3f"}
profiles: {quick: {}}
tables:
  losses: {rows: level, values: [loss], over: seed, cell: "{mean}", write: [md]}
"""


class Desk:
    """A folder with a sweep in it, and a terminal whose MLflow is at `uri`."""

    def __init__(self, folder: Path, uri: str, **settings: str):
        self.folder = folder
        (folder / "toy.yaml").write_text(SWEEP)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{TOYS}",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(tracking.REQUEST_SECONDS)),
            **settings,
        }
        self.tracking = ("--tracking", uri)

    def start(self, verb: str, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeper", verb, "toy.yaml", *self.tracking, *more],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(verb, *more)
        out, err = process.communicate(timeout=tracking.SECONDS)
        assert "Traceback" not in out + err, out + err
        return subprocess.CompletedProcess(verb, process.returncode, out, err)

    @property
    def trials(self):
        folder = Folder(self.folder / "runs")
        return folder, [folder.trial(id) for id in folder.ids()]


TOY = Origin(sweep="toy", profile="quick")


@pytest.mark.slow
@pytest.mark.fault("B6")
def test_a_run_whose_mlflow_is_down_ends_well_and_sync_delivers(server, proxy, tmp_path, say):
    desk = Desk(tmp_path, proxy.uri)
    proxy.down()
    refused = desk.type("run", "--dispatch", "inline")
    assert refused.returncode == 3, refused.stderr
    assert "--offline starts without it" in refused.stderr
    assert not (tmp_path / "runs/trials").exists()
    ran = desk.type("run", "--dispatch", "inline", "--offline")
    assert ran.returncode == 0, ran.stderr
    # Four trials and the tables. There is no figure.
    assert "5 deliveries to MLflow are still to be made: MLflow at http://127.0.0.1" in ran.stderr
    assert "later: sweeper sync toy.yaml" in ran.stderr
    # The last loss is level / 3 + seed: for level 2 and seeds 0 and 1, 2 / 3 + 1 / 2.
    assert "1.167" in (tmp_path / "runs/tables/toy.quick/losses.md").read_text()
    in_vain = desk.type("sync")
    assert in_vain.returncode == 3
    assert "still to be made" in in_vain.stderr
    proxy.up()
    desk.environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "60"
    delivered = desk.type("sync")
    assert delivered.returncode == 0, delivered.stderr
    assert "MLflow has all 4 records" in delivered.stdout
    tally = check(*desk.trials, server.database, origin=TOY)
    say(f"down at the end, then sync: {tally}")


@pytest.mark.slow
@pytest.mark.fault("B8")
def test_what_a_killed_driver_and_its_courier_left_running_the_next_run_ends(
    server, proxy, tmp_path
):
    origin = replace(TOY, profile="quick")
    desk = Desk(tmp_path, proxy.uri, MLFLOW_HTTP_REQUEST_TIMEOUT="60")
    # Other trials than those of which the server has runs by now.
    text = SWEEP.replace("name: toy", "name: killed").replace("level: 2.0", "level: 3.0")
    text = text.replace("level: 1.0", "level: 4.0")
    desk.folder.joinpath("toy.yaml").write_text(text)
    origin = replace(origin, sweep="killed")
    # A run is created, and then MLflow is heard of no more.
    proxy.begin(lambda method, path, n: "hang" if path.endswith("/log-batch") else None)
    driver = desk.start("run", "--dispatch", "inline", "--offline")
    until(lambda: proxy.done["hang"])
    children = psutil.Process(driver.pid).children(recursive=True)
    for process in [driver, *children]:
        process.send_signal(signal.SIGKILL)
    driver.communicate()
    psutil.wait_procs(children, timeout=30)
    states = [run.status for run in runs(server.database) if origin.tag in run.tags]
    assert states == ["RUNNING"]
    proxy.begin()
    ran = desk.type("run", "--dispatch", "inline", "--offline")
    assert ran.returncode == 0, ran.stderr
    check(*desk.trials, server.database, origin=origin)
    ended = [run for run in runs(server.database) if run.tags.get("sweeper.sweep") == "killed"]
    assert [run.status for run in ended] == ["FINISHED"]


# --- what MLflow takes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_what_mlflow_would_cut_or_refuse_arrives_and_is_marked(
    server, proxy, tmp_path, monkeypatch
):
    """A thousand parameters, one of 7,000 characters, NUL, half a surrogate, nothing, long keys."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    odd = {
        "long": "a" * 7000,
        "nul": "a\0b",
        "empty": "",
        "lines": " a\r\nb ",
        "wide": "\N{SNOWMAN}" * 5999,
        "k" * 251: 1,
        **{f"many{n}": n for n in range(1000)},
    }
    one = replace(trial(7), config=odd, labels={"pooling": "a\0\udc80b", "empty": ""})
    folder = Folder(tmp_path)
    attempt = folder.start(one)
    for cost in range(1, 2501):
        attempt.measure(cost, {"train/loss": 1 / cost, "m" * 300: float(cost)})
    attempt.abandon("over")
    origin = Origin(sweep="odd", profile="quick")
    store = MLflowStore(tmp_path, proxy.uri)
    store.publish(one, folder, origin)
    store.publish(one, folder, origin)
    (run,) = [run for run in runs(server.database) if run.tags.get("sweeper.trial") == one.id]
    assert len(run.params) == len(odd) + 1 + len(one.evaluation)
    assert len(run.params["long"]) <= 6000
    assert "cut, checksum" in run.params["long"]
    assert run.params["nul"] == "a\N{REPLACEMENT CHARACTER}b"
    assert run.params["empty"] == ""
    assert run.tags["axis.pooling"] == "a\N{REPLACEMENT CHARACTER}?b"
    assert (run.params["lines"], run.params["wide"]) == (odd["lines"], odd["wide"])
    assert run.params["many999"] == "999"
    assert max(map(len, run.params)) <= 250
    assert run.points.total() == 5000 == len(run.points)
