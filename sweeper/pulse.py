"""Something to do in, and how often; a context in which it is done beside what runs there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def every(seconds: float, act: Callable[[], None], name: str) -> Iterator[None]:
    """Calls `act` in a thread called `name`, first after so many seconds. It is to raise nothing:
    nobody would hear of it."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            act()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
