"""The published record: trials' folders in, MLflow runs out; and records read back from them.

All sweeps share one experiment, since a trial that two sweeps need is one run and MLflow
shows a run in one experiment only. Each sweep has, per profile, a parent run with its
tables in the note; a trial's run is the child of the sweep that published it first, and
carries a tag `sweeper.sweep.<name>.<profile>` for each sweep that needs it.

Everything here may be repeated: runs are looked for by tag before they are created,
points carry the timestamps of the journal, and one last batch of tags says what has
arrived, once MLflow was asked and has it: whatever stands between may answer 200 with
nothing in it, which the client takes for a success. This is the only module that imports
mlflow, and only inside functions: it takes two seconds. Nothing here runs on the path of
training: see courier.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sweeper.errors import EnvironmentFault
from sweeper.record import Record
from sweeper.redaction import conceal, without_secrets
from sweeper.track import pages
from sweeper.track.folder import Folder
from sweeper.track.parcel import (
    BATCH_ITEMS,
    BATCH_METRICS,
    DIGEST_CHARACTERS,
    Origin,
    Parcel,
    Point,
    batches,
    corpus,
    digest_of,
    is_path,
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
ARRIVED = "sweeper.arrived"  # {"points", "measured", "digest", "artifacts", "record"} of a run
ARTIFACT_BYTES = 10_000_000  # larger files stay in the folder
CONFIG, TABLES = "config.json", "tables.md"
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
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def default_uri(root: Path) -> str:
    """The embedded database of the store at `root`."""
    return f"sqlite:///{Path(root).absolute() / 'mlflow.db'}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A trial's run that has a result: its record, what has arrived of the rest (see ARRIVED),
    the names of its metrics, and when it began, in seconds since the epoch."""

    run_id: str
    record: Record
    arrived: Mapping[str, Any]
    metrics: tuple[str, ...]
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
        self._unsure: dict[Key, dict[str, str]] = {}  # Asked to be created: who knows how often.
        self._client: Any = None
        self._experiment_id = ""

    # --- reading -------------------------------------------------------------------------

    def find(self, trials: Iterable[Trial], origin: Origin | None = None) -> dict[Key, Record]:
        """A trial's key -> record, of the trials whose result was published. One that was changed
        since is one whose state is corrupt, and whose error says which run that is. With `origin`,
        the runs of that sweep are looked through first."""
        return {key: it.record for key, it in self.published(trials, origin).items()}

    def published(
        self, trials: Iterable[Trial], origin: Origin | None = None
    ) -> dict[Key, Published]:
        """The same, with the runs in which the records are."""
        wanted = {trial.key: trial for trial in trials}
        if not wanted or not self._exists():
            return {}
        found: dict[Key, Published] = {}
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
        self, runs: Iterable[Any], wanted: Mapping[Key, Trial], found: dict[Key, Published]
    ) -> None:
        for run in runs:
            said = run.data.tags
            key = Key(said.get("sweeper.trial", ""), said.get("sweeper.evaluation", ""))
            if key not in wanted:
                continue
            try:
                record = record_of(said)
                if record is not None and record.key != key:
                    raise ValueError(f"this is the record of trial {record.trial_id}")
                arrived = json.loads(said.get(ARRIVED, "{}"))
            except (ValueError, KeyError, TypeError) as fault:
                arrived = {}
                record = Record(
                    trial_id=key.trial_id,
                    evaluation_id=key.evaluation_id,
                    state="corrupt",
                    error=f"{RUN} {run.info.run_id}: {fault}",
                )
            if record is not None:
                found.setdefault(
                    key,
                    Published(
                        run_id=run.info.run_id,
                        record=record,
                        arrived=arrived,
                        metrics=tuple(run.data.metrics),
                        began=run.info.start_time / 1000,
                    ),
                )

    def points(self, there: Published) -> list[Point]:
        """All of a run's, by metric."""
        with self._reachable():
            return [
                Point(key=key, value=it.value, at_ms=it.timestamp, step=it.step)
                for key in there.metrics
                for it in self._client.get_metric_history(there.run_id, key)
            ]

    def download(self, there: Published, folder: Path) -> None:
        """A run's files into a folder, under their names."""
        with self._reachable():
            left: list[str | None] = [None]
            while left:
                for file in self._client.list_artifacts(there.run_id, left.pop()):
                    if not is_path(file.path):
                        raise EnvironmentFault(self._says(f"a file is called {file.path!r}"))
                    if file.is_dir:
                        left.append(file.path)
                    else:
                        inside = (folder / file.path).parent
                        inside.mkdir(parents=True, exist_ok=True)
                        self._client.download_artifacts(there.run_id, file.path, str(inside))

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
                # points back, only runs. Other sweeps need the trial as before.
                self._client.delete_run(run.info.run_id)
                sweeps = sweeps_of(run)
                run, arrived, sent = self._child(parcel, origin), {}, 0
                self._send_tags(run.info.run_id, sweeps)
            if not arrived:
                self._describe(run.info.run_id, parcel)
            self._send_points(run.info.run_id, parcel.points[sent:])
            files = folder.artifacts(trial.id) if parcel.record else {}
            arrived_files = self._send_files(
                run.info.run_id, folder.standing(trial.id), files, arrived
            )
            if not arrived or parcel.points[sent:]:
                self._confirm(run.info.run_id, parcel)
            self._conclude(run, parcel, arrived_files)

    def publish_tables(
        self, origin: Origin, tables: Mapping[str, str], files: Iterable[Path] = ()
    ) -> None:
        """The tables (name -> markdown) into the note of the sweep's run, `files` beside."""
        whole = "\n\n".join(f"## {name}\n\n{markdown}" for name, markdown in tables.items())
        with self._reachable():
            parent = self._parent(origin)
            said = pages.note(tables, self._experiment_id, origin)
            files = list(files)
            self._client.set_tag(parent, NOTE, self._with_figures(parent, said))
            self._client.log_text(parent, whole + "\n", f"tables/{TABLES}")
            for file in files:
                self._client.log_artifact(parent, str(file), "tables")
            self._confirm_shown(parent, "tables", [TABLES, *(file.name for file in files)])

    def publish_figures(self, origin: Origin, files: Iterable[Path]) -> None:
        """Pictures into the folder `figures` of the sweep's run, and into its note."""
        with self._reachable():
            parent = self._parent(origin)
            files = list(files)
            for file in files:
                self._client.log_artifact(parent, str(file), "figures")
                if framed := pages.framed(file.read_bytes()):
                    name = f"figures/{file.stem}{pages.SHOWN}"
                    self._client.log_text(parent, framed, name)
            said = self._client.get_run(parent).data.tags.get(NOTE)
            said = said or pages.note({}, self._experiment_id, origin)
            self._client.set_tag(parent, NOTE, self._with_figures(parent, said))
            self._confirm_shown(parent, "figures", [file.name for file in files])

    def _confirm_shown(self, parent: str, folder: str, names: Iterable[str]) -> None:
        there = {Path(it.path).name for it in self._client.list_artifacts(parent, folder)}
        lost = [name for name in names if name not in there]
        if lost or NOTE not in self._client.get_run(parent).data.tags:
            raise EnvironmentFault(self._says(f"it has not taken {(lost or [folder])[0]}"))

    def _with_figures(self, parent: str, note: str) -> str:
        there = (Path(it.path).name for it in self._client.list_artifacts(parent, "figures"))
        return pages.with_figures(note, parent, sorted(f for f in there if f.endswith(pages.SHOWN)))

    def kill(self, runs: Iterable[Running]) -> None:
        """Marks them as KILLED: nobody is at them any more."""
        with self._reachable():
            for run in runs:
                self._client.set_terminated(run.run_id, "KILLED")

    def close(self, origin: Origin, state: str = "FINISHED") -> None:
        """Marks the sweep's run as ended, if there is one: FINISHED, FAILED or KILLED. What a
        request has created that was given up, and that MLflow came to later, is deleted."""
        if origin.tag in self._parents or self._unsure:
            with self._reachable():
                for tags in self._unsure.values():
                    self._only(tags)
                if origin.tag in self._parents:
                    parent = self._parents[origin.tag]
                    for run in self._runs(sweep_names(origin)):
                        if run.info.run_id != parent and not self._is_used(run):
                            self._client.delete_run(run.info.run_id)
                    self._client.set_terminated(parent, state)

    def _is_used(self, parent: Any) -> bool:
        """Whether a sweep's run has something to show, or is the parent of a trial's."""
        children = self._runs({"mlflow.parentRunId": parent.info.run_id})
        return NOTE in parent.data.tags or any(True for _ in children)

    def _child(self, parcel: Parcel, origin: Origin) -> Any:
        """The trial's run, found or created."""
        run, sweeps = self._only(names(parcel.trial))
        if run is None:
            tags = {**parcel.tags, "mlflow.parentRunId": self._parent(origin)}
            self._unsure[parcel.trial.key] = names(parcel.trial)
            self._client.create_run(
                self._experiment_id,
                start_time=parcel.started_ms,
                tags=tags,
                run_name=tags["mlflow.runName"],
            )
            run, sweeps = self._only(names(parcel.trial))  # Another process may have been at it.
            if run is None:
                raise EnvironmentFault(self._says(f"it has no run of trial {parcel.trial.id}"))
        wanted = dict(parcel.tags) | sweeps
        new = {key: x for key, x in wanted.items() if key not in run.data.tags}
        self._send_tags(run.info.run_id, new)
        return run

    def _only(self, tags: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
        """The run with these tags, if there is one. Where processes have created one each, or
        an answer was lost, all keep the same of them, and delete the others: what those say
        of sweeps that need the trial is given back."""
        there = sorted(
            self._runs(tags),
            key=lambda run: (ARRIVED not in run.data.tags, run.info.start_time, run.info.run_id),
        )
        sweeps: dict[str, str] = {}
        for ghost in there[1:]:
            sweeps |= sweeps_of(ghost)
            self._client.delete_run(ghost.info.run_id)
        return (there[0] if there else None), sweeps

    def _parent(self, origin: Origin) -> str:
        if origin.tag not in self._parents:
            tags = sweep_names(origin)
            if not (there := list(self._runs(tags))):
                name = pages.title(origin)
                self._client.create_run(self._experiment_id, tags=tags, run_name=name)
                there = list(self._runs(tags))  # There may have been one.
            if not there:
                raise EnvironmentFault(self._says(f"it has no run of {origin.sweep}"))
            run = min(there, key=lambda run: (run.info.start_time, run.info.run_id))
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
        self._client.log_text(run_id, parcel.config, CONFIG)
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
        digest = files_digest(small)
        if small and arrived.get("artifacts") != digest:
            for path in small:
                inside = Path(path).relative_to("artifacts").parent.as_posix()
                inside = None if inside == "." else inside
                self._client.log_artifact(run_id, str(folder / path), inside)
            self._confirm_files(run_id, small)
        return digest

    def _confirm_files(self, run_id: str, files: Mapping[str, Any]) -> None:
        inside = {path: Path(path).relative_to("artifacts").as_posix() for path in files}
        folders = {Path(name).parent.as_posix() for name in inside.values()}
        there = {
            file.path: file.file_size
            for folder in folders
            for file in self._client.list_artifacts(run_id, None if folder == "." else folder)
        }
        for path, name in inside.items():
            if there.get(name) != files[path]["bytes"]:
                raise EnvironmentFault(self._says(f"it has not the file {name}"))

    def _confirm(self, run_id: str, parcel: Parcel) -> None:
        """Raises EnvironmentFault unless MLflow has what it was just sent. Of a trial whose
        points are few enough for one batch the last of each name stand for all."""
        run = self._client.get_run(run_id)
        last = {point.key: point.value for point in parcel.points}
        lost = [key for key, x in parcel.params.items() if run.data.params.get(key) != x]
        lost += [key for key, x in last.items() if run.data.metrics.get(key) != x]
        if len(parcel.points) > BATCH_METRICS:
            wanted = Counter(point.key for point in parcel.points)
            for key, count in wanted.items():
                lost += [key] * (len(self._client.get_metric_history(run_id, key)) < count)
        if parcel.trial.data_digest and not run.inputs.dataset_inputs:
            lost.append("its data")
        if not any(file.path == CONFIG for file in self._client.list_artifacts(run_id)):
            lost.append(CONFIG)
        if lost:
            raise EnvironmentFault(self._says(f"it has not taken {', '.join(lost[:3])}"))

    def _says(self, what: str) -> str:
        return f"MLflow at {without_secrets(self.uri)} answers, and {what}"

    def _conclude(self, run: Any, parcel: Parcel, artifacts: str) -> None:
        """One batch says what has arrived, after it has."""
        arrived = {
            "points": len(parcel.points),
            "measured": parcel.measured,
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
        now = self._client.get_run(run.info.run_id)
        there = all(now.data.tags.get(key) == x for key, x in tags.items())
        if not there or now.info.status != parcel.status:
            raise EnvironmentFault(self._says("it has not taken the result"))

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
        from google.protobuf.json_format import ParseError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._client is None:
                self._connect()
            yield
        except (
            MlflowException,
            SQLAlchemyError,
            OSError,
            ImportError,
            ValueError,
            ParseError,
        ) as fault:
            self._forget()
            where = without_secrets(self.uri)
            said = conceal(str(fault).replace(self.uri, where)).partition("\n")[0]
            raise EnvironmentFault(f"MLflow at {where}: {said[:300]}") from fault

    def _forget(self) -> None:
        """The client, and where it believes that runs have their artifacts: an empty answer
        would be believed for ever."""
        from mlflow.tracking._tracking_service import utils

        getattr(utils, "_artifact_repos_cache", {}).clear()
        self._client = None

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
            if not there.experiment_id:
                raise EnvironmentFault(self._says("not as MLflow does"))
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


def sweeps_of(run: Any) -> dict[str, str]:
    """What a trial's run says of sweeps that need it."""
    return {key: x for key, x in run.data.tags.items() if key.startswith("sweeper.sweep.")}


def files_digest(files: Mapping[str, Any]) -> str:
    """Of small files, path below the trial's folder -> {"sha256", "bytes"}."""
    return checksum(json.dumps(files, sort_keys=True).encode())


def sweep_names(origin: Origin) -> dict[str, str]:
    """The tags by which a sweep's run is found."""
    return {
        "sweeper.kind": "sweep",
        "sweeper.sweep": origin.sweep,
        "sweeper.profile": origin.profile,
    }


def names(trial: Trial) -> dict[str, str]:
    """The tags by which a trial's run is found."""
    return {"sweeper.trial": trial.id, "sweeper.evaluation": trial.evaluation_id}
