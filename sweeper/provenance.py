"""A trial in; what made its result out: code, commit, packages, machine, data.

Recorded with every result and no part of a trial's identity. Nothing heavy is imported
for it: sources are found and read, versions asked of the installed packages.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sweeper.errors import EnvironmentFault
from sweeper.trainer import ENTRY_POINTS, located
from sweeper.trial import ID_CHARACTERS, TrainerRef, Trial

PACKAGES = ("sweeper", "torch", "numpy", "ray", "mlflow")
GIT_SECONDS = 5.0


def stamp(trial: Trial) -> dict[str, Any]:
    """What is known of the code, the packages, the machine and the data behind a result.
    To be taken before the trainer is imported: what is edited while it runs did not make
    it. Its device has a name only afterwards: see `device_name`."""
    sources = source_files(trial.trainer)
    return {
        "code_digest": code_digest(trial.trainer),
        **git_state(sources[0].parent if sources else Path.cwd()),
        "python": platform.python_version(),
        "packages": versions(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "host": socket.gethostname(),
        "data_digest": trial.data_digest,
    }


@cache
def code_digest(trainer: TrainerRef) -> str | None:
    """Digest of the sources a trainer is made of: every *.py of the top-level package that
    its function and its configuration module are in, or the files that its command line
    names. None where there are none to read. Cached, since what a process has imported is
    what was there when it began."""
    files = source_files(trainer)
    if not files:
        return None
    folder = os.path.commonpath([file.parent for file in files])
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:ID_CHARACTERS]


def source_files(trainer: TrainerRef) -> list[Path]:
    """Sorted; found without importing the trainer."""
    if trainer.command is not None:
        named = (Path(word).absolute() for word in located(trainer)[1:])
        return sorted({path for path in named if path.is_file()})
    modules = {module_of(trainer.function), trainer.config or ""}
    packages = {module.partition(".")[0] for module in modules if module}
    return sorted({path for package in packages for path in package_files(package)})


def module_of(function: str) -> str:
    """ "pkg.module:name" or the name of an entry point -> the module's name, or ""."""
    if ":" not in function:
        points = importlib.metadata.entry_points(group=ENTRY_POINTS, name=function)
        function = next((point.value for point in points), "")
    return function.partition(":")[0]


def package_files(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # A module that was put into sys.modules by hand has no spec.
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    roots = map(Path, spec.submodule_search_locations)
    return [path for root in roots for path in root.rglob("*.py") if path.is_file()]


@cache
def git_state(folder: Path) -> dict[str, Any]:
    """{"commit", "dirty"} of the work tree that holds `folder`; both None outside one.
    Dirty are changes to Python sources in `folder`, those that git does not know among
    them: a README edited meanwhile made no number."""
    try:
        commit = git(folder, "rev-parse", "HEAD")
        changed = git(folder, "status", "--porcelain", "--untracked-files=all", "--", "*.py")
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changed)}


def git(folder: Path, *arguments: str) -> str:
    """What git says; it takes no lock that somebody else may want."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        check=True,
    )
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def here(device: str | None) -> dict[str, Any]:
    """What a result would be made with here and now, as `stamp` says it; the device only where
    its kind is known, and a GPU only where the driver names it."""
    known = {"python": platform.python_version(), "packages": versions()}
    if device is not None and device.startswith("cuda"):
        model = gpu_model()
        return known | ({"device": f"{device}: {model}"} if model else {})
    return known | ({"device": device} if device else {})


@cache
def gpu_model(driver: Path = Path("/proc/driver/nvidia/gpus")) -> str | None:
    """Of the first GPU, as its driver names it, without loading torch; None where there is
    none or it says nothing."""
    for path in sorted(driver.glob("*/information")):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    return None


def running(trainer: TrainerRef) -> dict[str, str | None]:
    """What runs this process, and how the trainer's code is on the disk now: to be compared with
    another process's that is to do the same."""
    return {**process(), CODE: code_digest.__wrapped__(trainer)}


CODE = "code of the trainer"


def process() -> dict[str, str | None]:
    packages = {name: versions().get(name) for name in ("sweeper", "torch", "numpy")}
    return {"host": socket.gethostname(), "Python": platform.python_version(), **packages}


def refuse_other(theirs: Mapping[str, str | None], trainer: TrainerRef) -> None:
    """Raises EnvironmentFault where this process is not run by what the driver is. On the
    driver's own machine a trainer's code that differs was edited meanwhile: that is recorded."""
    ours = process()
    if ours["host"] != theirs["host"]:
        ours = running(trainer)
    differing = [
        f"{what} {theirs.get(what) or 'absent'} there and {ours[what] or 'absent'} here"
        for what in ours
        if what != "host" and theirs.get(what) != ours[what]
    ]
    if differing:
        raise EnvironmentFault(
            f"the driver on {theirs['host']} and a worker on {ours['host']} differ: "
            f"{'; '.join(differing)}; their results would be of two programs"
        )


def device_name(device: str) -> str:
    """ "cuda" -> "cuda: NVIDIA ...", if the trainer has imported torch: it is not done here."""
    torch = sys.modules.get("torch")
    if not device.startswith("cuda") or torch is None or not torch.cuda.is_available():
        return device
    return f"{device}: {torch.cuda.get_device_name(device)}"
