"""A trial's folder in; a copy of it under a URL out, and back into a store that lost it.

    <url>/manifests/<trial id>.json               what the copy holds, and where: only this makes
                                                  it one; sealed, and written last
    <url>/trials/<trial id>/<round>/<path>        the files, each where the round of copying put it
                                                  that found it changed

No object is ever written over but the manifest, and none is removed before a manifest is there
that does without it: a copy that is cut in the middle leaves the one before it as it was. What is
brought back is compared with its checksums, and then believed no more than a folder would be.

A copy may be replaced by what goes on from it: whose journal begins with the copy's. Of two that
have gone apart, on machines that share no store, the one with a result, else the longer, is kept.

What is copied is all of a trial but its leases: those are of processes that live here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from sweeper.errors import CorruptRecord, EnvironmentFault, SweeperError
from sweeper.pulse import every
from sweeper.redaction import concealing, in_one_line
from sweeper.track import journal, lease
from sweeper.track.folder import (
    OWN,
    PREVIOUS,
    RENEWAL_SECONDS,
    RESULT,
    RETURNING,
    TRIAL_ID,
    aside,
    clear,
    description,
    names,
    read_result,
    refuse_links,
    remove,
)
from sweeper.track.remote import (
    Absent,
    Halted,
    MirrorFault,
    Remote,
    away,
    check_url,
    never,
)
from sweeper.track.sealed import content_of, make, reading, seal, sync_folder, unseal, using
from sweeper.trial import Key

FORMAT = 1  # of a manifest
SECONDS = 30.0  # between two copies of a trial that runs
SHARE = 10  # of the time that a copy takes is left between it and the next
FINAL_SECONDS = 5.0  # that the last copy of an attempt is waited for: its GPU idles meanwhile
PAUSE_SECONDS = 0.2  # before another look at files that were changing
TOGETHER = 8  # trials that are compared or copied at once
COARSE_NS = 2 * 10**9  # in which a file system may not date two writings apart
HELD = 200  # files that are open at once
REREAD = 64 * 2**20  # bytes up to which a file with a new date is looked into before it is sent
TRIES = 5
STRAY_SECONDS = 3600.0  # after which an object that no manifest names is nobody's
JOURNAL, LOG, TRIAL = "journal.jsonl", "log.txt", "trial.json"
APPENDED = (JOURNAL, LOG)
OURS = re.compile(r"(trial|result-[0-9a-f]{8,64})\.json|journal\.jsonl|log\.txt|" + PREVIOUS)

Say = Callable[[str], None]
Entry = Mapping[str, Any]


class Moving(Exception):
    """The files changed while they were looked at: another moment will do."""


class Behind(EnvironmentFault):
    """The copy is of a training that has gone apart from this one, and is further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a copy holds. `entries` is how many its journal has. `files`: path below the trial's
    folder -> {"sha256", "bytes", "mtime_ns", "at", "key"}, or {"link": where it leads}."""

    trial_id: str
    entries: int
    files: Mapping[str, Entry]

    @property
    def results(self) -> list[str]:
        return [path for path in self.files if RESULT.fullmatch(path)]

    @property
    def rank(self) -> tuple[bool, int]:
        return bool(self.results), self.entries

    def sealed(self) -> bytes:
        return seal(
            {
                "format": FORMAT,
                "trial": self.trial_id,
                "entries": self.entries,
                "files": self.files,
            }
        )


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies are, and the least number of `seconds` between two of a trial that runs."""

    url: str
    seconds: float = SECONDS

    @classmethod
    def at(cls, url: str, seconds: float | None = None) -> Mirror:
        """Raises SpecError for what is no address, or has a secret in it."""
        check_url(url)
        return cls(url.rstrip("/"), seconds or SECONDS)

    @property
    def remote(self) -> Remote:
        return Remote(self.url)

    def reach(self) -> None:
        """Raises EnvironmentFault unless it can be written: asked before any trial."""
        self.remote.put(".writable", b"sweeper")

    def ids(self) -> set[str]:
        """The trials that there are copies of."""
        listed = (name.removesuffix(".json") for name in self.remote.names("manifests"))
        return {name for name in listed if TRIAL_ID.fullmatch(name)}

    def manifests(self, ids: Iterable[str], say: Say) -> dict[str, Manifest]:
        """Of those trials that there is a copy of; what cannot be believed is none, and said."""
        found: dict[str, Manifest] = {}
        for key, content in self.remote.get_all(map(manifest_key, ids)).items():
            trial_id = key.removeprefix("manifests/").removesuffix(".json")
            try:
                found[trial_id] = parse(content, trial_id)
            except CorruptRecord as fault:
                say(f"the mirror {self.url}: {fault}: not believed")
        return found


def manifest_key(trial_id: str) -> str:
    return f"manifests/{trial_id}.json"


def parse(content: bytes, trial_id: str) -> Manifest:
    """Raises CorruptRecord for what is no manifest of this trial."""
    try:
        there = unseal(content)
        if there["format"] > FORMAT:
            raise ValueError("written by a newer version")
        if there["trial"] != trial_id:
            raise ValueError(f"it is of trial {there['trial']}")
        for path, entry in there["files"].items():
            check_entry(trial_id, path, entry)
        assert_whole(there["files"])
        return Manifest(trial_id=trial_id, entries=int(there["entries"]), files=there["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise CorruptRecord(f"{manifest_key(trial_id)}: {fault}") from fault


def assert_whole(files: Mapping[str, Entry]) -> None:
    if JOURNAL not in files or TRIAL not in files:
        raise ValueError("it names no journal")


def check_entry(trial_id: str, path: str, entry: Entry) -> None:
    """Whoever can write there could have it lead out of a trial's folder."""
    first = path.partition("/")[0]
    if not is_below(path) or (OWN.fullmatch(first) and not OURS.fullmatch(first)):
        raise ValueError(f"{path!r} is no file of a trial")
    if "link" in entry:
        if not stays_inside(path, entry["link"]):
            raise ValueError(f"{path!r} leads out of the trial's folder")
        return
    if not entry["key"].startswith(f"trials/{trial_id}/") or not is_below(entry["key"]):
        raise ValueError(f"{entry['key']!r} is no object of this trial")
    int(entry["bytes"]), int(entry["mtime_ns"]), str(entry["sha256"])


def is_below(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path


def stays_inside(path: str, link: str) -> bool:
    """Whether a link at `path` leads to below the trial's folder, whatever other links there
    are: up from the folder that it is in, and then only down."""
    down = [part for part in link.split("/") if part not in ("", ".")]
    while down and down[0] == "..":
        down.pop(0)
    inside = os.path.normpath(f"{os.path.dirname(path) or '.'}/{link}")
    return not link.startswith("/") and ".." not in down and is_below(inside)


def manifest_at(remote: Remote, trial_id: str) -> Manifest | None:
    """Raises CorruptRecord for one that cannot be believed."""
    try:
        return parse(remote.get(manifest_key(trial_id)), trial_id)
    except Absent:
        return None


# ---- out


@dataclass(slots=True, kw_only=True)
class Copy:
    """One trial's copying. Has state because what a round has sent, that was broken off, the next
    need not send again."""

    remote: Remote
    folder: Path
    sent: dict[tuple[str, tuple[int, ...]], Entry] = field(default_factory=dict)

    def bring_up_to_date(self, halted: Callable[[], bool] = never) -> bool:
        """Whether something had to be sent. Raises Moving, Halted, Behind, EnvironmentFault."""
        trial_id = self.folder.name
        try:
            there = manifest_at(self.remote, trial_id)
        except CorruptRecord:
            there = None  # It is worth nothing, and is replaced.
        with contextlib.ExitStack() as stack:
            files = held(self.folder, there, stack)
            if JOURNAL not in files:
                return False
            course = Course.of(self.folder)
            goes_on = there is None or course.begins_with(there)
            if not goes_on:
                refuse_behind(self.remote, course, files, there)
            kept = {path: file.kept for path, file in files.items() if file.kept is not None}
            if there is not None and kept == there.files:
                return False
            round = f"{time.time_ns():x}-{secrets.token_hex(4)}"
            for path in sorted(files.keys() - kept.keys()):
                if halted():
                    raise Halted
                kept[path] = self._send(path, files[path], f"trials/{trial_id}/{round}", course)
        if halted():
            raise Halted
        now = Manifest(trial_id=trial_id, entries=course.entries, files=dict(sorted(kept.items())))
        self.remote.put(manifest_key(trial_id), now.sealed())
        if there is not None and goes_on:
            self.remote.remove(keys(there) - keys(now))
        self.sent.clear()
        return True

    def _send(self, path: str, file: File, under: str, course: Course) -> Entry:
        if file.link is not None:
            return {"link": file.link}
        if (path, file.signature) in self.sent:
            return self.sent[path, file.signature]
        entry = {"key": f"{under}/{path}", "at": time.time_ns(), "mtime_ns": file.mtime_ns}
        if path == JOURNAL:
            self.remote.put(entry["key"], course.content)
            said = hashlib.sha256(course.content).hexdigest()
            return {**entry, "sha256": said, "bytes": len(course.content)}
        with file.reading(self.folder / path) as content:
            said = self.remote.send(entry["key"], content, file.size)
            after = signature(os.fstat(content.fileno()))
        if said is None or (path not in APPENDED and after != file.signature):
            raise Moving(path)
        sent = {**entry, "sha256": said, "bytes": file.size}
        if path != LOG:
            self.sent[path, file.signature] = sent
        return sent

    def clear_strays(self) -> None:
        """What rounds left behind that were cut, of however long ago nobody is at it any more."""
        there = manifest_at(self.remote, self.folder.name)
        if there is not None:
            old = time.time() - STRAY_SECONDS
            found = self.remote.below(f"trials/{self.folder.name}")
            strays = {key for key, at in found.items() if at < old}
            self.remote.remove(strays - keys(there))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A trial's journal as it can be read now."""

    content: bytes
    entries: int

    @classmethod
    def of(cls, folder: Path) -> Course:
        entries, sound = journal.read(folder / JOURNAL)
        with using(folder / JOURNAL):
            return cls(content=content_of(folder / JOURNAL)[:sound], entries=len(entries))

    def begins_with(self, there: Manifest) -> bool:
        earlier = there.files[JOURNAL]
        begin = self.content[: earlier["bytes"]]
        return hashlib.sha256(begin).hexdigest() == earlier["sha256"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it was found. `kept`: what the copy says of it, where it has it as it is."""

    size: int
    mtime_ns: int
    signature: tuple[int, ...]
    handle: BinaryIO | None = None
    link: str | None = None
    kept: Entry | None = None

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[BinaryIO]:
        if self.handle is not None:
            self.handle.seek(0)
            yield self.handle
            return
        with opened(path) as file:
            if signature(os.fstat(file.fileno())) != self.signature:
                raise Moving(path)
            yield file


def held(folder: Path, there: Manifest | None, stack: contextlib.ExitStack) -> dict[str, File]:
    """The files of one moment: open, so that a checkpoint that is replaced while it is being
    sent, and what belongs to it, is still the one that was there. Raises Moving."""
    for _ in range(TRIES):
        before = found_in(folder)
        with contextlib.ExitStack() as opening:
            try:
                files = {path: file_of(folder, path, before[path], there) for path in before}
                newest = sorted(
                    (path for path, file in files.items() if file.kept is None and not file.link),
                    key=lambda path: -files[path].mtime_ns,
                )
                for path in newest[:HELD]:
                    handle = opening.enter_context(opened(folder / path))
                    files[path] = replace(files[path], handle=handle)
                    if not is_same(path, before[path], os.fstat(handle.fileno())):
                        raise Moving(path)
            except (FileNotFoundError, Moving):
                continue
            if outline(before) != outline(found_in(folder)):
                continue
            stack.push(opening.pop_all())
            return files
    raise Moving(folder)


def file_of(folder: Path, path: str, info: os.stat_result, there: Manifest | None) -> File:
    found = File(size=info.st_size, mtime_ns=info.st_mtime_ns, signature=signature(info))
    earlier = there.files.get(path) if there else None
    if stat.S_ISLNK(info.st_mode):
        link = os.readlink(folder / path)
        kept = earlier if earlier == {"link": link} else None
        return replace(found, link=link, kept=kept)
    if earlier is None or "link" in earlier or earlier["bytes"] != info.st_size:
        return found
    if info.st_size > REREAD and info.st_mtime_ns > earlier["at"]:
        return found  # Written since. A checkpoint may be replaced sooner than it can be read.
    dated = earlier["mtime_ns"] == info.st_mtime_ns
    sure = dated and earlier["at"] > info.st_mtime_ns + COARSE_NS
    same = sure or sha256(folder / path) == earlier["sha256"]
    return replace(found, kept=earlier) if same else found


def sha256(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """What was a file a moment ago. Raises Moving where it is none any more."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(reading(path))
        except ValueError as fault:
            raise Moving(path) from fault
        yield file


def found_in(folder: Path) -> dict[str, os.stat_result]:
    """What is to be copied: path below the folder -> what the disk says of it. Raises Moving
    while files are set aside or brought back."""
    if (folder / RETURNING).is_dir():
        raise Moving(folder)
    if (folder / PREVIOUS).is_dir():
        entries, _ = journal.read(folder / JOURNAL)
        if aside(folder, folder.name, entries) == "moving":
            raise Moving(folder)
    found: dict[str, os.stat_result] = {}
    for name in names(folder):
        if not OWN.fullmatch(name) or OURS.fullmatch(name):
            found.update(walk(folder, name))
    return found


def walk(folder: Path, path: str) -> Iterator[tuple[str, os.stat_result]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        info = os.lstat(folder / path)
        if stat.S_ISDIR(info.st_mode):
            for name in sorted(os.listdir(folder / path)):
                yield from walk(folder, f"{path}/{name}")
        elif stat.S_ISREG(info.st_mode) or is_inner_link(folder, path, info):
            yield path, info


def is_inner_link(folder: Path, path: str, info: os.stat_result) -> bool:
    """One that says which checkpoint is the last, say: kept as a link, and never followed."""
    if not stat.S_ISLNK(info.st_mode):
        return False
    return stays_inside(path, os.readlink(folder / path))


def signature(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_size, info.st_mtime_ns


def is_same(path: str, before: os.stat_result, now: os.stat_result) -> bool:
    """What is only appended to holds what it held."""
    return path in APPENDED or signature(before) == signature(now)


def outline(found: Mapping[str, os.stat_result]) -> dict[str, tuple[int, ...]]:
    return {path: () if path in APPENDED else signature(info) for path, info in found.items()}


def trainers_outline(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {
        path: info
        for name in names(folder)
        if not OWN.fullmatch(name)
        for path, info in walk(folder, name)
    }
    return outline(found)


def refuse_behind(
    remote: Remote, course: Course, files: Mapping[str, File], there: Manifest
) -> None:
    ours = any(RESULT.fullmatch(path) for path in files), course.entries
    if there.rank >= ours:
        raise Behind(
            f"the mirror {remote.url} has another training of trial {there.trial_id}, which is "
            "further: it is kept"
        )


def keys(manifest: Manifest) -> set[str]:
    return {entry["key"] for entry in manifest.files.values() if "key" in entry}


class Copier:
    """Copies a trial while an attempt is at it, in a thread of its own: when the trainer's files
    have changed, and at the end. Has state because it is that thread. It never raises, and
    nobody waits for it but `end`; what it could not do it says in the trial's log."""

    def __init__(self, mirror: Mirror, folder: Path):
        self._copy = Copy(remote=mirror.remote, folder=folder)
        self._mirror = mirror
        self._ending, self._halted = threading.Event(), threading.Event()
        self._last = self._left = False
        self._done = threading.Event()
        self._said: str | None = None
        name = f"copier of {folder.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def end(self, seconds: float = FINAL_SECONDS, *, last: bool = True) -> None:
        """Waits for a `last` copy, at most so long, and not at all where the mirror was away a
        moment ago: the copy goes on until another attempt is at the trial. What is another's
        already is left as it is."""
        self._last = last
        if not last:
            self._halted.set()
        self._ending.set()
        why = away(self._mirror.url) if last else None
        if why is not None:
            self._say(f"{why}; copied later")
        elif not self._done.wait(seconds) and last:
            self._say(
                f"the mirror {self._mirror.url}: not all was copied within {seconds:g} s; "
                "the end of the run, or `sweeper sync`, copies what is left then"
            )
        self._left = True

    def _is_halted(self) -> bool:
        if self._left and lease.live(self._copy.folder) is not None:
            self._halted.set()
        return self._halted.is_set()

    def _run(self) -> None:
        try:
            copied = self._outline()
            pause = self._mirror.seconds
            while not self._ending.wait(pause):
                began = time.monotonic()
                now = self._outline()
                if now is not None and now != copied:
                    with contextlib.suppress(Moving):
                        copied = now if self._try() else copied
                pause = max(self._mirror.seconds, SHARE * (time.monotonic() - began))
            whole = self._last and self._try_last()
        finally:
            self._done.set()
        if whole:
            with contextlib.suppress(Exception):
                self._copy.clear_strays()

    def _outline(self) -> object | None:
        """Of the trainer's files; None where they cannot be looked at now."""
        try:
            return trainers_outline(self._copy.folder)
        except (SweeperError, OSError) as fault:
            self._say(f"{in_one_line(fault)}; copied later")
            return None

    def _try_last(self) -> bool:
        for _ in range(TRIES):
            with contextlib.suppress(Moving):
                return self._try()
            if self._halted.wait(PAUSE_SECONDS):
                return False
        self._say(f"the mirror {self._mirror.url}: the files were still changing; copied later")
        return False

    def _try(self) -> bool:
        """Whether the copy is up to date now. Raises Moving."""
        try:
            self._copy.bring_up_to_date(self._is_halted)
        except Moving:
            raise
        except Halted:
            return False
        except Behind as fault:
            self._say(str(fault))
            return False
        except Exception as fault:  # Nobody would hear of a thread's end.
            self._say(f"{in_one_line(fault) or type(fault).__name__}; copied later")
            return False
        self._said = None
        return True

    def _say(self, text: str) -> None:
        if self._said is None or self._said != text:
            self._said = text
            with (
                contextlib.suppress(SweeperError, OSError),
                concealing(self._copy.folder / LOG) as log,
            ):
                print(text, file=log)


def copy_rest(
    mirror: Mirror,
    trials: Path,
    ids: Iterable[str],
    seconds: float = float("inf"),
    *,
    strays: bool = False,
) -> tuple[list[str], str | None]:
    """Copies what the mirror lacks of these trials, in `seconds`: which could not be, and why.
    What it has is read at once and compared here: only what differs is asked for again. With
    `strays`, what cut copies left there is cleared."""
    until = time.monotonic() + seconds
    faulty = threading.Event()

    def late() -> bool:
        return faulty.is_set() or time.monotonic() > until

    def act(trial_id: str, there: Manifest | None) -> tuple[bool, str]:
        """Whether something is left, and what there is to say of it."""
        folder = trials / trial_id
        try:
            if not differs(folder, there):
                if strays and there is not None:
                    Copy(remote=mirror.remote, folder=folder).clear_strays()
                return False, ""
            if lease.live(folder) is not None:
                return False, ""  # Whoever is at it copies it.
            if late():
                return True, ""
            copy = Copy(remote=mirror.remote, folder=folder)
            copy.bring_up_to_date(late)
            if strays:
                copy.clear_strays()
        except Behind as fault:
            return False, str(fault)
        except MirrorFault as fault:
            faulty.set()  # It is away: the next would say so, too.
            return True, str(fault)
        except (SweeperError, OSError, Moving, Halted) as fault:
            said = "its files were changing" if isinstance(fault, Moving) else str(fault)
            return True, said
        return False, ""

    wanted = list(ids)
    try:
        there = mirror.manifests(wanted, lambda said: None)  # What is damaged is replaced.
    except EnvironmentFault as fault:
        return wanted, str(fault)
    with ThreadPoolExecutor(TOGETHER) as pool:  # Most of the time an answer is waited for.
        done = list(pool.map(act, wanted, map(there.get, wanted)))
    left = [trial_id for trial_id, (is_left, _) in zip(wanted, done, strict=True) if is_left]
    why = next((said for _, said in done if said), None)
    return left, why or ("there was no more time" if left else None)


def differs(folder: Path, there: Manifest | None) -> bool:
    """Whether the folder has what is not in the copy, or cannot be compared now."""
    try:
        found = found_in(folder)
        if JOURNAL not in found or there is None:
            return JOURNAL in found
        if found.keys() != there.files.keys():
            return True
        return any(file_of(folder, path, found[path], there).kept is None for path in found)
    except (OSError, Moving):
        return True


# ---- back


def bring(mirror: Mirror, folder: Path, there: Manifest | None = None) -> bool:
    """Fills a trial's folder with what the mirror has, if it has what goes on from that, or is
    further; whether it did. Raises LeaseHeld where a process is at the trial, CorruptRecord
    for a copy that cannot be believed: then the folder is as it was."""
    remote = mirror.remote
    for last in (False, True):
        there = there or manifest_at(remote, folder.name)
        if there is None or not is_further(remote, there, folder):
            return False
        make(folder)
        refuse_links(folder)
        held = lease.take(folder)
        try:
            with every(RENEWAL_SECONDS, lambda it=held: renew(folder, it), f"lease of {folder}"):
                if not is_further(remote, there, folder):
                    return False
                fill(remote, there, folder)
            held = numbered_after(folder, held)
            return True
        except Absent as fault:
            there = None  # It may have been replaced while it was read.
            if last:
                said = f"{mirror.url}: of the copy of trial {folder.name} is missing: {fault}"
                raise CorruptRecord(said) from fault
        finally:
            lease.release(folder, held)
    raise AssertionError("the second time either returns or raises")


def renew(folder: Path, held: lease.Lease) -> None:
    with contextlib.suppress(EnvironmentFault):
        lease.renew(folder, held)


def numbered_after(folder: Path, held: lease.Lease) -> lease.Lease:
    """The same right under the number of the last attempt in the journal that came: the next one
    is not to have the number of one that was on another machine."""
    entries, _ = journal.read(folder / JOURNAL)
    highest = max((entry["attempt"] for entry in entries), default=0)
    return lease.advance(folder, held, highest) if highest > held.attempt else held


def is_further(remote: Remote, there: Manifest, folder: Path) -> bool:
    """Whether the mirror has what goes on from this folder's training; or another, which is
    further than this, that has no result."""
    if not (folder / JOURNAL).exists():
        return True
    here = Course.of(folder)
    if here.begins_with(there):
        return not all((folder / name).exists() for name in there.results)
    try:
        theirs = remote.get(there.files[JOURNAL]["key"])
    except Absent:
        return False  # Replaced just now: by what is nearer to us, or by another's.
    if theirs.startswith(here.content):
        return True
    ours = any(RESULT.fullmatch(name) for name in names(folder)), here.entries
    return not ours[0] and there.rank > ours


def fill(remote: Remote, there: Manifest, folder: Path) -> None:
    """All into a draft, compared, and then each to its place: the results and the journal are
    taken away first and come last, so that a kill in between leaves a trial that has to be
    brought again, and none that seems whole."""
    draft = folder / f".brought.{os.getpid()}.{secrets.token_hex(4)}"
    with using(folder):
        try:
            draft.mkdir()
            for path, entry in sorted(there.files.items(), key=lambda it: "link" in it[1]):
                receive(remote, draft / path, entry)
            check(there, draft, remote.url)
            put_in_place(draft, folder)
        finally:
            remove(folder, draft.name)


def receive(remote: Remote, path: Path, entry: Entry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "link" in entry:
        os.symlink(entry["link"], path)
        return
    with open(path, "xb") as file:
        said = remote.receive(entry["key"], file)
        file.flush()
        os.fsync(file.fileno())
        if said != entry["sha256"] or file.tell() != entry["bytes"]:
            raise CorruptRecord(
                f"{remote.url}/{entry['key']}: the checksum does not match: not believed"
            )
    os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))


def check(there: Manifest, draft: Path, url: str) -> None:
    """Raises CorruptRecord where what came is no trial of this id, whoever wrote its checksums."""
    try:
        description(draft / TRIAL, there.trial_id)
        entries, _ = journal.read(draft / JOURNAL)
        if len(entries) != there.entries:
            said = f"{len(entries)} entries, not {there.entries}"
            raise CorruptRecord(f"{draft / JOURNAL}: {said}")
        for name in there.results:
            read_result(draft / name, Key(there.trial_id, RESULT.fullmatch(name)[1]))
    except CorruptRecord as fault:
        said = str(fault).replace(f"{draft}/", f"{url}: trial {there.trial_id}: ")
        raise CorruptRecord(f"{said}: not believed") from fault


def put_in_place(draft: Path, folder: Path) -> None:
    come_last = [name for name in names(draft) if RESULT.fullmatch(name)]
    here = [name for name in names(folder) if RESULT.fullmatch(name)]
    for name in [*here, JOURNAL]:
        remove(folder, name)
    clear(folder)
    remove(folder, PREVIOUS)
    others = [name for name in names(draft) if name not in (*come_last, JOURNAL)]
    for parent, _, _ in os.walk(draft):
        sync_folder(Path(parent))
    for name in [*others, JOURNAL, *come_last]:
        os.replace(draft / name, folder / name)
        if name == JOURNAL:
            sync_folder(folder)
    sync_folder(folder)
