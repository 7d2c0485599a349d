"""Each thing that can be wrong with a machine, a store or a server, and what doctor says."""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from sweeper import doctor
from sweeper.cli import main
from sweeper.doctor import Finding, Patient
from sweeper.errors import CorruptRecord, EnvironmentFault, SpecError
from sweeper.record import Record
from sweeper.run import Place
from sweeper.spec import read
from sweeper.track.folder import Folder
from sweeper.track.reach import reach
from sweeper.trial import TrainerRef, Trial

ROOT = Path(__file__).parents[2]


def patient(folder: Path, **fields: object) -> Patient:
    place = {key: fields.pop(key) for key in ("data", "tracking") if key in fields}
    return Patient(place=Place(store=folder / "runs", **place), **fields)


def levels(findings: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@contextlib.contextmanager
def serving(**pages: tuple[int, str]) -> Iterator[str]:
    """A server with these pages, its clock an hour ahead."""

    class Pages(BaseHTTPRequestHandler):
        asked: ClassVar[list[tuple[str, str | None]]] = []

        def do_GET(self) -> None:
            self.asked.append((self.path, self.headers.get("Authorization")))
            code, said = pages.get(self.path.strip("/"), (404, "nothing here"))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(said.encode())

        def date_time_string(self, timestamp: float | None = None) -> str:
            return email.utils.formatdate(time.time() + 3600, usegmt=True)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    serving.asked = Pages.asked
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---- MLflow


def test_a_server_tells_its_version_and_its_clock():
    with serving(health=(200, "OK"), version=(200, "3.17.2")) as uri:
        answer = reach(uri.replace("//", "//me:se%40cret@"))
    assert answer.version == "3.17.2"
    assert answer.clock == pytest.approx(time.time() + 3600, abs=5)
    assert serving.asked == [(page, "Basic bWU6c2VAY3JldA==") for page in ("/health", "/version")]


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        ({"health": (401, "who?")}, "answers 401"),
        ({"health": (200, "<html>")}, "not as MLflow does"),
        ({}, "answers 404"),
    ],
)
def test_what_answers_and_is_no_mlflow(pages, says):
    with serving(**pages) as uri, pytest.raises(EnvironmentFault, match=says) as refused:
        reach(uri.replace("//", "//me:secret@"))
    assert "secret" not in str(refused.value)


def test_a_server_that_sends_us_elsewhere_does_not_have_the_password_sent_there():
    class Sending(BaseHTTPRequestHandler):
        to = ""
        asked: ClassVar[list[str | None]] = []

        def do_GET(self) -> None:
            self.asked.append(self.headers.get("Authorization"))
            self.send_response(302)
            self.send_header("Location", f"{self.to}{self.path}")
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    first = ThreadingHTTPServer(("127.0.0.1", 0), Sending)
    thread = threading.Thread(target=first.serve_forever, args=(0.01,))
    thread.start()
    try:
        with serving(health=(200, "OK"), version=(200, "3.17.2")) as Sending.to:
            answer = reach(f"http://me:secret@127.0.0.1:{first.server_port}")
    finally:
        first.shutdown()
        thread.join()
        first.server_close()
    assert answer.version == "3.17.2"
    assert serving.asked == [("/health", None), ("/version", None)]
    assert Sending.asked == ["Basic bWU6c2VjcmV0"] * 2


def test_a_server_that_hangs_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(EnvironmentFault, match="does not answer"):
            reach(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3)
        assert time.monotonic() - began < 3


def test_databases_and_what_is_none(tmp_path):
    file = tmp_path / "a b.db"
    uri = f"sqlite:///{file}"
    assert reach(uri).new
    assert not file.exists()
    with contextlib.closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES ('abc')")
    assert reach(uri).revision == "abc"
    file.write_bytes(b"not a database" * 100)
    for bad in (uri, str(tmp_path), f"file:{tmp_path}", "nonsense://host/x", "sqlite+no://"):
        with pytest.raises(EnvironmentFault):
            reach(bad)


def test_a_server_of_another_version_and_another_time(tmp_path):
    with serving(health=(200, "OK"), version=(200, "2.1.0")) as uri:
        sick = patient(tmp_path, tracking=uri)
        (version,) = doctor.mlflow(sick)
        (clock,) = doctor.clock(sick)
    assert version.level == "warn"
    assert "2.1.0" in version.found
    assert clock.level == "warn"
    assert "3,600 s behind that of MLflow's server" in clock.found.replace("3,599", "3,600")


# ---- the store and the clock


def test_a_store_that_is_there_one_that_is_not_and_one_that_cannot_be(tmp_path):
    assert "the first run makes it" in next(iter(doctor.store(patient(tmp_path)))).found
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs/trials").mkdir(parents=True)
    (tmp_path / "runs/trials/x").write_bytes(b"x" * 1500)
    assert "1.5 kB" in next(iter(doctor.store(patient(tmp_path)))).found
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["trials"]
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="is a file"):
        list(doctor.store(patient(tmp_path / "file")))


def test_file_systems_are_known_by_where_they_are_mounted(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "2 1 0:5 / /home/with\\040space rw - nfs4 server:/x rw\n"
        "3 1 0:6 / /home/with\\040space/tmp rw master:1 - tmpfs tmpfs rw\n"
    )
    kinds = {
        "/var": "ext4",
        "/home/with space/runs": "nfs4",
        "/home/with space/tmp": "tmpfs",
        "/home/with": "ext4",
    }
    found = {folder: doctor.file_system(Path(folder), mounts) for folder in kinds}
    assert found == kinds
    assert doctor.file_system(Path("/"), tmp_path / "none") is None


def test_room_is_measured_against_the_store(tmp_path):
    assert doctor.room(tmp_path, 0).level in ("ok", "warn")
    crowded = doctor.room(tmp_path, 10**18)
    assert crowded.level == "warn"
    assert "gc" in crowded.todo


def test_records_are_read_and_one_that_cannot_be_believed_is_wrong(tmp_path):
    store, there = Folder(tmp_path / "runs"), patient(tmp_path)
    assert list(doctor.records(there)) == []
    trials = [Trial(trainer=TrainerRef(function="x:y"), config={}, seed=n) for n in range(3)]
    for trial in trials:
        record = Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done")
        store.start(trial).finish(record)
    (well,) = doctor.records(there)
    assert (well.level, well.found) == ("ok", "those of 3 trials")
    for trial, name in zip(trials, ("journal.jsonl", "artifacts.json"), strict=False):
        path = store.path(trial.id) / name
        path.write_bytes(path.read_bytes().replace(b'"', b"'", 1))
    (sick,) = doctor.records(there)
    assert (sick.level, sick.exit_code) == ("wrong", CorruptRecord.exit_code)
    for trial, name in zip(trials, ("journal.jsonl", "artifacts.json"), strict=False):
        assert f"trials/{trial.id} ({name}:" in sick.found
    assert "sweeper gc --corrupt --delete" in sick.todo
    assert list(doctor.records(patient(tmp_path, quick=True))) == []


def test_a_record_of_tomorrow_is_told(tmp_path):
    trial = Trial(trainer=TrainerRef(function="a:b"), config={}, seed=0)
    attempt = Folder(tmp_path / "runs").start(trial)
    attempt.finish(Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done"))
    assert levels(doctor.clock(patient(tmp_path))) == ["ok"]
    (path,) = (tmp_path / "runs").glob("trials/*/result-*.json")
    path.write_bytes(b"half")
    tomorrow = time.time() + 86_400
    os.utime(path, (tomorrow, tomorrow))
    (warned,) = doctor.clock(patient(tmp_path))
    assert warned.level == "warn"
    assert "before the newest record" in warned.found


def test_memory_is_what_the_control_group_leaves(tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert doctor.memory(tmp_path) == (600_000, 1_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.memory(tmp_path)[1] == doctor.memory(tmp_path / "none")[1] > 10**8


# ---- packages and devices


def test_packages_are_those_of_the_project():
    python, packages = doctor.requirements()
    assert python.startswith(">=3.")
    assert any(text.startswith("torch") for text in packages)
    assert levels(doctor.python(patient(Path()))) == ["ok"]
    assert doctor.missing_of("ray", {"tune"}) == []
    assert not doctor.is_installed("no-such-package-anywhere")


GPU = {"name": "NVIDIA X", "free": 70e9, "total": 80e9}


@pytest.mark.parametrize(
    ("said", "present", "files", "expected"),
    [
        ({"cuda": None, "gpus": []}, 0, [], [("ok", "no CUDA device")]),
        ({"cuda": None, "gpus": []}, 2, ["nvidia0"], [("wrong", "built for the CPU")]),
        ({"cuda": "12", "gpus": []}, 1, ["nvidia0"], [("wrong", "their driver")]),
        ({"cuda": "12", "gpus": []}, 0, ["nvidia0"], [("warn", "hides nvidia0")]),
        (
            {"cuda": "12", "gpus": [GPU, GPU | {"free": 1e9}]},
            2,
            ["nvidia0", "nvidia1"],
            [("ok", "70.0 GB of 80.0 GB free"), ("warn", "somebody"), ("ok", "2 CUDA devices")],
        ),
        (
            {"cuda": "12", "gpus": [{"name": "cuda:0", "fault": "no kernel image"}]},
            1,
            ["nvidia0"],
            [("wrong", "no kernel image"), ("ok", "1 CUDA device")],
        ),
    ],
)
def test_devices(said, present, files, expected):
    found = list(doctor.devices({"version": "2.13"} | said, present, files))
    assert [finding.level for finding in found] == [level for level, _ in expected]
    for finding, (_, words) in zip(found, expected, strict=True):
        assert words in finding.found


# ---- other processes


def test_a_process_that_fails_dies_or_hangs_is_told():
    assert doctor.told_by("print('noise'); print('{\"a\": 1}')", 20) == {"a": 1}
    for code, says in {
        "import nothing_of_the_kind": "No module named 'nothing_of_the_kind'",
        "import os; os.kill(os.getpid(), 11)": "SIGSEGV",
        "raise SystemExit(3)": "failed",
    }.items():
        with pytest.raises(EnvironmentFault, match=says):
            doctor.told_by(code, 20)


def test_nothing_is_left_of_a_process_that_hangs(tmp_path):
    code = (
        "import subprocess, sys, time; from pathlib import Path\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(1000)"
    )
    with pytest.raises(EnvironmentFault, match="no answer within 1 s"):
        doctor.told_by(code, 1, str(tmp_path / "pid"))
    child = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    deadline = time.monotonic() + 5
    while child.exists() and ") Z" not in child.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.exists() or ") Z" in child.read_text()


# ---- all of it


def test_a_look_that_fails_is_a_finding_and_no_traceback(tmp_path, monkeypatch):
    def broken(patient: Patient) -> Iterator[Finding]:
        yield Finding(level="ok", found="so far")
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "CHECKS", {"broken": broken, "clock": doctor.clock})
    found = list(doctor.examine(patient(tmp_path)))
    assert [(f.check, f.level) for f in found] == [
        ("broken", "ok"),
        ("broken", "wrong"),
        ("clock", "ok"),
    ]
    assert found[1].found == "cannot be looked at: RuntimeError: two lines"


def test_a_sweep_and_its_data(tmp_path):
    sweep = read(ROOT / "sweeps/table3.yaml")
    well = patient(tmp_path, sweep=sweep)
    assert levels(doctor.sweep(well)) == ["ok"]
    (data,) = doctor.data(well)
    assert data.found == "2 corpora for 36 points, all there"
    assert levels(doctor.data(patient(tmp_path, corpora=tmp_path / "none"))) == ["wrong"]
    with pytest.raises(SpecError, match="half"):
        list(doctor.sweep(patient(tmp_path, sweep=SpecError("half a file"))))


def typed(*words: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", "--quick", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.slow
def test_as_a_person_types_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SWEEPER_STORE", "SWEEPER_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    file = str(ROOT / "sweeps/table3.yaml")
    good = typed(file)
    assert good.exit_code == 0, good.stdout
    assert [line.split()[1] for line in good.stdout.splitlines() if "wrong" in line] == []
    assert list(tmp_path.iterdir()) == []

    bad = typed(file, "--profile", "paper", "--tracking", "http://127.0.0.1:9", "--json")
    assert bad.exit_code == 3
    levels = {x["check"]: x["level"] for x in json.loads(bad.stdout)["findings"]}
    assert levels["mlflow"] == "warn"  # Trials run all the same.
    said = json.loads(bad.stdout)
    wrong = {finding["check"] for finding in said["findings"] if finding["level"] == "wrong"}
    assert "data" in wrong
    assert any("table1.yaml:" in finding["found"] for finding in said["findings"])

    worse = typed("nowhere.yaml", "--data", "nowhere")
    assert worse.exit_code == 2
    assert "there is no file 'nowhere.yaml'" in worse.stdout
    assert "the folder of corpora nowhere is not there" in worse.stdout


@pytest.mark.slow
def test_doctor_itself_loads_nothing_heavy(tmp_path):
    code = (
        "import sys; from sweeper import doctor; from sweeper.doctor import Patient\n"
        "from sweeper.run import Place; from pathlib import Path\n"
        "list(doctor.examine(Patient(place=Place(store=Path('runs').absolute()), quick=True)))\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.ray
def test_ray_starts_and_nothing_of_it_is_left(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory() as short:  # A socket's path has at most 107 characters.
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setenv("TMPDIR", short)
        (found,) = doctor.ray(patient(tmp_path))
        assert list(Path(short).iterdir()) == []
    assert found.level == "ok"
    assert "did a task" in found.found
