"""While the verbs are loaded Ctrl-C ends the process without a word, not with a traceback."""

from __future__ import annotations

import signal
import threading


def over() -> None:
    """From here on whoever is called says what Ctrl-C means."""
    if quiet and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


quiet = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if quiet:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
