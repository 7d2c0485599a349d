from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
import torch

from trainers import checkpoint


def state(epoch: int) -> dict:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "weights": {"a": torch.rand(3, 2, generator=generator)},
        "best": {"loss": 1.5 / epoch, "weights": None},
        "epoch": epoch,
        "finished": False,
    }


def same(left: object, right: object) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, epoch, state(epoch), "me")
    return tmp_path


def test_the_newest_comes_back_and_the_one_before_it_is_kept(folder: Path) -> None:
    loaded, notes = checkpoint.load(folder, "me")
    assert same(loaded, state(3))
    assert notes == []
    assert sorted(path.name for path in folder.iterdir()) == [
        "epoch-000002.checkpoint",
        "epoch-000003.checkpoint",
    ]


def test_no_folder_is_a_start(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none", "me") == (None, [])


@pytest.mark.fault("B9")
def test_every_truncation_is_found(folder: Path) -> None:
    newest = folder / "epoch-000003.checkpoint"
    content = newest.read_bytes()
    for length in {0, 1, 63, 64, 65, len(content) - 1, *range(100, len(content), 97)}:
        newest.write_bytes(content[:length])
        loaded, notes = checkpoint.load(folder, "me")
        assert same(loaded, state(2)), length
        assert len(notes) == 1
        assert "damaged" in notes[0]


@pytest.mark.fault("B10")
def test_every_flipped_bit_is_found(folder: Path) -> None:
    newest = folder / "epoch-000003.checkpoint"
    content = newest.read_bytes()
    draw = random.Random(0)
    places = {*range(80), *draw.sample(range(len(content)), 300)}
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        newest.write_bytes(flipped)
        assert checkpoint.intact(newest) is None, place
    assert same(checkpoint.load(folder, "me")[0], state(2))


def test_when_none_is_intact_training_starts_over_and_its_checkpoints_are_kept(
    folder: Path,
) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")
    loaded, notes = checkpoint.load(folder, "me")
    assert loaded is None
    assert "starts over" in notes[-1]
    checkpoint.save(folder, 1, state(1), "me")  # Older by name than the damaged ones.
    assert same(checkpoint.load(folder, "me")[0], state(1))


@pytest.mark.fault("B11")
def test_another_configurations_checkpoint_is_refused(folder: Path) -> None:
    with pytest.raises(checkpoint.ForeignCheckpoint, match="another configuration or seed"):
        checkpoint.load(folder, "you")


def test_what_a_killed_save_leaves_is_not_read(folder: Path) -> None:
    (folder / "epoch-000004.unfinished").write_bytes(b"half a checkpoint")
    assert same(checkpoint.load(folder, "me")[0], state(3))


@pytest.mark.fault("B12")
def test_an_intact_file_that_is_code_is_not_run(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    checkpoint.save(tmp_path, 1, {"canary": Canary()}, "me")
    with pytest.raises(checkpoint.UnreadableCheckpoint, match="was not loaded; move it away"):
        checkpoint.load(tmp_path, "me")
    assert not (tmp_path / "ran").exists()


def test_the_digest_is_of_all_that_follows_it(folder: Path) -> None:
    content = (folder / "epoch-000003.checkpoint").read_bytes()
    assert content[:64] == hashlib.sha256(content[64:]).hexdigest().encode()


def test_every_write_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.save(tmp_path, 1, state(1), "me")
    folders = ["fsync"]  # The folder is new to us.
    assert calls == [*folders, "fsync", "replace", "fsync"]
