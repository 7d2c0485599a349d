"""Trials in, records out, by one of the ways named here; and what this machine has room for.

    dispatch(trials, surroundings, on_record, *, resources, slots=None, stop=None, hurry=None)

`trials` may be lazy and are started in the order given; None among them is no trial: there is
nothing to start now, and the next one is asked for a little later. `on_record` is called here,
in the caller's process, once for each trial that came to an end. When `stop` is set no trial
is started, and those that run are closed at their next measurement and have no record: the
next run of the sweep continues them. They are waited for until `hurry` is set (None: it is
`stop`), and then for some seconds.

What a dispatcher has beside that is its own: that of Ray joins a cluster (see nodes.py).
"""

from __future__ import annotations

import importlib
import math
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import EnvironmentFault
from sweeper.lookup import named
from sweeper.spec import Resources

Dispatcher = Callable[..., None]

# Threads of a library wait for a cluster that is lost: only os._exit ends this process.
released = threading.Event()


def dispatcher(name: str) -> Dispatcher:
    """By its name in DISPATCHERS, or "my_pkg.module:function"."""
    return named(name, DISPATCHERS, "dispatcher")


def joined(address: str) -> list[Any]:
    """The nodes of the Ray cluster at `address`, which this process joins and stays in."""
    return importlib.import_module("sweeper.dispatch.ray_cluster").join(address)


def fitted(resources: Resources) -> Resources:
    """`resources` with `gpus` a number. Raises EnvironmentFault where a trial can never run."""
    present = gpus_present()
    if resources.gpus == "auto":
        return replace(resources, gpus=min(present, 1))
    if resources.gpus > present:
        raise EnvironmentFault(
            f"a trial asks for {resources.gpus:g} GPU and this machine shows {present}; "
            "set resources.gpus to 0 or auto, or look at CUDA_VISIBLE_DEVICES"
        )
    return resources


def slots(resources: Resources, cpus: int | None = None, gpus: int | None = None) -> int:
    """How many trials run at once on `cpus` cores and `gpus` devices (those here): at least
    one. Resources are those of `fitted`."""
    assert resources.gpus != "auto", "fit the resources first"
    room = (cpus or cores()) // resources.cpus
    if resources.gpus:
        present = gpus_present() if gpus is None else gpus
        room = min(room, trials_on_gpus(resources.gpus, present))
    return max(room, 1)


def trials_on_gpus(share: float, present: int) -> int:
    """A share below one stays on one device: 0.4 fits twice on each."""
    each = math.floor(1 / share + 1e-9)
    return present * each if share <= 1 else present // math.ceil(share)


def cores() -> int:
    """The processor cores that this process may use: the smaller of its affinity and the
    quota of its control group (containers), which does not show in the former."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.floor(min(allowed or 1, cgroup_quota())))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores granted by the control group; infinite where none is set. Version 2, then 1."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return int(quota) / int(period) if quota.isdigit() else math.inf


def gpus_present(devices: Path = Path("/dev")) -> int:
    """NVIDIA devices that this process may use, counted without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA reads the list up to the first entry that names no device.
        names = visible.replace(" ", "").split(",")
        valid = [bool(name) and name != "-1" for name in names]
        return valid.index(False) if False in valid else len(valid)
    return sum(bool(re.fullmatch(r"nvidia\d+", entry.name)) for entry in devices.glob("nvidia*"))


def device(resources: Resources) -> Literal["cpu", "cuda"]:
    """What a trial with these (fitted) resources computes on."""
    return "cuda" if resources.gpus else "cpu"


# Named, not imported: Ray is loaded when it is used.
DISPATCHERS = {
    "inline": "sweeper.dispatch.inline:dispatch",
    "ray": "sweeper.dispatch.ray_tune:dispatch",
}
