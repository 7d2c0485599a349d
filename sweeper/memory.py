"""A trial's process in; the most memory that the trial took out, in bytes.

What counts is resident memory: of this process, with all that it has loaded, or for a
command of its processes, added up. High-water marks are the kernel's and are reset when a
trial begins, so a process that ran a greater trial before says nothing of it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

import psutil

RESET_HIGH_WATER = "5"  # proc_pid_clear_refs(5): VmHWM becomes what is resident now
MOST_SECONDS_BETWEEN_LOOKS = 1.0


class Peak:
    """What a trial took at most since this was made. It has state because a command's
    memory is known only while it runs, so that it is looked at again and again."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # No such file elsewhere, or it may not be written.
            Path("/proc/self/clear_refs").write_text(RESET_HIGH_WATER)
        if (cuda := loaded_cuda()) is not None:
            for device in range(cuda.device_count()):
                cuda.reset_peak_memory_stats(device)
        self._command: int | None = None
        self._most = 0
        self._over = threading.Event()

    def follow(self, pid: int) -> None:
        """From now on a command's: process `pid` and all that it starts."""
        self._command = pid
        threading.Thread(target=self._look_on, name=f"memory of {pid}", daemon=True).start()

    def look(self) -> None:
        if self._command is not None:
            self._most = max(self._most, high_water_of_family(self._command))

    def end(self) -> None:
        self._over.set()

    def read(self) -> dict[str, int]:
        """{"peak_memory_bytes"} and, where CUDA was used in this process,
        {"peak_gpu_memory_bytes"}: what torch allocated, on all devices. A command that ended
        before anybody looked has neither."""
        self.look()
        found = {"peak_memory_bytes": own_high_water() if self._command is None else self._most}
        if (cuda := loaded_cuda()) is not None:
            devices = range(cuda.device_count())
            found["peak_gpu_memory_bytes"] = sum(map(cuda.max_memory_allocated, devices))
        return {key: value for key, value in found.items() if value}

    def _look_on(self) -> None:
        pause = 0.01  # A short command is over soon.
        while not self._over.wait(pause):
            self.look()
            pause = min(2 * pause, MOST_SECONDS_BETWEEN_LOOKS)


def own_high_water() -> int:
    if (known := high_water("self")) is not None:
        return known
    import resource  # There is none on Windows.

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def high_water_of_family(pid: int) -> int:
    """Of a process and all below it; 0 once it has ended."""
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            known = high_water(process.pid)
            total += process.memory_info().rss if known is None else known
    return total


def high_water(pid: int | str) -> int | None:
    """None where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    said = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((int(kilobytes) * 1024 for kilobytes in said), None)


def loaded_cuda():
    """torch.cuda where it is in use. Neither is torch imported here nor CUDA started."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
