"""Workers of a search, as processes:

    python toy_workers.py FILE STORE                       to its end
    python toy_workers.py FILE STORE WRITES WRITES ...     each killed before so many writes, one
                                                           after another, and the last one not

After each it says how it ended, and which results there are then, with their dates.
Writes are the commits of databases, and files that are opened to be written or renamed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import sqlalchemy

import sweeper.dispatch.inline
import sweeper.searching  # noqa: F401
from sweeper import run
from sweeper.spec import read


def work(file: str, store: Path) -> None:
    sweep, place = read(file), run.Place(store=store)
    place.folder.prepare()
    studies = run.studies(sweep, place)
    plan = run.look(run.looked_up(sweep, place), place)
    run.search(
        sweep,
        place,
        run.Machine.for_(sweep, "inline", None),
        lambda record: None,
        threading.Event(),
        there=studies,
        account=run.account(sweep, plan, place),
    )


def kill_before(writes: int) -> None:
    left = [writes]

    def count(*about: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, about: tuple) -> None:
        # A file that is open already: a lease that is empty is waited for for a minute.
        fresh = event == "open" and not isinstance(about[0], int)
        if (fresh and about[2] & (os.O_WRONLY | os.O_RDWR)) or event == "os.rename":
            count()

    sys.addaudithook(hear)
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", count)


def main() -> None:
    file, store = sys.argv[1], Path(sys.argv[2]).resolve()
    for writes in map(int, sys.argv[3:]):
        child = os.fork()
        if child == 0:
            kill_before(writes)
            work(file, store)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in (0, -signal.SIGKILL)
        results = store.glob("trials/*/result-*.json")
        print(ended, *sorted(f"{it.parent.name}={it.stat().st_mtime_ns}" for it in results))
    work(file, store)


if __name__ == "__main__":
    main()
