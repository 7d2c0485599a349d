"""A folder and a terminal in it: real commands, in an environment with nothing of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
SECONDS = 120.0  # what anything here may take, on a machine with other work
NOBODY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "SWEEPER_OFFLINE": "1"}  # no MLflow there


class Terminal:
    """`paths` are where Python finds modules beside this project's; `variables` of the
    environment. Has state because it ends what it has started."""

    def __init__(self, folder: Path, *paths: Path, **variables: str):
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths))),
            "OMP_NUM_THREADS": "1",
            **variables,
        }

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Self]:
        made = cls(folder)
        try:
            yield made
        finally:
            for process in made.started:
                if process.poll() is None:
                    process.kill()
                process.wait()
                with process:  # Closes what was read from.
                    pass

    def start(self, *words: str, before: str = "", **how: object) -> subprocess.Popen[str]:
        """`before` is Python that is run before the command in its process; `how` is for Popen."""
        main = ["-c", f"{before}\nfrom sweeper.cli import main; main()"]
        process = subprocess.Popen(
            [sys.executable, *(main if before else ["-m", "sweeper"]), *words],
            **{
                "cwd": self.folder,
                "env": self.environment,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                **how,
            },
        )
        self.started.append(process)
        return process

    def type(self, *words: str) -> tuple[int, str, str]:
        return said(self.start(*words))

    def until(
        self, what: Callable[[], object], process: subprocess.Popen[str] | None = None
    ) -> None:
        """Waits for it, while the process lives."""
        deadline = time.monotonic() + SECONDS
        while not what():
            if process is not None and process.poll() is not None:
                raise AssertionError(process.communicate())
            assert time.monotonic() < deadline
            time.sleep(0.01)


def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code and what it wrote, when it has ended."""
    out, err = process.communicate(timeout=SECONDS)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err
