"""Two processes that want one sweep at the same moment, so many times:

    python race.py FOLDER ROUNDS

Before each round the sweep has had no owner, one that has ended well, one that died, or one
elsewhere that has been silent for too long. A line a round: the numbers of those that won.

    python race.py FOLDER ROUNDS again

Three processes that take one sweep and give it back, over and over; says how often somebody
had it while another one thought that it was his.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from sweeper.track import lease, owner
from sweeper.track.lease import EXPIRY_SECONDS, LeaseHeld
from sweeper.track.sealed import seal

CONTEXT = multiprocessing.get_context("fork")


def dead() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def prepare(folder: Path, round: int) -> None:
    """What was before."""
    if round % 4 == 0:
        return
    held = owner.take(folder)
    path = lease.path_of(folder, held.attempt)
    if round % 4 == 1:
        lease.release(folder, held)
        return
    before = (
        replace(held, pid=dead(), born="1")
        if round % 4 == 2
        else replace(held, place="elsewhere", host="far")
    )
    path.unlink()
    lease.create(path, seal(asdict(before)))
    if round % 4 == 3:
        os.utime(path, (time.time() - 2 * EXPIRY_SECONDS,) * 2)


def contend(root: Path, rounds: int, number: int, barrier, won) -> None:
    for round in range(rounds):
        folder = root / f"{round}.owner"
        if number == 0:
            prepare(folder, round)
        barrier.wait()
        try:
            held = owner.take(folder)
        except LeaseHeld:
            held = None
        won[number] = held is not None
        barrier.wait()
        if number == 0:
            print(*(n for n in range(len(won)) if won[n]), flush=True)
        barrier.wait()


def again(root: Path, rounds: int, number: int, barrier, broken) -> None:
    folder = root / "one.owner"
    barrier.wait()
    for _ in range(rounds):
        try:
            held = owner.take(folder)
        except LeaseHeld:
            continue
        try:
            os.close(os.open(root / "mine", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            with broken.get_lock():
                broken[0] += 1
        else:
            broken[1] += 1
            (root / "mine").unlink()
        lease.release(folder, held)


def main() -> None:
    root, rounds = Path(sys.argv[1]), int(sys.argv[2])
    many = 3 if sys.argv[3:] else 2
    barrier = CONTEXT.Barrier(many)
    shared = CONTEXT.Array("i", many)
    act = again if sys.argv[3:] else contend
    processes = [
        CONTEXT.Process(target=act, args=(root, rounds, number, barrier, shared))
        for number in range(many)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    if act is again:
        print(shared[0], shared[1])


if __name__ == "__main__":
    main()
