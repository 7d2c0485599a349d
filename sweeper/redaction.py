"""Text and addresses in; the same without the secrets in them out. And what a secret is.

A secret stands in a variable of the environment, and a sweep file names it: `env:NAME`. The
name is what is hashed, stored and shown; a trainer is given the value. A sweep file with a
secret in it is refused, for it goes into reports, into MLflow and to colleagues.

What is known to be secret in this process: the values of variables whose names say so, those
that a sweep file names, passwords in addresses, and what looks like a token wherever it stands.
Values of fewer than six characters are not looked for: they are in many words.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from sweeper.errors import EnvironmentFault

HIDDEN = "***"
FEWEST = 6  # characters of a value that is looked for
LONG = 48  # characters from which a value is known by its beginning: a message may cut it
HINT = "write env:NAME and put it into that variable; only the name is part of the identity"
FRESH_SECONDS = 0.2  # for which a stream knows the environment: to read it takes longer than a line
REFERENCE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")

# What ends a key under which any text is a secret, and what does so only where the text cannot
# be a word: `pass: first` and `eos_token: </s>` are settings like any other.
SECRET_ENDS = re.compile(
    r"(.* )?(password|passwd|passphrase|pwd|secret|apikey|credentials?"
    r"|(api|access|secret|private|auth) key"
    r"|(api|access|auth|bearer|refresh|session|secret|hf|hub|wandb|github|gitlab|slack) token)"
)
MAYBE_ENDS = re.compile(r"(.* )?(pass|token|auth|secrets|passwords)")
WORD_IN_KEY = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
OPAQUE = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[^\s<>\[\]{}]{12,}")
NAME_LIKE = re.compile(r"[A-Za-z]*[0-9.]*([_./:+-][A-Za-z]*[0-9.]*)*")  # warmup_1000, v2.1/best
PATH_LIKE = re.compile(r"[^\s:]*/[^\s:]*|[^\s]*\.(json|ya?ml|txt|ini|toml|pem)")

KEY_BEGINS = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY-----")
KEY_ENDS = re.compile("-----END [A-Z ]*PRIVATE KEY-----")
KEY_LINES = 200  # after which a key that has not ended is none
PEM = rf"{KEY_BEGINS.pattern}[\s\S]*?(?:{KEY_ENDS.pattern}|\Z)"
SHAPES = (
    PEM,
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bglpat-[\w-]{20,}",
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"(?<![A-Za-z0-9-])sk-(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{20,}",
    r"\bAIza[\w-]{35}",
    r"\beyJ[\w-]{16,}(?:\.[\w-]+)*",
    r"(?<=://)[^\s/@:'\"]*:[^\s/'\"]+(?=@)",
)
# What only a message may hide: in a file it may be said of something else.
SAID = (
    r"(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9+/=._~-]{16,}",
    r"(?i:(?<=password=)|(?<=passwd=)|(?<=api_key=)|(?<=apikey=)|(?<=access_token=)"
    r"|(?<=auth_token=)|(?<=secret_key=)|(?<=client_secret=))['\"]?[^\s'\",;&)]{6,}",
)
SHAPE = re.compile("|".join(SHAPES))

_named: set[str] = set()  # variables that this process was told of
_learned: set[str] = set()  # values likewise


# ---- what is a secret


def is_secret(key: str, value: Any) -> bool:
    """Whether a setting is a secret written out. `key` may be dotted: its last part counts."""
    if not isinstance(value, str) or not value.strip() or REFERENCE.fullmatch(value):
        return False
    if SHAPE.search(value):
        return True
    said = words(key)
    if SECRET_ENDS.fullmatch(said):
        return not (said.endswith(("credential", "credentials")) and PATH_LIKE.fullmatch(value))
    return bool(MAYBE_ENDS.fullmatch(said)) and is_opaque(value)


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a variable of the environment holds a secret by its name. PWD is a folder."""
    said = words(name)
    return said != "pwd" and bool(SECRET_ENDS.fullmatch(said) or MAYBE_ENDS.fullmatch(said))


def words(key: str) -> str:
    """ "optim.hubToken", "HUB_TOKEN" -> "hub token" """
    parts = key.split(".")
    last = parts[-2] if len(parts) > 1 and parts[-1] == "value" else parts[-1]
    return " ".join(WORD_IN_KEY.findall(last)).lower()


def is_opaque(value: str) -> bool:
    return bool(OPAQUE.fullmatch(value)) and not NAME_LIKE.fullmatch(value)


def in_items(key: str, value: Any) -> Iterator[str]:
    """The secrets that are written out in a setting, or in the items of one that is a list."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if is_secret(key, item):
            yield item


# ---- settings that name a variable


def references(value: Any) -> Iterator[str]:
    """The variables that a value, or whatever is in it, names."""
    if isinstance(value, str):
        if match := REFERENCE.fullmatch(value):
            yield match[1]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def resolved(value: Any) -> Any:
    """With the value of each variable in the place of its name. Raises EnvironmentFault for
    one that is not set."""
    if isinstance(value, str):
        match = REFERENCE.fullmatch(value)
        return variable(match[1]) if match else value
    if isinstance(value, Mapping):
        return {key: resolved(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolved(item) for item in value)
    return value


def variable(name: str) -> str:
    remember(name)
    if not (value := os.environ.get(name)):
        raise EnvironmentFault(f"env:{name}: the variable {name} is not set")
    return value


# ---- what is known here


def remember(*names: str) -> None:
    """Variables that hold secrets, whatever they are called."""
    _named.update(names)


def learn(*values: str) -> None:
    _learned.update(values)


def known() -> frozenset[str]:
    """The secrets that are looked for in what is shown, as they may be written."""
    named = (value for name, value in os.environ.items() if name in _named or is_secret_name(name))
    found = {*named, *_learned}
    # A value of several lines, such as a key, may be printed line by line.
    found |= {line for value in found if "\n" in value for line in value.splitlines()}
    return frozenset(value for value in found if len(value.strip()) >= FEWEST)


def conceal(text: str) -> str:
    """`text` with HIDDEN in the place of each secret."""
    return pattern(known()).sub(HIDDEN, text)


def in_one_line(text: object) -> str:
    """What was said, without its secrets and line ends."""
    return " ".join(conceal(str(text)).split())


@lru_cache(maxsize=8)
def pattern(values: frozenset[str]) -> re.Pattern[str]:
    """One that matches each of `values`, the longest first, and what looks like a secret."""
    spelled = {way for value in values for way in spellings(value)}
    several = [re.escape(it) for it in sorted(spelled, key=lambda it: (-len(it), it))]
    cut = [rf"{re.escape(it[: LONG // 2])}[^\s'\"]*" for it in spelled if len(it) >= LONG]
    return re.compile("|".join([*several, *sorted(cut), *SHAPES, *SAID]))


def spellings(value: str) -> Iterable[str]:
    """As it is, as a program shows it, and as an address has it."""
    return {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe="")}


# ---- addresses


def without_secrets(uri: str) -> str:
    """`uri` as it may be shown: without the name and the password in it, and its query. What
    is left out is a secret from here on."""
    try:
        parts = urlsplit(uri)
        password = parts.password
    except ValueError:  # A bracket or a port that is none.
        return SHAPE.sub(HIDDEN, uri.partition("?")[0])
    user, at, host = parts.netloc.rpartition("@")
    if not at and not parts.query:
        return uri
    asked = [value for _, _, value in (it.partition("=") for it in parts.query.split("&"))]
    secret = [password or user, *(value for value in asked if is_opaque(value))]
    learn(*(way for it in secret if it for way in (it, unquote(it))))
    path = parts.path
    # urlunsplit drops the slashes of sqlite:////folder/file.
    return urlunsplit((parts.scheme, host, path, "", "")) if host else uri.partition("?")[0]


# ---- streams


class Concealing(io.BufferedIOBase):
    """A file for bytes that hides secrets from what is written to it, line by line. Has state
    because a line, or a key of many lines, may come in pieces."""

    def __init__(self, file: Any):
        self._file, self._rest, self._key_lines = file, b"", 0
        self._look, self._looked = re.compile(""), (-1.0, 0, 0)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, some: Any) -> int:
        self._rest += bytes(some)
        whole, newline, self._rest = self._rest.rpartition(b"\n")
        if newline:
            self._file.write(self._shown(whole + newline))
        return len(some)

    def flush(self) -> None:
        """Shows what there is of a line, too: somebody may be waiting to see it."""
        if self.closed:
            return
        if self._rest:
            rest, self._rest = self._rest, b""
            self._file.write(self._shown(rest))
        self._file.flush()

    def close(self) -> None:
        try:
            super().close()  # Which flushes.
        finally:
            self._file.close()

    def _shown(self, some: bytes) -> bytes:
        at, *told = self._looked
        now = time.monotonic()
        if now > at + FRESH_SECONDS or told != [len(_named), len(_learned)]:
            self._look = pattern(known())
            self._looked = (now, len(_named), len(_learned))
        text = some.decode(errors="surrogateescape")
        if self._key_lines or "PRIVATE KEY-----" in text:
            text = "".join(self._without_keys(text))
        return self._look.sub(HIDDEN, text).encode(errors="surrogateescape")

    def _without_keys(self, text: str) -> Iterator[str]:
        """A key may be a few lines, of which each comes by itself."""
        while text:
            if self._key_lines:
                end = KEY_ENDS.search(text)
                self._key_lines -= text.count("\n", 0, end.start() if end else None)
                if end is None and self._key_lines > 0:
                    return
                self._key_lines, text = 0, text[end.end() :] if end else text
            begin = KEY_BEGINS.search(text)
            if begin is None:
                yield text
                return
            yield text[: begin.start()] + HIDDEN
            self._key_lines, text = KEY_LINES, text[begin.end() :]


def concealing(path: str | os.PathLike[str]) -> TextIO:
    """A log that is added to, a line at a time, without the secrets of what is written."""
    try:
        file = io.BufferedWriter(Lossy(path, "ab", opener=no_link))
    except OSError as fault:
        said = f"cannot open the log {os.fspath(path)}: {fault.strerror or fault}"
        raise EnvironmentFault(said) from fault
    return io.TextIOWrapper(
        Concealing(file),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class Lossy(io.FileIO):
    """What cannot be written to it is lost: no trial ends for its log."""

    def write(self, some: Any) -> int:
        try:
            return super().write(some)
        except OSError:
            return memoryview(some).nbytes


def no_link(path: str, flags: int) -> int:
    """Never another file, whoever planted the link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def print_concealed(
    kind: type[BaseException], fault: BaseException, trace: TracebackType | None
) -> None:
    """For sys.excepthook."""
    sys.stderr.write(conceal("".join(traceback.format_exception(kind, fault, trace))))
