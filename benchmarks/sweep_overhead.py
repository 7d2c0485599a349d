"""What a sweep costs beside its trials: wall time against the trials' compute.

    python benchmarks/sweep_overhead.py [FILE]        table 3 under quick, minutes

Runs the sweep from nothing, in a store of its own, through Ray Tune, and divides the wall
time of the whole command (start-up, Ray, MLflow's database, the tables) by the processor
seconds of its trials over the number of slots. 1.00 is a machine that does nothing else.
With `--store` the store is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import missed

from sweeper.dispatch import fitted, slots
from sweeper.run import Place, look
from sweeper.spec import read

GOAL = 1.25


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", default="sweeps/table3.yaml")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = (arguments.store or Path(scratch) / "runs").resolve()
        sweep, place = read(arguments.file), Place(store=store)
        assert not look(sweep, place).records, f"{store} has records already"
        began = time.perf_counter()
        command = [sys.executable, "-m", "sweeper", "run", arguments.file, "--store", str(store)]
        subprocess.run(command, check=True)
        wall = time.perf_counter() - began
        records = look(sweep, place).records.values()
    at_once = slots(fitted(sweep.resources))
    compute = sum(record.cpu_seconds for record in records)
    inside = sum(record.seconds for record in records)
    print(f"{len(records)} trials on {at_once} slots: {wall:.0f} s of wall time")
    print(f"trials: {compute:.0f} processor seconds, {inside:.0f} s from start to end")
    ratio = wall * at_once / compute
    short = missed(ratio <= GOAL)
    print(f"wall / (processor seconds / slots): {ratio:.3f}  (at most {GOAL}){short}")
    print(f"wall / (start to end / slots):      {wall * at_once / inside:.3f}")


if __name__ == "__main__":
    main()
