"""A trial's folder in; the right to be the one process that runs the trial out.

Attempt n owns the file lease-<n>.json, which nobody else can create: it is written under
another name and linked to its own, which fails where that is taken. Whoever takes over a
dead attempt creates n+1, so of two that try one wins, and an older attempt sees that it is
fenced out when the next number exists. No file is ever locked or stolen.

Whether an owner lives: in this process namespace of this machine by its process id and
start time, which no clock can falsify; elsewhere by the age of its last renewal, both
times taken from the file system's clock, so hosts need not agree on the time. A file
server whose clock jumps forward by more than the expiry ends the leases of other hosts
early; fencing then keeps the loser's later writes out. An owner whose attempt has ended, as
the journal has it, is none, whatever the date of its lease: a copy of a store has new dates.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import psutil

from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.sizes import clock
from sweeper.track import journal
from sweeper.track.sealed import content_of, names_in, seal, sync_folder, unseal, using

EXPIRY_SECONDS = 60.0
NAME = re.compile(r"lease-(\d+)\.json")
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LeaseHeld(EnvironmentFault):
    """Another live process runs this trial: wait for its record."""

    def __init__(
        self, trial_id: str, owner: str, since: float, attempt: int, *, ages: bool = False
    ):
        """`ages`: only that its lease grows old would tell that the owner has died."""
        self.owner, self.since, self.attempt, self.ages = owner, since, attempt, ages
        super().__init__(f"trial {trial_id} is being run by {owner} since {clock(since, True)}")


class FencedOut(EnvironmentFault):
    """A newer attempt has taken this trial over: this one may write nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """`place` names a machine since its boot and its process namespace; `born` is the
    process's start time there, in the machine's own ticks."""

    attempt: int
    host: str = ""
    place: str = ""
    pid: int = 0
    born: str = ""
    since: float = 0.0

    @property
    def owner(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "an unreadable lease"

    @property
    def here(self) -> bool:
        """Whether its process is one of those that can be seen from this one."""
        return self.place == this_place()


def take(folder: Path, first: int = 1) -> Lease:
    """The next attempt's lease, number `first` where there was none. Raises LeaseHeld if an owner
    lives."""
    last = latest(folder)
    if last and alive(last, folder):
        raise held_by(last, folder.name)
    lease = Lease(
        attempt=last.attempt + 1 if last else first,
        host=socket.gethostname(),
        place=this_place(),
        pid=os.getpid(),
        born=birth(os.getpid()) or "",
        since=time.time(),
    )
    path = path_of(folder, lease.attempt)
    with using(path):
        try:
            create(path, seal(asdict(lease)))
        except FileExistsError:
            raise held_by(read(folder, lease.attempt), folder.name) from None
        sync_folder(folder)  # Else a power cut could have its number given out again.
    return lease


def held_by(lease: Lease, of: str) -> LeaseHeld:
    return LeaseHeld(of, lease.owner, lease.since, lease.attempt, ages=not lease.here)


def advance(folder: Path, lease: Lease, attempt: int) -> Lease:
    """The same right under a higher number, which nobody else can have while this owner lives."""
    assert attempt > lease.attempt, (attempt, lease)
    further = replace(lease, attempt=attempt)
    with using(path_of(folder, attempt)):
        create(path_of(folder, attempt), seal(asdict(further)))
        sync_folder(folder)
    return further


def create(path: Path, content: bytes) -> None:
    """A file that is there with all its content or not at all: of an owner that was killed
    while it wrote its lease nobody could say that it is dead. Raises FileExistsError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write(draft, content)
        try:
            os.link(draft, path)
        except FileExistsError:
            # A file server says so, too, where its first answer was lost.
            if not same(draft, path):
                raise
        except OSError as fault:
            if fault.errno not in NO_LINKS:
                raise
            write(path, content)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except FileNotFoundError:
        return False


def write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def renew(folder: Path, lease: Lease) -> None:
    with using(path_of(folder, lease.attempt)):
        os.utime(path_of(folder, lease.attempt), follow_symlinks=False)


def release(folder: Path, lease: Lease) -> None:
    """Gives the trial free by dating the lease to the epoch, which needs no space on a full
    disk. The file stays: its number is never given out again."""
    with using(folder), contextlib.suppress(FileNotFoundError):
        os.utime(path_of(folder, lease.attempt), (0, 0), follow_symlinks=False)


def fenced(folder: Path, lease: Lease) -> bool:
    with using(folder):
        return path_of(folder, lease.attempt + 1).name in names_in(folder)


def live(folder: Path) -> Lease | None:
    """The lease of the process that runs this trial now, if one does."""
    last = latest(folder)
    return last if last and alive(last, folder) else None


def latest(folder: Path) -> Lease | None:
    with using(folder):
        names = names_in(folder)
    numbers = [int(match[1]) for match in map(NAME.fullmatch, names) if match]
    return read(folder, max(numbers)) if numbers else None


def read(folder: Path, attempt: int) -> Lease:
    """A lease that is not wholly written (its owner is at it, or died there) is one that
    only its age can end."""
    with using(folder):
        try:
            return Lease(**unseal(content_of(path_of(folder, attempt))))
        except (ValueError, TypeError, FileNotFoundError):
            return Lease(attempt=attempt)


def alive(lease: Lease, folder: Path) -> bool:
    with using(folder):
        try:
            renewed = path_of(folder, lease.attempt).lstat().st_mtime
        except FileNotFoundError:
            return False
    if renewed == 0:
        return False  # Released.
    if ended(lease, folder):
        return False  # Released, too, and copied since without its date.
    if lease.here:
        return birth(lease.pid) == lease.born
    return file_system_time(folder) - renewed < EXPIRY_SECONDS


def ended(lease: Lease, folder: Path) -> bool:
    """Whether the attempt has written the last that it ever will: its end is in the journal
    and, where that is not an interruption, its result is there, which comes after it."""
    last = journal.last(folder / "journal.jsonl")
    if last is None or last["kind"] != "end" or last["attempt"] != lease.attempt:
        return False
    if last["state"] == "interrupted":
        return True
    try:
        entries, _ = journal.read(folder / "journal.jsonl")
        begun = [e for e in entries if e["kind"] == "start" and e["attempt"] == lease.attempt]
        path = folder / f"result-{begun[-1]['evaluation_id']}.json"
        result = unseal(content_of(path).rstrip(b"\n"))
    except (CorruptRecord, FileNotFoundError, ValueError, LookupError):
        return False
    kept = last["state"] != "done" and result["state"] == "done"  # A failure replaces no result.
    return kept or result["attempt"] == lease.attempt


def path_of(folder: Path, attempt: int) -> Path:
    return folder / f"lease-{attempt}.json"


@cache
def this_place() -> str:
    """Containers of one machine share its boot id and may share its name, not its processes."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # No such thing on this system: the name alone.
    return " ".join(parts)


def birth(pid: int) -> str | None:
    """When process `pid` started, as its machine counts; None if it has ended.

    On Linux in ticks since boot: psutil derives a wall-clock time, which moves with it."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except OSError:
        if os.path.exists("/proc/self/stat"):
            return None
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else f"{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return None


def file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps files in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b".")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # A folder that may only be read.
        return time.time()
