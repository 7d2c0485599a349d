"""A sweep in; the right to be the one command that trains it out.

    <root>/sweeps/<name>.<variant>.<of its file>.owner/
        lease-<n>.json                    who owns it, or did
        stop-<n>.json stop-<n>-now.json   that owner n is asked to stop
        joined-<random>/                  the same of who trains beside the owner

It is a lease as a trial has one (lease.py), on a folder beside the design of the sweep. It
keeps two terminals from doing the same by mistake. What the trials are it does not guard: each
has a lease of its own, so an owner that was taken over, as its machine slept, may go on.

Whoever trains hears from anybody who sees the store. What it is asked has the number of its
lease, so nobody who comes later takes it for theirs.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import EnvironmentFault
from sweeper.pulse import every
from sweeper.track import lease, snapshots
from sweeper.track.lease import Lease
from sweeper.track.sealed import content_of, names_in, seal, unseal, using, write_whole

RENEWAL_SECONDS = lease.EXPIRY_SECONDS / 4
HEARING_SECONDS = 1.0
ENDING = ".owner"
STOP = re.compile(r"stop-(\d+)(-now)?\.json")
JOINED = "joined-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """To stop: at the next measurement, or at once; and who asks."""

    by: str
    at_once: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of those that train a sweep: its lease, and the folder that this is in."""

    folder: Path
    lease: Lease

    @property
    def joined(self) -> bool:
        return self.folder.name.startswith(JOINED)

    @property
    def lives(self) -> bool:
        return lease.alive(self.lease, self.folder)

    @property
    def died(self) -> bool:
        """Whether it has ended without a word, so that only its process, or its age, tells."""
        try:
            renewed = lease.path_of(self.folder, self.lease.attempt).lstat().st_mtime
        except OSError:
            return False
        return renewed != 0 and not self.lives


def path_of(root: Path, sweep: str, variant: str, source: str) -> Path:
    """Of the sweep in the file `source`, which is known as its snapshot knows it."""
    return snapshots.path_of(root, sweep, variant, source).with_suffix(ENDING)


@contextlib.contextmanager
def owning(
    folder: Path,
    on_loss: Callable[[Lease], None],
    on_stop: Callable[[Request], None] = lambda request: None,
) -> Iterator[Callable[[], None]]:
    """Raises LeaseHeld while another owner lives. `on_loss` is told once, in another thread,
    of the one that has taken this sweep over; `on_stop`, in another one, of what was asked.
    What the context gives ends the lease before its time, for a process that is about to end."""
    held = take(folder)
    lost: list[Lease] = []
    heard: list[bool] = []

    def beat() -> None:
        nonlocal held
        # A file system that does not answer now may at the next beat.
        with contextlib.suppress(OSError, EnvironmentFault):
            last = lease.latest(folder)
            if last is None or last.attempt < held.attempt:
                held = take(folder)  # It was tidied away: this machine had slept.
                return
            if last != held and (last.attempt > held.attempt or last.host):
                if not lost:
                    lost.append(last)
                    on_loss(last)
                return
            lease.renew(folder, held)

    def hear() -> None:
        with contextlib.suppress(OSError, EnvironmentFault):
            request = asked(folder, held.attempt)
            if request is None or request.at_once in heard or True in heard:
                return
            heard.append(request.at_once)
            on_stop(request)

    def leave() -> None:
        if lost:
            return  # That of who has it now may have the same number.
        with contextlib.suppress(OSError, EnvironmentFault):  # It expires.
            lease.release(folder, held)

    try:
        with (
            every(RENEWAL_SECONDS, beat, f"owner of {folder.stem}"),
            every(HEARING_SECONDS, hear, f"requests to {folder.stem}"),
        ):
            yield leave
    finally:
        leave()
        with contextlib.suppress(OSError, EnvironmentFault):
            tidy(folder, held.attempt + 1)


@contextlib.contextmanager
def joining(folder: Path, on_stop: Callable[[Request], None]) -> Iterator[Callable[[], None]]:
    """The same of one that trains beside the owner, or before there is one: nobody is in its
    way, and it hears as an owner does."""
    own = folder / f"{JOINED}{secrets.token_hex(4)}"
    try:
        with owning(own, lambda by: None, on_stop) as leave:
            yield leave
    finally:
        shutil.rmtree(own, ignore_errors=True)


def members(folder: Path) -> list[Member]:
    """Those that train the sweep now, its owner first."""
    with using(folder):
        names = sorted(names_in(folder))
    places = [folder, *(folder / name for name in names if name.startswith(JOINED))]
    found = [(place, live(place)) for place in places]
    return [Member(folder=place, lease=held) for place, held in found if held is not None]


def latest(folder: Path) -> Member | None:
    """The last owner, if there ever was one, whether it lives or not."""
    last = lease.latest(folder)
    return None if last is None else Member(folder=folder, lease=last)


def ask(member: Member, *, at_once: bool = False) -> None:
    """Asks one of those that train to stop. Raises EnvironmentFault where that cannot be left."""
    name = f"stop-{member.lease.attempt}{'-now' * at_once}.json"
    by = f"process {os.getpid()} on {socket.gethostname()}"
    write_whole(member.folder / name, seal({"by": by}) + b"\n")


def asked(folder: Path, attempt: int) -> Request | None:
    """What who has this lease was asked, the stronger of two."""
    with using(folder):
        found = [match for match in map(STOP.fullmatch, names_in(folder)) if match]
    own = sorted(match[0] for match in found if int(match[1]) == attempt)
    if not own:
        return None
    try:
        by = str(unseal(content_of(folder / own[0]).rstrip(b"\n"))["by"])
    except (OSError, ValueError, LookupError, TypeError):
        by = "somebody"
    return Request(by=by, at_once=own[0].endswith("-now.json"))


def take(folder: Path) -> Lease:
    """The sweep's next lease; those before it are removed. Raises LeaseHeld."""
    with using(folder):
        folder.mkdir(parents=True, exist_ok=True)
    held = lease.take(folder)
    last = lease.latest(folder)
    if last is not None and last.attempt > held.attempt:
        # We were so slow that the number which we took had been given out, and removed, before.
        with using(folder):
            lease.path_of(folder, held.attempt).unlink(missing_ok=True)
        raise lease.held_by(last, folder.name)
    tidy(folder, held.attempt)
    return held


def tidy(folder: Path, attempt: int) -> None:
    """Removes the leases of before lease `attempt`, but the last that there is, and what their
    owners were asked; and those that had joined and are no more."""
    with using(folder):
        names = os.listdir(folder)
        leases = [int(match[1]) for match in map(lease.NAME.fullmatch, names) if match]
        for name in names:
            match = lease.NAME.fullmatch(name) or STOP.fullmatch(name)
            if match and int(match[1]) < attempt:
                if match.re is STOP or int(match[1]) < max(leases):
                    (folder / name).unlink(missing_ok=True)
            elif name.startswith(JOINED) and (last := latest(folder / name)) and not last.lives:
                shutil.rmtree(folder / name, ignore_errors=True)


def live(folder: Path) -> Lease | None:
    """The lease of whoever runs the sweep now, if somebody does."""
    return lease.live(folder)


def has_design(folder: Path) -> bool:
    """Whether the sweep's snapshot is there, or that of what was begun of it."""
    return any(folder.with_suffix(ending).exists() for ending in (".json", ".begun.json"))


def folders(root: Path) -> list[Path]:
    """Of all sweeps that ever had an owner."""
    return [path for path in sorted((root / "sweeps").glob(f"[!.]*{ENDING}")) if path.is_dir()]
