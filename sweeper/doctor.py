"""A store and a machine in; what is right and wrong with them, a finding a line, out.

What is heavy (torch, Ray) is asked in a process of its own, with a time limit: a library
that hangs or crashes when it is loaded is a finding too. Nothing is changed.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil

from sweeper import cleaning, dispatch
from sweeper.answers import ask
from sweeper.design import expand
from sweeper.dispatch import scratch
from sweeper.errors import CorruptRecord, EnvironmentFault, SweeperError
from sweeper.redaction import without_secrets
from sweeper.run import Place, check_trainers
from sweeper.sizes import bytes_in_words, measured
from sweeper.sizes import clock as clock_time
from sweeper.spec import Sweep
from sweeper.track.folder import RESULT, Folder
from sweeper.track.lease import file_system_time
from sweeper.track.mlflow import default_uri
from sweeper.track.reach import Answer, reach
from sweeper.track.sealed import unseal

Level = Literal["ok", "warn", "wrong"]

TORCH_SECONDS = 60.0  # the first import of it on a cold disk
RAY_SECONDS = 90.0
LITTLE_DISK = 5e9  # bytes
LITTLE_MEMORY = 1e9
MOST_TOLD = 3  # of a kind, in one finding
CLOCK_SECONDS = 2.0  # that two clocks may differ by: HTTP tells whole seconds
# Where locks, renames or times may not be what they are on a disk.
SHARED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "glusterfs"}
SHARED |= {"lustre", "gpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "vboxsf"}
IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look gave; `todo` is what a person does about it. `exit_code` is that of
    what would go wrong: as a rule, that the environment is not fit."""

    level: Level
    found: str
    todo: str = ""
    check: str = ""
    exit_code: int = EnvironmentFault.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is looked at. `sweep`: the one whose trials are to run here, or the error that
    reading it gave. `corpora` is the folder as it was given, there or not."""

    place: Place
    corpora: Path | None = None
    sweep: Sweep | SweeperError | None = None
    quick: bool = False  # Without what takes more than a few seconds.

    @property
    def uri(self) -> str:
        return self.place.tracking or default_uri(self.place.store)


def examine(patient: Patient) -> Iterator[Finding]:
    """Finding after finding, as they are made. Raises nothing: a look that fails is one."""
    for name, check in CHECKS.items():
        try:
            for finding in check(patient):
                yield replace(finding, check=name)
        except SweeperError as error:
            for problem in error.problems:
                yield Finding(
                    check=name, level="wrong", found=str(problem), exit_code=error.exit_code
                )
        except Exception as fault:
            said = f"{type(fault).__name__}: {' '.join(str(fault).split())}"
            yield Finding(check=name, level="wrong", found=f"cannot be looked at: {said[:300]}")


# ---- Python and packages


def python(patient: Patient) -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    wanted, _ = requirements()
    there = platform.python_version()
    if SpecifierSet(wanted).contains(there, prereleases=True):
        yield Finding(level="ok", found=f"{there} ({sys.executable})")
    else:
        yield Finding(
            level="wrong",
            found=f"{there}, and {wanted} is needed",
            todo="make a virtual environment with a newer Python",
        )


def packages(patient: Patient) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    _, texts = requirements()
    good = []
    for wanted in map(Requirement, texts):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            there = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found = f"{wanted.name} is not installed, and {wanted.name}{wanted.specifier} is needed"
            yield Finding(level="wrong", found=found, todo=f"pip install '{wanted}'")
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            found = f"{wanted.name} {there}, and {wanted.specifier} is needed"
            yield Finding(level="wrong", found=found, todo=f"pip install '{wanted}'")
            continue
        if missing := missing_of(wanted.name, wanted.extras):
            found = f"{wanted} lacks {', '.join(missing)}"
            yield Finding(level="wrong", found=found, todo=f"pip install '{wanted}'")
            continue
        good.append(f"{wanted.name} {there}")
    yield Finding(level="ok", found=f"{', '.join(good)}")


def requirements() -> tuple[str, list[str]]:
    """What the project says it needs: (of Python, of packages). From the pyproject.toml
    beside the sources; an installation from them may be older than that."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if project["name"] == "sweeper":
            return project["requires-python"], project["dependencies"]
    except (OSError, KeyError, ValueError):
        pass
    said = importlib.metadata.metadata("sweeper")
    return said["Requires-Python"], importlib.metadata.requires("sweeper") or []


def missing_of(name: str, extras: set[str]) -> list[str]:
    """What an extra of a package asks for and is not installed."""
    from packaging.requirements import Requirement

    missing = []
    for wanted in map(Requirement, importlib.metadata.requires(name) or []):
        asked = wanted.marker is not None and any(
            wanted.marker.evaluate({"extra": extra}) for extra in extras
        )
        if asked and not is_installed(wanted.name):
            missing.append(wanted.name)
    return missing


def is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# ---- the machine

TORCH = """
import json, torch
gpus = []
for n in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    try:
        ones = torch.ones(64, 64, device=f"cuda:{n}")
        assert (ones @ ones).sum().item() == 64**3
        free, total = torch.cuda.mem_get_info(n)
        gpus.append({"name": torch.cuda.get_device_name(n), "free": free, "total": total})
    except Exception as fault:
        gpus.append({"name": f"cuda:{n}", "fault": " ".join(str(fault).split())[:200]})
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""


def torch(patient: Patient) -> Iterator[Finding]:
    files = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    yield from devices(told_by(TORCH, TORCH_SECONDS), dispatch.gpus_present(), files)


def devices(said: dict[str, Any], present: int, files: Sequence[str]) -> Iterator[Finding]:
    """`said` by torch; `present` GPUs that a run would count on, the device `files` there."""
    usable = said["gpus"]
    yield from (gpu(number, one) for number, one in enumerate(usable))
    count = f"{len(usable) or 'no'} CUDA device{'s' * (len(usable) > 1)}"
    found = f"{said['version']}, {count}"
    if present and not usable:
        built = "this torch is built for the CPU"
        why = built if said["cuda"] is None else "their driver does not serve it"
        yield Finding(
            level="wrong",
            found=f"{found}, though there are {present}: {why}",
            todo="install a torch built for CUDA; export CUDA_VISIBLE_DEVICES= keeps to the CPU",
        )
    elif files and not present:
        yield Finding(
            level="warn",
            found=f"{found}: CUDA_VISIBLE_DEVICES hides {', '.join(files)}",
            todo="unset CUDA_VISIBLE_DEVICES to use it",
        )
    else:
        yield Finding(level="ok", found=found)


def gpu(number: int, said: dict[str, Any]) -> Finding:
    if "fault" in said:
        return Finding(level="wrong", found=f"GPU {number}: {said['fault']}")
    free = f"{bytes_in_words(said['free'])} of {bytes_in_words(said['total'])} free"
    if said["free"] < said["total"] / 10:
        return Finding(
            level="warn",
            found=f"GPU {number}: {said['name']}, {free}: somebody uses it",
            todo="nvidia-smi says who; CUDA_VISIBLE_DEVICES chooses another",
        )
    return Finding(level="ok", found=f"GPU {number}: {said['name']}, {free}")


def machine(patient: Patient) -> Iterator[Finding]:
    granted, all_cores = dispatch.cores(), os.cpu_count() or 1
    cores = f"{granted} core{'s' * (granted > 1)}"
    if granted < all_cores:
        cores += f" granted of {all_cores}"
    free, total = memory()
    found = f"{cores}, {bytes_in_words(free)} of {bytes_in_words(total)} memory free"
    if free < LITTLE_MEMORY:
        yield Finding(level="warn", found=found, todo="end what uses it, or run with --slots 1")
    else:
        yield Finding(level="ok", found=found)


def memory(root: Path = Path("/sys/fs/cgroup")) -> tuple[float, float]:
    """(free, all) bytes that this process may use: the machine's, or what its control group
    leaves of them."""
    there = psutil.virtual_memory()
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, taken = ((root / name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if most.isdigit() and int(most) < there.total:
            return min(there.available, int(most) - int(taken)), int(most)
    return there.available, there.total


RAY = """
import sys, time
from pathlib import Path
began = time.monotonic()
from sweeper.dispatch.ray_cluster import rehearse
import json, ray
rehearse(Path(sys.argv[1]))
print(json.dumps({"version": ray.__version__, "seconds": time.monotonic() - began}))
"""


def ray(patient: Patient) -> Iterator[Finding]:
    left = list(scratch.abandoned())
    if orphans := processes_in(left):
        yield Finding(
            level="warn",
            found=f"processes of Ray whose driver has died: {', '.join(map(str, orphans))}",
            todo=f"kill {' '.join(map(str, orphans))}",
        )
    if left:
        size = bytes_in_words(sum(measured(path)[0] for path in left))
        yield Finding(
            level="warn",
            found=f"{len(left)} folders of drivers that died in {left[0].parent}, {size}",
            todo="the next run with Ray removes them",
        )
    if patient.quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        said = told_by(RAY, RAY_SECONDS, folder)
    yield Finding(
        level="ok", found=f"{said['version']} started and did a task in {said['seconds']:.0f} s"
    )


def processes_in(folders: Sequence[Path]) -> list[int]:
    """Ids of the processes that were started with one of the folders in their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]) if folders else ():
        said = " ".join(process.info["cmdline"] or ())
        if any(str(folder) in said for folder in folders):
            found.append(process.pid)
    return found


def told_by(code: str, seconds: float, *arguments: str) -> dict[str, Any]:
    """What a Python of its own says in JSON on the last line of its output. Raises
    EnvironmentFault where it fails, or does not within `seconds`; nothing of it is left."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"no answer within {seconds:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode < 0:
        raise EnvironmentFault(f"ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        said = next(reversed(err.strip().splitlines()), "failed")
        raise EnvironmentFault(re.sub(r"^sweeper\.errors\.\w+: ", "", said)[:300])
    return json.loads(out.strip().splitlines()[-1])


# ---- MLflow


def mlflow(patient: Patient) -> Iterator[Finding]:
    own = importlib.metadata.version("mlflow")
    where = without_secrets(patient.uri)
    answer = answer_of(patient.uri)
    if isinstance(answer, EnvironmentFault):
        yield Finding(
            level="warn",
            found=str(answer),
            todo="start it, or give another with --tracking; with --offline trials run all the "
            "same, and sweeper sync delivers what MLflow has missed",
        )
        return
    if answer.new:
        yield Finding(level="ok", found=f"{own}; the first run makes {where}")
    elif answer.version and major(answer.version) != major(own):
        yield Finding(
            level="warn",
            found=f"{where} is {answer.version}, and {own} is installed here",
            todo="let both be of one version",
        )
    else:
        version = f"{answer.version} answers" if answer.version else "answers"
        yield Finding(level="ok", found=f"{own}; {where} {version}")


@cache
def answer_of(uri: str) -> Answer | EnvironmentFault:
    """Asked once: a server that hangs is waited for once."""
    try:
        return reach(uri)
    except EnvironmentFault as fault:
        return fault


def major(version: str) -> str:
    return version.partition(".")[0]


# ---- the store


def store(patient: Patient) -> Iterator[Finding]:
    root = patient.place.store
    there = nearest(root)
    if not there.is_dir():
        raise EnvironmentFault(f"{there} is a file, and the store is to be a folder")
    try:
        kept = keeps_locks(there)
    except OSError as fault:
        yield Finding(
            level="wrong",
            found=f"cannot write in {there}: {fault.strerror or fault}",
            todo="give another folder with --store",
        )
        return
    kind = file_system(there)
    size = measured(root)[0] if root.is_dir() else 0
    held = f"{root}: {bytes_in_words(size)}" if root.is_dir() else f"{root}: the first run makes it"
    if not kept:
        yield Finding(
            level="wrong",
            found=f"{kind or 'the file system'} under {there} keeps no locks",
            todo="put the store on another disk with --store",
        )
    elif kind in SHARED:
        yield Finding(
            level="warn",
            found=f"{held}, on {kind}: MLflow's database is not safe there with two writers",
            todo="put the database on a local disk or a server with --tracking",
        )
    elif kind in IN_MEMORY:
        yield Finding(
            level="warn",
            found=f"{held}, on {kind}, which is memory: it is lost with the machine",
            todo="put the store on a disk with --store",
        )
    else:
        yield Finding(level="ok", found=held)
    yield room(there, size)


def records(patient: Patient) -> Iterator[Finding]:
    """Whether what is written in the store can be believed; all of it is read."""
    root = patient.place.store
    if patient.quick or not (root / "trials").is_dir():
        return
    found = list(cleaning.corrupt(root))
    count = len(Folder(root).ids())
    if not found:
        yield Finding(level="ok", found=f"those of {count} trial{'s' * (count != 1)}")
        return
    told = [f"{one.path.relative_to(root)} ({one.says})" for one in found[:MOST_TOLD]]
    more = [f"{len(found) - MOST_TOLD} more"] if len(found) > MOST_TOLD else []
    yield Finding(
        level="wrong",
        found=f"cannot be believed: {', '.join([*told, *more])}",
        todo="sweeper gc --corrupt --delete removes it, and the next run makes it anew",
        exit_code=CorruptRecord.exit_code,
    )


def nearest(path: Path) -> Path:
    """The path, or the first folder above it that is there."""
    return next(p for p in (path, *path.parents) if p.exists())


def room(folder: Path, size: int) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{bytes_in_words(free)} free on the disk of {folder}"
    inodes = os.statvfs(folder)
    if inodes.f_files and inodes.f_favail < 1000:
        return Finding(
            level="wrong",
            found=f"no more than {inodes.f_favail} files can be made on the disk of {folder}",
            todo="sweeper gc says what nobody needs",
        )
    if free < max(LITTLE_DISK, size):
        return Finding(
            level="warn",
            found=found if free < LITTLE_DISK else f"{found}, less than the store's own size",
            todo="sweeper gc says what nobody needs",
        )
    return Finding(level="ok", found=found)


def keeps_locks(folder: Path) -> bool:
    """Whether what leases, records and MLflow's database rest on holds in `folder`: a file
    is created once, a rename replaces, a lock locks. Raises OSError where nothing can be
    written."""
    probe = Path(tempfile.mkdtemp(prefix=".doctor-", dir=folder))
    try:
        first, second = probe / "first", probe / "second"
        with open(first, "x") as file:
            file.write("first")
            file.flush()
            os.fsync(file.fileno())
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        second.write_text("second")
        os.replace(first, second)
        try:
            os.close(os.open(second, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return second.read_text() == "first" and not first.exists()
        return False
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Its type, "ext4" or "nfs4", where the system tells."""
    best, kind = "", None
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        # 36 35 98:0 /inside /mounted/at options shared:1 - ext4 /dev/sda options
        fields, _, of_device = line.partition(" - ")
        at = fields.split()[4].replace("\\040", " ")
        if folder.is_relative_to(at) and len(at) >= len(best):
            best, kind = at, of_device.split()[0]
    return kind


# ---- the sweep and its data


def sweep(patient: Patient) -> Iterator[Finding]:
    if patient.sweep is None:
        return
    if isinstance(patient.sweep, SweeperError):
        raise patient.sweep
    check_trainers(patient.sweep)
    resources = dispatch.fitted(patient.sweep.resources)
    room = dispatch.slots(resources)
    takes = f"{resources.cpus} core{'s' * (resources.cpus > 1)}"
    takes += f" and {resources.gpus:g} GPU" if resources.gpus else ""
    found = f"{patient.sweep.name} · {patient.sweep.profile}: a trial takes {takes}: {room} at once"
    if resources.cpus > dispatch.cores():
        todo = "it runs, slower; resources.cpus in the file says what a trial takes"
        yield Finding(level="warn", found=f"{found}, on fewer cores than that", todo=todo)
    else:
        yield Finding(level="ok", found=found)


def data(patient: Patient) -> Iterator[Finding]:
    given = patient.corpora
    if given is not None and not given.is_dir():
        yield Finding(
            level="wrong",
            found=f"the folder of corpora {given} is not there",
            todo="give another with --data or SWEEPER_DATA",
        )
        return
    if isinstance(patient.sweep, Sweep):
        trials = expand(patient.sweep, patient.place.data)
        corpora = {trial.data_digest for trial in trials if trial.data_digest}
        count = f"{len(corpora)} corpora" if len(corpora) != 1 else "1 corpus"
        told = f"{count} for {len(trials)} points, all there"
        yield Finding(level="ok", found=told if corpora else "the trainer names none")
        return
    known = ask("trainers.config", "corpus_names", patient.place.data)
    where = f"in {given} and built in" if given else "built in"
    yield Finding(level="ok", found=f"{where}: {', '.join(known)}")


# ---- the clock


def clock(patient: Patient) -> Iterator[Finding]:
    """Times are labels, here: leases and durations are counted by other clocks. A wrong one
    gives runs in MLflow and records that are out of order."""
    root = nearest(patient.place.store)
    ahead = {}
    if root.is_dir() and os.access(root, os.W_OK):
        ahead["the store's disk"] = file_system_time(root) - time.time()
    if patient.uri.startswith(("http://", "https://")):
        answer = answer_of(patient.uri)
        if isinstance(answer, Answer) and answer.clock is not None:
            ahead["MLflow's server"] = answer.clock - time.time()
    told = False
    for what, seconds in ahead.items():
        if abs(seconds) > CLOCK_SECONDS:
            told = True
            side = "behind" if seconds > 0 else "ahead of"
            yield Finding(
                level="warn",
                found=f"this machine's clock is {abs(seconds):,.0f} s {side} that of {what}",
                todo="set it, best by a time server",
            )
    newest = newest_record(patient.place.store)
    if newest > time.time() + CLOCK_SECONDS:
        told = True
        yield Finding(
            level="warn",
            found=f"now is before the newest record, of {clock_time(newest, True)}",
            todo="set this machine's clock, best by a time server",
        )
    if not told:
        agreeing = "".join(f", as {what} has it" for what in ahead)
        yield Finding(level="ok", found=clock_time(time.time(), True) + agreeing)


def newest_record(root: Path) -> float:
    """When the last record ended, by the clock of who wrote it; 0 without any."""
    newest, last = 0.0, None
    for path in (root / "trials").glob("*/result-*.json"):
        written = path.lstat().st_mtime
        if RESULT.fullmatch(path.name) and written > newest:
            newest, last = written, path
    if last is None:
        return 0.0
    try:
        return float(unseal(last.read_bytes().rstrip(b"\n")).get("finished_at") or newest)
    except (OSError, ValueError):
        return newest


CHECKS: dict[str, Callable[[Patient], Iterator[Finding]]] = {
    "python": python,
    "packages": packages,
    "torch": torch,
    "machine": machine,
    "ray": ray,
    "mlflow": mlflow,
    "store": store,
    "records": records,
    "sweep": sweep,
    "data": data,
    "clock": clock,
}
