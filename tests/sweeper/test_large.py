"""What planning costs: processor seconds and memory of the command, whole process.

Each bound is on the least of three tries: other work on a machine adds to one, and never takes
away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

ROOT = Path(__file__).parents[2]
GRID = """\
name: big
trainer: {function: "toy_trainers:keeps", config: toy_config}
axes:
  lr: {range: [1, 100]}
  kl.epochs: {range: [1, 100]}
  model: [plain, other]
  kl.start: {linspace: [0.1, 0.4, 4], when: model == 'plain'}
  seed: [0, 1]
exclude: [lr > 98 and kl.epochs == 3]
metrics: {loss: {from: loss}}
tables: {t: {rows: lr, columns: [model], values: [loss], over: [kl.epochs, kl.start, seed]}}
profiles: {quick: {}}
"""
POINTS = 100 * 100 * (1 + 4) * 2 - 2 * 1 * (1 + 4) * 2


def measured(*arguments: str, store: Path, cwd: Path = ROOT) -> tuple[str, float, float]:
    """(what it prints, processor seconds, most resident megabytes) of a `sweeper` command."""
    # Not ru_maxrss: a process inherits that of the one that started it.
    code = (
        "import atexit, re, sys; from sweeper.cli import main; "
        "atexit.register(lambda: print(re.search(r'VmHWM.*', "
        "open('/proc/self/status').read())[0], file=sys.stderr)); main()"
    )
    command = [sys.executable, "-c", code, *arguments, "--store", str(store)]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", said)[1]) / 1024
    return said, used.ru_utime + used.ru_stime, peak


def least(*arguments: str, bound: float, **where: Path) -> tuple[str, float]:
    for _ in range(3):
        said, seconds, megabytes = measured(*arguments, **where)
        if seconds <= bound:
            break
    assert seconds <= bound
    return said, megabytes


@pytest.mark.slow
def test_a_grid_of_100_000_trials_is_planned_within_5_seconds_and_500_megabytes(tmp_path):
    (tmp_path / "big.yaml").write_text(GRID)
    said, megabytes = least("plan", "big.yaml", bound=5.0, store=tmp_path / "runs", cwd=tmp_path)
    assert POINTS == 99_980
    assert f"big · quick: {POINTS} trials, {POINTS} missing; {POINTS} to run" in said
    assert megabytes < 500


def test_a_small_plan_is_there_at_once(tmp_path):
    said, _ = least("plan", "sweeps/table3.yaml", bound=0.5, store=tmp_path / "runs")
    assert "table3 · quick: 36 trials" in said
