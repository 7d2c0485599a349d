"""Trials on their way in, and what becomes of the first of them; the trials, while there is hope
that they come to something, out. A canary first, and an end to a crash loop.

A mistake that ends one trial often ends them all. Until one has measured something they come one
at a time (for some time: what fails alike mostly fails soon), and where the first to end have all
failed alike no more of them come.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sweeper.errors import CrashLoop, SweeperError
from sweeper.record import Record
from sweeper.track import journal
from sweeper.track.folder import Folder
from sweeper.trial import Key, Trial

ALIKE = 3  # that end alike, before all others
WAIT_SECONDS = 60.0  # A first measurement may take hours, and there is room for others meanwhile.
NO_MORE = object()
ADDRESS = re.compile(r"0x[0-9a-f]+")


class CircuitBreaker:
    """Trials go out through `coming`, and `told` hears of their records. It has state because
    what comes next depends on what came of the first, and a lock because they are asked for in
    one thread and told of in another. `proven`: trials by this code have come to something
    already. `keep_going`: none of this is wanted."""

    def __init__(
        self,
        trials: Iterable[Trial | None],
        on_record: Callable[[Record], None],
        folder: Folder,
        *,
        proven: bool = False,
        keep_going: bool = False,
    ):
        self._trials, self._on_record, self._folder = iter(trials), on_record, folder
        self._free = proven or keep_going
        self._watches = not keep_going
        self._lock = threading.Lock()
        self._first: _First | None = None  # the only one that is under way
        self._errors: list[str] = []  # of the first that ended
        self.started = 0

    def coming(self) -> Iterator[Trial | None]:
        while not self.is_open:
            if self._must_wait():
                yield None
                continue
            trial = next(self._trials, NO_MORE)
            if trial is NO_MORE:
                return
            if trial is not None:
                with self._lock:
                    self.started += 1
                    if not self._free:
                        self._first = _First(trial, self._folder.path(trial.id))
            yield trial

    def told(self, record: Record) -> None:
        with self._lock:
            if self._first is not None and self._first.key == record.key:
                self._first = None
            if self._watches:
                self._judge(record)
        self._on_record(record)

    def refuse(self, planned: int | None = None, advice: str = "") -> None:
        """Raises CrashLoop where the first trials all failed alike and that kept others from
        being started; `planned` is how many there were to be, if that is known, and `advice`
        what a person can do."""
        if not self.is_open or (planned is not None and self.started >= planned):
            return
        left = 0 if planned is None else planned - self.started
        rest = f"{left:,} {'was' if left == 1 else 'were'} not" if left else "no more are"
        said = f"the first {ALIKE} trials all failed: {self._errors[0]}; {rest} started"
        raise CrashLoop(f"{said}. {advice}" if advice else said)

    @property
    def is_open(self) -> bool:
        return self._watches and len(self._errors) >= ALIKE

    def _judge(self, record: Record) -> None:
        if record.state != "failed":
            self._free, self._watches = True, False
            return
        error = ADDRESS.sub("0x", (record.error or "").replace(record.trial_id, ""))
        if self._errors and error != self._errors[0]:
            self._free, self._watches = True, False  # Each fails in its own way.
            return
        self._errors.append(error)

    def _must_wait(self) -> bool:
        with self._lock:
            if self._free or self._first is None:
                return False
            self._free = self._first.has_measured() or self._first.age > WAIT_SECONDS
            return not self._free


class _First:
    """A trial under way, and whether it has measured something since it was handed out. It has
    state because a journal is read only when it has grown."""

    def __init__(self, trial: Trial, folder: Path):
        self.key: Key = trial.key
        self._path = folder / "journal.jsonl"
        self._began = time.monotonic()
        self._size = self._length()
        self._known = self._measurements()

    @property
    def age(self) -> float:
        return time.monotonic() - self._began

    def has_measured(self) -> bool:
        before, self._size = self._size, self._length()
        return self._size != before and self._measurements() > self._known

    def _length(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _measurements(self) -> int:
        try:
            return sum(entry["kind"] == "measure" for entry in journal.read(self._path)[0])
        except SweeperError:
            return 0  # Its worker says what is wrong with it.
