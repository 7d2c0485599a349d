"""A trial's folder, and how it stood before, in; why its worker died, as far as it is known, out.

Nobody says so: a killed process has no last word. What is known is in the trial's journal (it
hung, and was killed for it), in its log (native code crashed it) and in what the kernel counts
of those that it killed for memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sweeper.errors import SweeperError
from sweeper.hang import silence
from sweeper.sizes import bytes_in_words
from sweeper.track import journal, lease

UNKNOWN = "killed, out of memory or crashed"
LESS = "a smaller batch, or fewer trials at once (resources.{of}, --slots), may fit"
FATAL = re.compile(rb"Fatal Python error: (%s)" % b"|".join(
    (b"Segmentation fault", b"Aborted", b"Bus error", b"Illegal instruction",
     b"Floating.point exception")
))  # fmt: skip
SIGNALS = {"S": "SIGSEGV", "A": "SIGABRT", "B": "SIGBUS", "I": "SIGILL", "F": "SIGFPE"}
BY_RAY = "RAY_memory_usage_threshold"  # which it names where its memory monitor has killed
NEAR = 0.8  # of a limit, at the last look
TAIL_BYTES = 2**20

GPU_MEMORY = re.compile(r"(CUDA|HIP) (error: )?out of memory|\bOutOfMemoryError\b")
MEMORY = re.compile(r"(\b|_Array)MemoryError\b|can't allocate memory|not enough memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """How things stood when a trial was handed out: its last `attempt`, the bytes of its log,
    how many processes the kernel had `killed` for memory."""

    attempt: int = 0
    log: int = 0
    killed: int = 0

    @classmethod
    def of(cls, folder: Path) -> Before:
        try:
            held = lease.latest(folder)
            log = (folder / "log.txt").stat().st_size
        except (OSError, SweeperError):
            held, log = None, 0
        return cls(attempt=held.attempt if held else 0, log=log, killed=killed_for_memory())


def why(folder: Path, before: Before, said: str = "") -> str:
    """ "it hung (no measurement for 30 min), 4 times"; `said` is Ray's own account of it."""
    try:
        entries, _ = journal.read(folder / "journal.jsonl")
    except SweeperError:
        entries = []
    since = [entry for entry in entries if entry["attempt"] > before.attempt]
    known = []
    if hung := [entry["hung"] for entry in since if "hung" in entry]:
        times = f", {len(hung)} times" if len(hung) > 1 else ""
        known.append(f"it hung ({silence(hung[-1])}){times}; its log has the stacks")
    if fatal := FATAL.findall(tail(folder / "log.txt", before.log)):
        fault = fatal[-1].decode()
        known.append(f"crashed by {SIGNALS[fault[0]]} ({fault}); its log has the stacks")
    if BY_RAY in said:
        known.append(f"killed by Ray's memory monitor, out of memory; {LESS.format(of='cpus')}")
        return "; ".join(known)
    here = attempts_here(folder, before.attempt)
    if here and (
        memory := out_of_memory(
            peak_of(entry for entry in since if entry["attempt"] in here),
            killed_for_memory() - before.killed,
        )
    ):
        known.append(memory)
    elif not known and not here and (peak := peak_of(since)):
        return f"{UNKNOWN}; it held {bytes_in_words(peak)} of memory at most"
    return "; ".join(known) or UNKNOWN


def attempts_here(folder: Path, after: int) -> set[int]:
    """Those since number `after` whose processes were on this machine: of another one it is not
    known what memory it has, and whom its kernel has killed."""
    try:
        last = lease.latest(folder)
        numbers = range(after + 1, last.attempt + 1 if last else 0)
        return {number for number in numbers if lease.read(folder, number).here}
    except (OSError, SweeperError):
        return set()


def peak_of(entries: Iterable[Mapping[str, Any]]) -> int:
    """In bytes; 0: not known."""
    of = journal.PEAKS[0]
    return max((entry[of] for entry in entries if of in entry), default=0)


def out_of_memory(peak: int, killed: int) -> str | None:
    """Where it is likely: the kernel killed for it, or what was held (0: not known) was near to
    what there is."""
    limit = memory_limit()
    if killed <= 0 and peak < NEAR * limit:
        return None
    held = f"it held {bytes_in_words(peak)} at most" if peak else "what it held is not known"
    by = "killed by the kernel, " * (killed > 0)
    of = f"{held}, of {bytes_in_words(limit)} that there are"
    return f"{by}out of memory: {of}; {LESS.format(of='cpus')}"


def tail(path: Path, start: int) -> bytes:
    """What a log has from `start` on, or the end of that."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, min(start, end), end - TAIL_BYTES))
        return file.read()
    return b""


def control_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")):
    """The folder of this process's control group, as far as it is seen from here."""
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            if line.startswith("0::") and (there := root / line[3:].lstrip("/")).is_dir():
                return there
    return root


def killed_for_memory() -> int:
    """How many processes of this control group the kernel has killed; 0 where that is not
    counted. What is counted of the machine may be anybody's."""
    with contextlib.suppress(OSError, ValueError):
        for line in (control_group() / "memory.events").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def memory_limit() -> int:
    """In bytes: what this control group may hold, or this machine has."""
    limits = [psutil.virtual_memory().total]
    old = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    for path in (control_group() / "memory.max", old):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    return min(limits)


def in_words(error: BaseException, said: str, peaks: dict[str, int]) -> str:
    """What `said` of a trainer's error, and, where that is memory, what it held at most and what
    may help. By its name: no library is imported for it."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "OutOfMemoryError" in names or GPU_MEMORY.search(said):
        what, peak, of = "GPU memory", peaks.get("peak_gpu_memory_bytes"), "gpus"
    elif isinstance(error, MemoryError) or MEMORY.search(said):
        what, peak, of = "memory", peaks.get("peak_memory_bytes"), "cpus"
    else:
        return said
    held = f" ({bytes_in_words(peak)} held at most)" if peak else ""
    return f"out of {what}{held}; {LESS.format(of=of)}: {said}"
