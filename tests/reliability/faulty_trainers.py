"""Trainers with which something goes wrong in the process that runs them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOREVER = 600


def hangs(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """After its first measurement, in one of the WAYS. With `times`, only in so many attempts:
    the next one continues from where that was."""
    attempts = run.folder / "checkpoints" / "attempts"
    attempts.parent.mkdir(exist_ok=True)
    before = len(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text("." * (before + 1))
    if before < config.get("times", 99):
        yield {"cost/updates": 1, "loss": 2.0}
        WAYS[config["how"]]()
    yield {"cost/updates": 2, "loss": 1.0, "attempts_before": before}


def sleeps_and_catches_all() -> None:
    """As a loop that goes on after whatever happens in a step."""
    for _ in range(FOREVER):
        with contextlib.suppress(Exception):
            time.sleep(FOREVER)


def sleeps_in_native_code() -> None:
    """With the interpreter's lock: no other Python thread runs."""
    ctypes.PyDLL(None).sleep(FOREVER)


def never_returns() -> None:
    """Nor does it for a signal, and no other Python thread runs: a lock, taken twice."""
    native, lock = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    native.pthread_mutex_init(lock, None)
    native.pthread_mutex_lock(lock)
    native.pthread_mutex_lock(lock)


WAYS = {
    "sleep": sleeps_and_catches_all,
    "native": sleeps_in_native_code,
    "regular expression": lambda: re.match("(a+)+b", "a" * 60),
    "lock": never_returns,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def slow(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Measures every `pause` seconds: longer in all than it may be silent."""
    for update in range(1, config["steps"] + 1):
        time.sleep(config["pause"])
        yield {"cost/updates": update, "loss": 1 / update}


def aborts(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": 1.0}
    os.abort()


def reads_nowhere(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": 1.0}
    ctypes.string_at(0)


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's own."""


class TorchsOwn(OutOfMemoryError):
    """As a newer torch might refine it."""


class ArrayTooLarge(MemoryError):
    """As numpy has one of its own."""


def out_of_memory(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": 1.0}
    match config["how"]:
        case "torch":
            raise TorchsOwn("Tried to allocate 20.00 MiB.")
        case "older torch":
            raise RuntimeError("CUDA error: out of memory")
        case "python":
            raise MemoryError
        case "numpy":
            raise ArrayTooLarge("Unable to allocate 8.00 TiB")
        case "torch on a processor":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        case "much":
            yield {"cost/updates": 2, "loss": float(len(bytearray(config["bytes"])))}


def fails(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """The same way for all seeds below `below`; or each in its own."""
    (run.folder / "started").touch()
    if run.seed < config.get("below", 10**9):
        what = f" {run.seed}" if config.get("distinct") else ""
        raise ValueError(f"there is no layer{what}")
    yield {"cost/updates": 1, "loss": 1.0}


def grows(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """A loss that is a thousand times that of the update before."""
    loss = 1.0
    for update in range(1, 1000):
        yield {"cost/updates": update, "loss": loss}
        loss *= 1000.0


def no_op(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": float(run.seed)}


def relative(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Says how long a file among the data is; goes elsewhere, as some libraries do."""
    size = (run.data / "corpus.txt").stat().st_size
    os.chdir("/")
    (run.folder / "artifacts").mkdir(exist_ok=True)
    (run.folder / "artifacts" / "note.txt").write_text("here")
    yield {"cost/updates": 1, "size": size}


def main(arguments: list[str]) -> None:
    """As a command: measures once, says who it and its child are, and hangs."""
    print(json.dumps({"cost/updates": 1, "loss": 1.0}), flush=True)
    child = os.fork()
    Path(arguments[0], f"process-{os.getpid()}").touch()
    if child and "crash" in arguments:
        os.abort()
    time.sleep(FOREVER)


if __name__ == "__main__":
    main(sys.argv[1:])
