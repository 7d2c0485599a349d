"""The published record: trials' folders in, MLflow runs out; and records read back from them.

All sweeps share one experiment, since a trial that two sweeps need is one run and MLflow
shows a run in one experiment only. Each sweep has, per profile, a parent run with its
tables in the note; a trial's run is the child of the sweep that published it first, and
carries a tag `sweeper.sweep.<name>.<profile>` for each sweep that needs it.

Everything here may be repeated: runs are looked for by tag before they are created,
points carry the timestamps of the journal, and one last batch of tags says what has
arrived. This is the only module that imports mlflow, and only inside functions: it takes
two seconds. Nothing here runs on the path of training: see courier.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from sweeper.errors import EnvironmentFault
from sweeper.record import Record
from sweeper.track import pages
from sweeper.track.folder import Folder
from sweeper.track.parcel import (
    BATCH_ITEMS,
    BATCH_METRICS,
    DIGEST_CHARACTERS,
    Origin,
    Parcel,
    batches,
    corpus,
    digest_of,
    pack,
    record_of,
    record_tags,
)
from sweeper.track.sealed import checksum
from sweeper.trial import Key, Trial

EXPERIMENT = "sweeper"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # Pages for training, not for agents.
NOTE = "mlflow.note.content"
RUN = "MLflow run"  # how the error of a record begins that is corrupt there, and maybe not here
ARRIVED = "sweeper.arrived"  # what a run has: {"points", "digest", "artifacts", "record"}
ARTIFACT_BYTES = 10_000_000  # larger files stay in the folder
FEW = 10  # Runs asked for one by one; more are paged through.
PAGE = 500

# Read by mlflow when it is imported or called. One try and ten seconds a call, for its
# own retries take four minutes and may create a run twice.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def default_uri(root: Path) -> str:
    """The embedded database of the store at `root`."""
    return f"sqlite:///{Path(root).absolute() / 'mlflow.db'}"


def redacted(uri: str) -> str:
    """`uri` as it may be shown: without the name and the password in it, and its query."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    if host == parts.netloc and not parts.query:
        return uri
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def database(uri: str) -> Path | None:
    """The file behind an sqlite URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def ui_command(uri: str, root: Path, *, port: int = 5000) -> list[str]:
    """The command that serves MLflow's pages on this machine only, to be run with SETTINGS
    and `ui_environment` in its environment; empty where `uri` is a server that has pages of
    its own."""
    if uri.startswith(("http://", "https://")):
        return []
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", artifact_root(root), "--host", "127.0.0.1"]
    # By default it answers to any name that begins like an address of a private network.
    return [*command, "--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"]


def ui_environment(uri: str) -> dict[str, str]:
    """What `ui_command` serves. Not an argument: those are shown to everybody on a machine,
    and there may be a password in it."""
    return {"MLFLOW_BACKEND_STORE_URI": uri}


def artifact_root(root: Path) -> str:
    return "file://" + quote(str(Path(root).absolute() / "mlartifacts"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A run that MLflow takes for unfinished: a trial's, or a sweep's (`trial_id` None).
    `began` is in seconds since the epoch."""

    run_id: str
    name: str
    trial_id: str | None
    began: float


class MLflowStore:
    """Runs at a tracking URI (by default the database in `root`). Has state because a
    connection is made on first use and kept, with the experiment and the parents found."""

    def __init__(
        self, root: Path | str, tracking_uri: str | None = None, *, experiment: str = EXPERIMENT
    ):
        self.root = Path(root).absolute()
        self.uri = tracking_uri or default_uri(self.root)
        self.experiment = experiment
        self._parents: dict[str, str] = {}
        self._client: Any = None
        self._experiment_id = ""

    # --- reading -------------------------------------------------------------------------

    def find(self, trials: Iterable[Trial], origin: Origin | None = None) -> dict[Key, Record]:
        """A trial's key -> record, of the trials whose result was published. One that was changed
        since is one whose state is corrupt, and whose error says which run that is. With `origin`,
        the runs of that sweep are looked through first."""
        wanted = {trial.key: trial for trial in trials}
        if not wanted or not self._exists():
            return {}
        found: dict[Key, Record] = {}
        with self._reachable():
            if origin and len(wanted) > FEW:
                self._sift(self._runs({origin.tag: "true"}), wanted, found)
            left = [trial for key, trial in wanted.items() if key not in found]
            if len(left) > FEW:
                self._sift(self._runs({"sweeper.kind": "trial"}), wanted, found)
            else:
                for trial in left:
                    self._sift(self._runs(names(trial)), wanted, found)
        return found

    def _sift(
        self, runs: Iterable[Any], wanted: Mapping[Key, Trial], found: dict[Key, Record]
    ) -> None:
        for run in runs:
            said = run.data.tags
            key = Key(said.get("sweeper.trial", ""), said.get("sweeper.evaluation", ""))
            if key not in wanted:
                continue
            try:
                record = record_of(run.data.tags)
            except (ValueError, KeyError, TypeError) as fault:
                record = Record(
                    trial_id=key.trial_id,
                    evaluation_id=key.evaluation_id,
                    state="corrupt",
                    error=f"{RUN} {run.info.run_id}: {fault}",
                )
            if record is not None:
                found.setdefault(key, record)

    def trained(self, trials: Iterable[Trial]) -> set[str]:
        """The ids of those of which a valid result was published, whatever the evaluation."""
        wanted = {trial.id for trial in trials}
        if not wanted or not self._exists():
            return set()
        done = {"sweeper.kind": "trial", "sweeper.state": "done"}
        with self._reachable():
            if len(wanted) > FEW:
                runs = list(self._runs(done))
            else:
                runs = [r for id in wanted for r in self._runs({"sweeper.trial": id, **done})]
        return wanted & {run.data.tags.get("sweeper.trial") for run in runs}

    def running(self) -> list[Running]:
        """The runs that are not marked as ended."""
        if not self._exists():
            return []
        with self._reachable():
            found = [*self._runs({"sweeper.kind": "trial"}, "RUNNING")]
            found += self._runs({"sweeper.kind": "sweep"}, "RUNNING")
        return [
            Running(
                run_id=run.info.run_id,
                name=run.info.run_name or "",
                trial_id=run.data.tags.get("sweeper.trial"),
                began=run.info.start_time / 1000,
            )
            for run in found
        ]

    def _exists(self) -> bool:
        """False for a database that nobody has made: looking for records makes none."""
        file = database(self.uri)
        return file is None or file.exists()

    # --- writing -------------------------------------------------------------------------

    def publish(self, trial: Trial, folder: Folder, origin: Origin) -> None:
        """Sends what the trial's folder says and MLflow does not have. Raises
        EnvironmentFault where MLflow cannot be reached or refuses."""
        entries = folder.entries(trial.id)
        if not entries:
            return
        history = folder.history(trial.id, trial.evaluation_id)
        parcel = pack(trial, origin, history, folder.record(trial), entries[0]["at"])
        with self._reachable():
            run = self._child(parcel, origin)
            arrived = json.loads(run.data.tags.get(ARRIVED, "{}"))
            sent = arrived.get("points", 0)
            if digest_of(parcel.points[:sent]) != arrived.get("digest", digest_of(())):
                # A later attempt has replaced points that are there: MLflow cannot take
                # points back, only runs.
                self._client.delete_run(run.info.run_id)
                run, arrived, sent = self._child(parcel, origin), {}, 0
            if not arrived:
                self._describe(run.info.run_id, parcel)
            self._send_points(run.info.run_id, parcel.points[sent:])
            files = folder.artifacts(trial.id) if parcel.record else {}
            arrived_files = self._send_files(
                run.info.run_id, folder.standing(trial.id), files, arrived
            )
            self._conclude(run, parcel, arrived_files)

    def publish_tables(
        self, origin: Origin, tables: Mapping[str, str], files: Iterable[Path] = ()
    ) -> None:
        """The tables (name -> markdown) into the note of the sweep's run, `files` beside."""
        whole = "\n\n".join(f"## {name}\n\n{markdown}" for name, markdown in tables.items())
        with self._reachable():
            parent = self._parent(origin)
            said = pages.note(tables, self._experiment_id, origin)
            self._client.set_tag(parent, NOTE, self._with_figures(parent, said))
            self._client.log_text(parent, whole + "\n", "tables/tables.md")
            for file in files:
                self._client.log_artifact(parent, str(file), "tables")

    def publish_figures(self, origin: Origin, files: Iterable[Path]) -> None:
        """Pictures into the folder `figures` of the sweep's run, and into its note."""
        with self._reachable():
            parent = self._parent(origin)
            for file in files:
                self._client.log_artifact(parent, str(file), "figures")
                if framed := pages.framed(file.read_bytes()):
                    name = f"figures/{file.stem}{pages.SHOWN}"
                    self._client.log_text(parent, framed, name)
            said = self._client.get_run(parent).data.tags.get(NOTE)
            said = said or pages.note({}, self._experiment_id, origin)
            self._client.set_tag(parent, NOTE, self._with_figures(parent, said))

    def _with_figures(self, parent: str, note: str) -> str:
        there = (Path(it.path).name for it in self._client.list_artifacts(parent, "figures"))
        return pages.with_figures(note, parent, sorted(f for f in there if f.endswith(pages.SHOWN)))

    def kill(self, runs: Iterable[Running]) -> None:
        """Marks them as KILLED: nobody is at them any more."""
        with self._reachable():
            for run in runs:
                self._client.set_terminated(run.run_id, "KILLED")

    def close(self, origin: Origin, state: str = "FINISHED") -> None:
        """Marks the sweep's run as ended, if there is one: FINISHED, FAILED or KILLED."""
        if origin.tag in self._parents:
            with self._reachable():
                self._client.set_terminated(self._parents[origin.tag], state)

    def _child(self, parcel: Parcel, origin: Origin) -> Any:
        """The trial's run, found or created. Two processes may have created one each: both
        keep the same one of them and delete the other."""
        there = sorted(
            self._runs(names(parcel.trial)), key=lambda run: (run.info.start_time, run.info.run_id)
        )
        if there:
            run, *ghosts = there
            wanted = dict(parcel.tags)
            for ghost in ghosts:
                sweeps = ghost.data.tags.items()
                wanted |= {key: x for key, x in sweeps if key.startswith("sweeper.sweep.")}
                self._client.delete_run(ghost.info.run_id)
            new = {key: x for key, x in wanted.items() if key not in run.data.tags}
            self._send_tags(run.info.run_id, new)
            return run
        tags = {**parcel.tags, "mlflow.parentRunId": self._parent(origin)}
        return self._client.create_run(
            self._experiment_id,
            start_time=parcel.started_ms,
            tags=tags,
            run_name=tags["mlflow.runName"],
        )

    def _parent(self, origin: Origin) -> str:
        if origin.tag not in self._parents:
            tags = {
                "sweeper.kind": "sweep",
                "sweeper.sweep": origin.sweep,
                "sweeper.profile": origin.profile,
            }
            runs = sorted(self._runs(tags), key=lambda r: (r.info.start_time, r.info.run_id))
            name = pages.title(origin)
            run = (
                runs[0]
                if runs
                else self._client.create_run(self._experiment_id, tags=tags, run_name=name)
            )
            self._client.update_run(run.info.run_id, status="RUNNING")
            self._arrange(origin)
            self._parents[origin.tag] = run.info.run_id
        return self._parents[origin.tag]

    def _arrange(self, origin: Origin) -> None:
        """A view of the sweep's trials, unless somebody has made it their own."""
        key = pages.VIEW + pages.view_key(origin)
        there = self._client.get_experiment(self._experiment_id).tags.get(key)
        view = pages.view(origin, int(time.time() * 1000))
        if there is not None and (pages.is_changed(there) or pages.same(there, view)):
            return
        if len(view) <= pages.VIEW_CHARACTERS:
            self._client.set_experiment_tag(self._experiment_id, key, view)

    def _describe(self, run_id: str, parcel: Parcel) -> None:
        """Configuration and data: what holds from the start."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        for batch in batches(list(parcel.params.items()), BATCH_ITEMS):
            self._client.log_batch(run_id, params=[Param(key, value) for key, value in batch])
        self._client.log_text(run_id, parcel.config, "config.json")
        digest = parcel.trial.data_digest
        if digest:
            data = Dataset(
                name=corpus(parcel.trial) or "data",
                digest=digest[:DIGEST_CHARACTERS],
                source_type="local",
                source=json.dumps({"name": corpus(parcel.trial), "digest": digest}),
            )
            tag = InputTag("mlflow.data.context", "training and evaluation")
            self._client.log_inputs(run_id, [DatasetInput(data, [tag])])

    def _send_points(self, run_id: str, points: Iterable[Any]) -> None:
        from mlflow.entities import Metric

        for batch in batches(list(points), BATCH_METRICS):
            metrics = [Metric(p.key, p.value, p.at_ms, p.step) for p in batch]
            self._client.log_batch(run_id, metrics=metrics)

    def _send_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for batch in batches(list(tags.items()), BATCH_ITEMS):
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in batch])

    def _send_files(
        self, run_id: str, folder: Path, files: Mapping[str, Any], arrived: Mapping[str, Any]
    ) -> str:
        """The trial's small files, unless exactly these have arrived. Returns their digest."""
        small = {path: x for path, x in files.items() if x["bytes"] <= ARTIFACT_BYTES}
        digest = checksum(json.dumps(small, sort_keys=True).encode())
        if small and arrived.get("artifacts") != digest:
            for path in small:
                inside = Path(path).relative_to("artifacts").parent.as_posix()
                inside = None if inside == "." else inside
                self._client.log_artifact(run_id, str(folder / path), inside)
        return digest

    def _conclude(self, run: Any, parcel: Parcel, artifacts: str) -> None:
        """One batch says what has arrived, after it has."""
        arrived = {
            "points": len(parcel.points),
            "digest": digest_of(parcel.points),
            "artifacts": artifacts,
            "record": parcel.record_digest,
        }
        tags = {ARRIVED: json.dumps(arrived)}
        for key in (NOTE, "mlflow.source.git.commit"):
            tags |= {key: parcel.tags[key]} if key in parcel.tags else {}
        if parcel.record:
            tags |= record_tags(parcel.record) | {"sweeper.state": parcel.record.state}
        said = run.data.tags
        self._send_tags(run.info.run_id, {k: v for k, v in tags.items() if said.get(k) != v})
        if parcel.status == "RUNNING":
            if run.info.status != "RUNNING":
                self._client.update_run(run.info.run_id, status="RUNNING")
        elif run.info.status != parcel.status or said.get(ARRIVED) != tags[ARRIVED]:
            self._client.set_terminated(run.info.run_id, parcel.status, parcel.ended_ms)

    # --- the connection ------------------------------------------------------------------

    def _runs(self, tags: Mapping[str, str], status: str | None = None) -> Iterator[Any]:
        """Every run with these tags (and this status), page by page, deleted ones left out."""
        said = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        query = " and ".join(said + [f"attributes.status = '{status}'"] * (status is not None))
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], query, max_results=PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """Connects if that is still to do, and says MLflow's faults in one line."""
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._client is None:
                self._connect()
            yield
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as fault:
            said = str(fault).replace(self.uri, redacted(self.uri)).partition("\n")[0]
            raise EnvironmentFault(f"MLflow at {redacted(self.uri)}: {said[:300]}") from fault

    def _connect(self) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        with migrating(self.uri):
            client = MlflowClient(self.uri)
            there = client.get_experiment_by_name(self.experiment)
        if there is None:
            root = artifact_root(self.root) if database(self.uri) else None
            try:
                self._experiment_id = client.create_experiment(self.experiment, root, KIND)
            except MlflowException:  # Another process was faster.
                there = client.get_experiment_by_name(self.experiment)
                if there is None:
                    raise
        if there is not None:
            if there.lifecycle_stage != "active":
                raise EnvironmentFault(
                    f"the experiment {self.experiment!r} was deleted in MLflow; restore it with: "
                    f"mlflow experiments restore --experiment-id {there.experiment_id}"
                )
            self._experiment_id = there.experiment_id
        self._client = client


@contextlib.contextmanager
def migrating(uri: str) -> Iterator[None]:
    """Alone while a database is opened: two processes that both find it empty would both
    create its tables, and one would fail."""
    file = database(uri)
    if file is None:
        yield
        return
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def names(trial: Trial) -> dict[str, str]:
    """The tags by which a trial's run is found."""
    return {"sweeper.trial": trial.id, "sweeper.evaluation": trial.evaluation_id}
