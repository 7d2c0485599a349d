"""The lease: one holder at a time, taken over from the dead at once, never from the living."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from sweeper.track import lease
from sweeper.track.lease import LeaseHeld
from sweeper.track.sealed import seal

# Waits for the file `go`, tries to take the lease, says how that went, and stays alive
# until its input ends.
CONTENDER = """
import sys
from pathlib import Path
from sweeper.track import lease
print("ready", flush=True)
for line in sys.stdin:
    folder = Path(line.strip())
    try:
        print("won", lease.take(folder).attempt, flush=True)
    except lease.LeaseHeld:
        print("lost", flush=True)
"""


def test_attempts_are_numbered_and_a_released_lease_can_be_taken(tmp_path):
    for attempt in (1, 2, 3):
        held = lease.take(tmp_path)
        assert held.attempt == attempt
        assert lease.live(tmp_path) == held
        lease.release(tmp_path, held)
        assert lease.live(tmp_path) is None


def test_the_living_are_not_robbed(tmp_path):
    lease.take(tmp_path)
    with pytest.raises(LeaseHeld, match=f"run by process {os.getpid()} on .* since") as caught:
        lease.take(tmp_path)
    assert abs(caught.value.since - time.time()) < 5


def write(folder, held, age=0.0):
    path = lease.path_of(folder, held.attempt)
    path.write_bytes(seal(asdict(held)))
    os.utime(path, (time.time() - age,) * 2)


def test_the_dead_of_this_machine_are_taken_over_at_once(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write(tmp_path, replace(lease.take(tmp_path), pid=ended.pid))
    assert lease.take(tmp_path).attempt == 2


def test_an_owner_that_ended_but_was_not_reaped_is_dead():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as ending:
        ending.stdout.read()  # until it has closed everything
        deadline = time.monotonic() + 5
        while lease.birth(ending.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.birth(ending.pid) is None


def test_another_process_with_the_owners_number_is_not_the_owner(tmp_path):
    write(tmp_path, replace(lease.take(tmp_path), born="1"))
    assert lease.live(tmp_path) is None


def test_an_owner_elsewhere_lives_until_its_lease_expires(tmp_path):
    elsewhere = replace(lease.take(tmp_path), place="elsewhere", host="far", pid=1)
    write(tmp_path, elsewhere, age=lease.EXPIRY_SECONDS - 5)
    with pytest.raises(LeaseHeld, match="process 1 on far"):
        lease.take(tmp_path)
    write(tmp_path, elsewhere, age=lease.EXPIRY_SECONDS + 5)
    assert lease.live(tmp_path) is None
    lease.renew(tmp_path, elsewhere)
    assert lease.live(tmp_path) == elsewhere
    write(tmp_path, elsewhere, age=lease.EXPIRY_SECONDS + 5)
    assert lease.take(tmp_path).attempt == 2


def test_a_half_written_lease_is_held_until_it_expires(tmp_path):
    lease.take(tmp_path)
    path = lease.path_of(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(LeaseHeld, match="an unreadable lease"):
        lease.take(tmp_path)
    os.utime(path, (time.time() - 2 * lease.EXPIRY_SECONDS,) * 2)
    assert lease.take(tmp_path).attempt == 2


def test_a_newer_number_fences_the_older_out(tmp_path):
    old = lease.take(tmp_path)
    assert not lease.fenced(tmp_path, old)
    lease.release(tmp_path, old)
    new = lease.take(tmp_path)
    assert lease.fenced(tmp_path, old)
    assert not lease.fenced(tmp_path, new)


def test_of_three_processes_that_take_over_from_the_dead_exactly_one_wins(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(3)
    ]
    try:
        for contender in contenders:
            assert contender.stdout.readline() == "ready\n"
        for number in range(50):
            folder = tmp_path / str(number)
            folder.mkdir()
            if number % 2:  # half the rounds are for a fresh trial, half for a dead owner's
                write(folder, replace(lease.take(folder), pid=ended.pid))
            for contender in contenders:
                contender.stdin.write(f"{folder}\n")
                contender.stdin.flush()
            said = sorted(contender.stdout.readline().strip() for contender in contenders)
            assert said == ["lost", "lost", f"won {1 + number % 2}"]
    finally:
        for contender in contenders:
            contender.stdin.close()
            contender.wait()
            contender.stdout.close()
