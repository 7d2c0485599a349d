"""Power is cut: whatever the file system may have kept of what was not synced, what was
acknowledged is there, what is read is whole, and the trial can be run to its end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 3600


@pytest.mark.slow
@pytest.mark.fault("A2")
@pytest.mark.parametrize("life", ["sweep", "anew"])
def test_power_is_cut_after_any_operation(life, full, fault_seed, say):
    states = 0 if full else 120
    said = subprocess.run(
        [sys.executable, str(HERE / "life.py"), "power", life, str(states), str(fault_seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    say(
        f"life {life!r}, power cut at each of {found['operations']} operations: "
        f"{found['run']} of {found['states']} states (seed {fault_seed}), "
        f"{len(found['wrong'])} with something lost or wrong ({found['seconds']:.0f} s)"
    )
    assert not found["wrong"], "\n".join(found["wrong"][:5])
    assert found["operations"] > 100


# ---- the file system of the test itself, against states worked out by hand


@pytest.fixture(scope="module")
def power():
    spec = importlib.util.spec_from_file_location("power_states", HERE / "power.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    spec.loader.exec_module(module)
    return module


DRAFT = [
    ("mkdir", "/s"),
    ("sync folder", "/"),
    ("create", "/s/.draft", 7),
    ("write", 7, 0, b"new!"),
]


def last(power, operations):
    """What may be at `/s/file` after all of them: its contents, None where there is none."""
    states = power.states([*operations, ("ack", "end", None)], "/s")
    return {s.files.get("/s/file") for s in states if s.said}


def test_a_rename_without_a_sync_may_leave_an_empty_file(power):
    rename = ("rename", "/s/.draft", "/s/file")
    assert last(power, [*DRAFT, rename]) == {None, b"", b"ne", b"\0\0\0\0", b"new!"}
    assert last(power, [*DRAFT, ("sync", 7), rename]) == {None, b"new!"}
    assert last(power, [*DRAFT, ("sync", 7), rename, ("sync folder", "/s")]) == {b"new!"}


def test_a_file_in_a_folder_that_was_not_synced_may_be_gone(power):
    lost = [("mkdir", "/s"), *DRAFT[2:], ("sync", 7), ("rename", "/s/.draft", "/s/file")]
    assert last(power, [*lost, ("sync folder", "/s")]) == {None, b"new!"}
    assert last(power, [*lost, ("sync folder", "/s"), ("sync folder", "/")]) == {b"new!"}


def test_of_two_renames_the_second_may_be_there_alone(power):
    two = [
        *DRAFT,
        ("sync", 7),
        ("rename", "/s/.draft", "/s/file"),
        ("create", "/s/other", 8),
        ("ack", "end", None),
    ]
    names = {frozenset(s.files) for s in power.states(two, "/s") if s.said}
    assert frozenset({"/s/other"}) in names
    assert frozenset({"/s/file"}) in names
