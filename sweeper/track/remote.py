"""A URL in; objects read and written there out: what other modules need of fsspec, and the only
importer of it. S3 by s3fs, which reads AWS_* variables and files as every client does; file://,
memory:// and whatever else fsspec knows.

An object is there wholly or not at all, and nothing is renamed: an object store can no more.
What a server or its client says is an EnvironmentFault in one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from sweeper.errors import EnvironmentFault, SpecError
from sweeper.redaction import SHAPE, in_one_line, without_secrets
from sweeper.track.sealed import using

PIECE = 4 * 2**20
LOCAL = ("file", "local")
# Without these a client of S3 tries for minutes. Each applies to one request, not to a file.
PATIENCE = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}


AWAY_SECONDS = 60.0  # that a fault is remembered, for those who can do without an answer
faults: dict[str, tuple[float, str]] = {}  # url -> until when, and what


class Absent(Exception):
    """There is no such object."""


class MirrorFault(EnvironmentFault):
    """What the server says, or that there is none: nothing of this machine's own."""


class Halted(Exception):
    """Whoever asked for this does not want it any more."""


def never() -> bool:
    return False


def check_url(url: str) -> None:
    """Raises SpecError for what is no address of a mirror, or has a secret in it."""
    if without_secrets(url) != url or SHAPE.search(url):
        raise SpecError(
            f"--mirror {without_secrets(url)}: no name, key or password belongs into the address; "
            "credentials of S3 are read from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "from its files"
        )
    parts = urlsplit(url)
    if not parts.scheme or not (parts.netloc or parts.path.strip("/")):
        raise SpecError(
            f"--mirror {url!r}: it is to look like s3://bucket/folder or file:///folder"
        )


@dataclass(frozen=True, slots=True)
class Remote:
    """The objects whose names begin with `url`; a key is what follows that and a slash."""

    url: str

    def get(self, key: str) -> bytes:
        with self._asking() as (system, root):
            return system.cat_file(f"{root}/{key}")

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Those that are there, as many at once as the client can."""
        with self._asking() as (system, root):
            wanted = {f"{root}/{key}": key for key in keys}
            # One path alone fsspec answers with its content.
            came = system.cat(list(wanted), on_error="return", recursive=False) if wanted else {}
            if isinstance(came, bytes):
                came = dict.fromkeys(wanted, came)
            found = {wanted[path]: content for path, content in came.items() if path in wanted}
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {key: content for key, content in found.items() if isinstance(content, bytes)}

    def put(self, key: str, content: bytes) -> None:
        with self._asking(writing=True) as (system, root):
            path = f"{root}/{key}"
            if protocol(system) not in LOCAL:
                system.pipe_file(path, content)
                return
            # A folder, unlike an object store, shows what is half written.
            # Two containers that share it may have equal process ids.
            draft = f"{path}.{secrets.token_hex(8)}.draft"
            system.makedirs(os.path.dirname(path), exist_ok=True)
            system.pipe_file(draft, content)
            system.mv(draft, path)

    def send(
        self, key: str, file: BinaryIO, size: int, halted: Callable[[], bool] = never
    ) -> str | None:
        """The next `size` bytes of a file, which may be large; their sha256. None: it ended
        before that, and what was sent is to be forgotten."""
        said = hashlib.sha256()
        if size <= PIECE:
            content = file.read(size)
            self.put(key, content)
            said.update(content)
            return said.hexdigest() if len(content) == size else None
        with (
            self._asking(writing=True) as (system, root),
            system.open(f"{root}/{key}", "wb") as there,
        ):
            while size and (piece := file.read(min(PIECE, size))):
                if halted():
                    raise Halted
                said.update(piece)
                there.write(piece)
                size -= len(piece)
        return None if size else said.hexdigest()

    def receive(self, key: str, file: BinaryIO) -> str:
        """An object into a file; its sha256. Raises Absent."""
        said = hashlib.sha256()
        with self._asking() as (system, root), system.open(f"{root}/{key}", "rb") as there:
            while piece := there.read(PIECE):
                said.update(piece)
                with using(file.name):  # Its faults are this machine's.
                    file.write(piece)
        return said.hexdigest()

    def names(self, folder: str) -> list[str]:
        """Of the objects right in a folder, in one listing; none where there is no folder."""
        with self._asking() as (system, root):
            try:
                listed = system.ls(f"{root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        return [path.rstrip("/").rpartition("/")[2] for path in listed]

    def below(self, folder: str) -> dict[str, float]:
        """Key -> when it was written (seconds since the epoch), at whatever depth."""
        with self._asking() as (system, root):
            try:
                found = system.find(f"{root}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
        start = len(root.rstrip("/")) + 1
        return {path[start:]: written(info) for path, info in found.items()}

    def remove(self, keys: Iterable[str]) -> None:
        with self._asking() as (system, root):
            paths = [f"{root}/{key}" for key in keys]
            if paths and protocol(system) not in LOCAL:
                with contextlib.suppress(FileNotFoundError):
                    system.rm(paths)
                return
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    system.rm_file(path)
                with contextlib.suppress(OSError):  # The folder, if it is empty by now.
                    os.rmdir(os.path.dirname(path))

    @contextlib.contextmanager
    def _asking(self, writing: bool = False) -> Iterator[tuple[Any, str]]:
        """The one place in which whatever a client raises is caught."""
        try:
            yield opened(self.url, os.getpid())
            faults.pop(self.url, None)
        except (EnvironmentFault, Halted):
            raise
        except FileNotFoundError as fault:
            if writing or "specified bucket" in str(fault):  # As S3 says it.
                raise self._noted(fault) from fault
            faults.pop(self.url, None)
            raise Absent(one_line(fault)) from fault
        except Exception as fault:
            raise self._noted(fault) from fault

    def _noted(self, fault: Exception) -> MirrorFault:
        said = f"the mirror {self.url}: {one_line(fault)}"
        faults[self.url] = time.monotonic() + AWAY_SECONDS, said
        return MirrorFault(said)


def away(url: str) -> str | None:
    """What kept this process from it, if that was a moment ago and nothing has come since."""
    until, said = faults.get(url, (0.0, ""))
    return said if time.monotonic() < until else None


@lru_cache(maxsize=8)
def opened(url: str, pid: int) -> tuple[Any, str]:
    """One client for all threads of a process: making one takes a good part of a second."""
    from fsspec.core import url_to_fs

    scheme = urlsplit(url).scheme
    options: dict[str, Any] = {"skip_instance_cache": True}
    if scheme in LOCAL:
        options["auto_mkdir"] = True
    if scheme in ("s3", "s3a"):
        options |= {"use_listings_cache": False, "config_kwargs": PATIENCE}
    try:
        system, root = url_to_fs(url, **options)
    except ImportError as fault:
        if scheme in ("s3", "s3a"):
            said = "s3fs is not installed: pip install 'sweeper[s3]'"
            raise EnvironmentFault(f"the mirror {url}: {said}") from fault
        raise
    if scheme in ("s3", "s3a"):
        system.retries = 2
    return system, root.rstrip("/")


def protocol(system: Any) -> str:
    names = system.protocol
    return names if isinstance(names, str) else names[0]


def written(info: dict[str, Any]) -> float:
    """Now, where the client does not say it: what looks new is kept."""
    at = info.get("LastModified") or info.get("mtime") or info.get("created")
    if at is None:
        return float("inf")
    return float(at) if isinstance(at, int | float) else at.timestamp()


def one_line(fault: Exception) -> str:
    return in_one_line(fault)[:300] or type(fault).__name__
