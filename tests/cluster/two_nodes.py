"""A sweep over a Ray cluster of two machines, with MLflow on Postgres on a third, of which one is
switched off in the middle: the tables are those of one machine. To be seen in one go:

    python tests/cluster/two_nodes.py [--full]

A reduced sweeps/table3.yaml (12 trials), or with --full the quick one (36 trials, 10 minutes).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nodes
from nodes import Host, until

from sweeper.record import Record
from sweeper.track import journal
from sweeper.track.folder import read_result
from sweeper.trial import Key

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "sweeps" / "table3.yaml"
REDUCED = (
    *("--where", "seed == 0", "--set", "optim.epochs=3", "--set", "evaluate.samples=20"),
    *("--set", "aggressive.inner=5", "--set", "aggressive.max_epochs=1"),
)
RUN_SECONDS = 3600.0
# Of the head: by default a machine that says nothing more is lost after about a minute.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}


@dataclass(kw_only=True)
class Bench:
    """Three machines and what runs on them; `folder` is seen by all. It has state because
    machines are switched off."""

    hosts: dict[str, Host]
    folder: Path
    token: Path
    tracking: str | None = None

    @property
    def head(self) -> Host:
        return self.hosts["head"]

    @property
    def node(self) -> Host:
        return self.hosts["node"]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{nodes.RAY_PORT}"

    @property
    def env(self) -> dict[str, str]:
        """A person's, with nothing of Ray in it but the token."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "SWEE"))}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {**clean, "HOME": str(home), "RAY_AUTH_TOKEN_PATH": str(self.token)}

    def words(self, verb: str, file: Path, *more: object, store: str = "store") -> list[str]:
        tracking = ("--tracking", self.tracking) if self.tracking else ()
        called = (sys.executable, "-c", "from sweeper.cli import main; main()", verb, file)
        return [str(word) for word in (*called, "--store", self.folder / store, *tracking, *more)]

    def sweeper(
        self,
        verb: str,
        file: Path,
        *more: object,
        on: Host | None = None,
        store: str = "store",
        env: dict[str, str | None] | None = None,
        seconds: float = RUN_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        given = {k: v for k, v in {**self.env, **(env or {})}.items() if v is not None}
        words = self.words(verb, file, *more, store=store)
        return (on or self.head).run(*words, env=given, cwd=ROOT, seconds=seconds)

    def here(self, verb: str, *more: object, store: str) -> str:
        """What a verb that needs no cluster says, outside of the machines."""
        words = self.words(verb, SWEEP, *more, store=store)
        said = subprocess.run(words, env=self.env, cwd=ROOT, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def store(self, name: str = "store") -> Store:
        return Store(self.folder / name)


@dataclass(frozen=True)
class Store:
    """What the journals and the results say, read from outside."""

    root: Path

    def folders(self) -> list[Path]:
        return sorted((self.root / "trials").glob("[0-9a-f]*"))

    def entries(self, folder: Path) -> list[dict]:
        return journal.read(folder / "journal.jsonl")[0]

    def starts(self) -> Iterator[tuple[str, dict]]:
        for folder in self.folders():
            for entry in self.entries(folder):
                if entry["kind"] == "start":
                    yield folder.name, entry

    def records(self) -> list[Record]:
        found = []
        for path in self.root.glob("trials/*/result-*.json"):
            evaluation = path.stem.removeprefix("result-")
            found.append(read_result(path, Key(path.parent.name, evaluation)))
        return found

    def ended_on(self, host: Host) -> int:
        return sum(record.provenance["host"] == host.name for record in self.records())

    def running_on(self, host: Host) -> list[str]:
        """The trials that have measured something there and are still at it."""
        found = []
        for folder in self.folders():
            entries = self.entries(folder)
            starts = [entry for entry in entries if entry["kind"] == "start"]
            if not starts or starts[-1]["host"] != host.name:
                continue
            own = [e["kind"] for e in entries if e["attempt"] == starts[-1]["attempt"]]
            if "measure" in own and "end" not in own and any((folder / "checkpoints").iterdir()):
                found.append(folder.name)
        return found


@contextmanager
def bench(folder: Path, *, tracking: bool = False) -> Iterator[Bench]:
    """Three machines with nothing on them but, if it is wanted, MLflow on Postgres."""
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    with nodes.switched("head", "node", "server") as hosts:
        made = Bench(hosts=hosts, folder=folder, token=token)
        if not tracking:
            yield made
            return
        server = hosts["server"]
        with (
            nodes.postgres(server, folder) as database,
            nodes.mlflow_server(server, database, folder) as address,
        ):
            made.tracking = address
            yield made


@contextmanager
def cluster(made: Bench) -> Iterator[None]:
    """Ray on the two, each with one processor."""
    with (
        nodes.ray_node(made.head, made.token, made.folder, env=HEALTH),
        nodes.ray_node(made.node, made.token, made.folder, head=made.head),
    ):
        yield


@dataclass(kw_only=True)
class Seen:
    """What came of the whole."""

    ended: int | None = None
    said: str = ""
    noticed_seconds: float = 0.0  # from the loss to the line that says so
    resumed_seconds: float = 0.0  # until the trial's next attempt
    lost: list[str] = field(default_factory=list)  # the trials that ran there
    attempts: Counter = field(default_factory=Counter)  # by host
    results: Counter = field(default_factory=Counter)  # by host
    resumed_from: dict[str, float] = field(default_factory=dict)  # updates
    states: Counter = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)  # files of tables, against one machine's
    compared: list[str] = field(default_factory=list)
    logs: int | None = None  # how the verb ended
    status: str = ""
    runs: int = 0  # in MLflow


def whole(made: Bench, *, full: bool, say: Callable[[str], None]) -> Seen:
    """One machine first, then the cluster, whose node is lost while it trains."""
    options = () if full else REDUCED
    seen = Seen()
    alone = subprocess.run(
        [
            *(sys.executable, "-c", "from sweeper.cli import main; main()", "run", str(SWEEP)),
            *("--store", str(made.folder / "alone"), "--dispatch", "ray" if full else "inline"),
            *options,
        ],
        env=made.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    say(f"one machine: {len(made.store('alone').records())} results")
    output = made.folder / "driver.txt"
    began = time.monotonic()
    with cluster(made):
        say(f"two Ray nodes after {time.monotonic() - began:.0f} s")
        words = made.words("run", SWEEP, "--address", made.address, *options)
        driver = made.head.start(*words, env=made.env, log=output, cwd=ROOT)
        store = made.store()
        until(lambda: store.ended_on(made.node), "a result from there", driver, RUN_SECONDS)
        until(lambda: store.running_on(made.node), "a trial there", driver, RUN_SECONDS)
        there = store.running_on(made.node)[0]
        seen.logs = made.sweeper("logs", SWEEP, there, *setting(options)).returncode
        seen.status = made.sweeper("status", SWEEP, *options).stdout
        until(lambda: store.running_on(made.node), "a trial there", driver, RUN_SECONDS)
        seen.lost = store.running_on(made.node)
        made.node.switch_off()
        at, lost = time.monotonic(), time.time()
        say(f"switched off, with {len(store.records())} results there: {', '.join(seen.lost)}")
        until(lambda: "is lost" in output.read_text(), "word of the loss", driver, RUN_SECONDS)
        seen.noticed_seconds = time.monotonic() - at
        seen.ended = driver.wait(RUN_SECONDS)
        seen.said = output.read_text()
    again = [e for id, e in store.starts() if id in seen.lost and e["at"] > lost]
    seen.resumed_seconds = min((entry["at"] - lost for entry in again), default=0.0)
    for id in seen.lost:
        entries = store.entries(store.root / "trials" / id)
        last = max(e["attempt"] for e in entries)
        costs = [e["cost"] for e in entries if e["attempt"] == last and e["kind"] == "measure"]
        seen.resumed_from[id] = costs[0] if costs else 0.0
    seen.attempts = Counter(name_of(made, entry["host"]) for _, entry in store.starts())
    records = store.records()
    seen.results = Counter(name_of(made, record.provenance["host"]) for record in records)
    seen.states = Counter(record.state for record in records)
    compare(made, seen, options)
    if made.tracking:
        seen.runs = runs(made)
    say(
        f"noticed after {seen.noticed_seconds:.1f} s, resumed after {seen.resumed_seconds:.0f} s; "
        f"attempts {dict(seen.attempts)}, results {dict(seen.results)} ({dict(seen.states)}); "
        f"{len(seen.compared)} files compared, {len(seen.differing)} differ; {seen.runs} in MLflow"
    )
    return seen


def name_of(made: Bench, host: str) -> str:
    return next((name for name, it in made.hosts.items() if it.name == host), host)


def setting(options: tuple[str, ...]) -> tuple[str, ...]:
    """Without --where, which not every verb has."""
    at = options.index("--where") if "--where" in options else None
    return options if at is None else (*options[:at], *options[at + 2 :])


def compare(made: Bench, seen: Seen, options: tuple[str, ...]) -> None:
    """What `run` wrote beside the records, and every table as `table` prints it."""
    theirs, ours = made.folder / "alone" / "tables", made.folder / "store" / "tables"
    for path in sorted(theirs.rglob("*")):
        if path.suffix in (".md", ".csv", ".tex"):
            name = str(path.relative_to(theirs))
            seen.compared.append(name)
            if plain(path.read_text()) != plain((ours / name).read_text()):
                seen.differing.append(name)
    for style in ("md", "csv", "json", "tex"):
        more = ("--format", style, *setting(options))
        said = [made.here("table", *more, store=it) for it in ("alone", "store")]
        seen.compared.append(f"table --format {style}")
        if plain(said[0]) != plain(said[1]) or not said[0]:
            seen.differing.append(f"table --format {style}")


def plain(text: str) -> str:
    """Without the commit that a footer names: another may be made between the two runs."""
    return re.sub(r"commit [0-9a-f]{12}", "commit", text)


RUNS = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
ids = [it.experiment_id for it in client.search_experiments()]
found = client.search_runs(ids, filter_string="attributes.status = 'FINISHED'", max_results=1000)
print(sum("sweeper.trial" in run.data.tags for run in found))
"""


def runs(made: Bench) -> int:
    """Finished ones of trials, as the server has them."""
    words = (sys.executable, "-c", RUNS, made.tracking)
    said = made.hosts["server"].run(*words, env=made.env, cwd=made.folder)
    assert said.returncode == 0, said.stderr
    return int(said.stdout)


def main() -> None:
    if why := nodes.lacking():
        sys.exit(why)
    folder = Path(tempfile.mkdtemp(prefix="two-nodes-"))
    with bench(folder, tracking=True) as made:
        seen = whole(made, full="--full" in sys.argv[1:], say=lambda text: print(text, flush=True))
    print(seen.said)
    good = seen.ended == 0 and not seen.differing
    print(json.dumps({"ended": seen.ended, "differing": seen.differing}))
    if good:
        shutil.rmtree(folder)
    sys.exit(0 if good else f"see {folder}")


if __name__ == "__main__":
    main()
