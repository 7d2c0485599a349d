"""A folder for what Ray and Tune write and nobody reads, outside any store; and those that
killed drivers left. Imports no Ray, so that what looks after a machine need not either.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweeper.track.lease import birth, this_place

OWNER = "driver.json"


def private_scratch() -> Path:
    """A new folder that says whose it is. Those that killed drivers left are removed."""
    for left in abandoned():
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="sweeper-"))
    (scratch / OWNER).write_text(json.dumps([this_place(), os.getpid(), birth(os.getpid())]))
    return scratch


def abandoned() -> Iterator[Path]:
    """This user's folders whose driver, a process of this machine, has ended."""
    for left in Path(tempfile.gettempdir()).glob("sweeper-*"):
        # One that does not say whose it is may be a minute old, or somebody else's.
        with contextlib.suppress(OSError, ValueError, TypeError):
            place, pid, born = json.loads((left / OWNER).read_bytes())
            dead = place == this_place() and birth(pid) != born
            if dead and not left.is_symlink() and left.lstat().st_uid == os.getuid():
                yield left
