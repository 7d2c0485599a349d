"""Checkpoints that are damaged, another trial's, or code: found out, passed over and said, or
refused; and training goes on from the one before to the same weights, bit for bit."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import io
import json
import logging
import os
import pickle
import random
import shutil
import subprocess
import tarfile
import traceback
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Run, corpus

from trainers import checkpoint
from trainers.text_vae import train

CONFIG = {
    "data": "tiny",
    "dropout": 0.2,
    "word_dropout": 0.1,
    "size": {"embedding": 2, "encoder": 3, "decoder": 3, "latent": 2},
    "init": {"scheme": "default"},
    "kl": {"warmup_epochs": 2},
    "optim": {"algorithm": "adam", "lr": 0.02, "batch": 8, "epochs": 3, "rule": "milestones"},
    "evaluate": {"samples": 3},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("data"), {"train": 24, "valid": 8, "test": 8}, longest=4)


@dataclass(frozen=True)
class Trained:
    """A run that was killed in its third epoch, and the state with which one ends that was
    not; each test works on a copy."""

    root: Path
    data: Path
    final: dict[str, Any]

    def copy(self, name: str) -> Run:
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / "killed", folder)
        return Run(folder, self.data)


def newest(run: Run) -> Path:
    return checkpoint.newest_first(run.folder / "checkpoints")[0]


def state_of(run: Run) -> dict[str, Any]:
    content = newest(run).read_bytes()[checkpoint.DIGEST_BYTES :].partition(b"\n")[2]
    return torch.load(io.BytesIO(content), weights_only=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    whole, killed = Run(root / "whole", data), Run(root / "killed", data)
    list(train(CONFIG, whole))
    measured = train(CONFIG, killed)
    for _ in range(3):
        next(measured)
    measured.close()
    names = [path.name for path in checkpoint.newest_first(root / "killed" / "checkpoints")]
    assert names == ["epoch-000002.checkpoint", "epoch-000001.checkpoint"]
    return Trained(root, data, state_of(whole))


def same(left: Any, right: Any) -> bool:
    """Bit for bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return left == right


def without_times(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if "seconds" not in key}


# ---- damage


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.fault("B9")
def test_every_truncation_is_found(tmp_path: Path, trained: Trained, full: bool, say) -> None:
    """At every length: of a small one that is loaded each time, and of a real one (of that, in
    the reduced run, at every 11th)."""
    small = {"weights": torch.arange(3.0)}
    for epoch in (1, 2):
        checkpoint.save(tmp_path, epoch, {**small, "epoch": epoch}, "me")
    path = tmp_path / "epoch-000002.checkpoint"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        state, notes = checkpoint.load(tmp_path, "me")
        assert state is not None, length
        assert state["epoch"] == 1, length
        assert notes == [f"{path} is damaged and was passed over"]
    real = newest(trained.copy("truncated"))
    whole = real.read_bytes()
    lengths = range(len(whole) - 1, -1, -1 if full else -11)
    for length in lengths:
        os.truncate(real, length)
        assert checkpoint.intact(real) is None, length
    say(f"{len(content):,} + {len(lengths):,} truncations: all found")


@pytest.mark.fault("B10")
def test_every_flipped_bit_is_found(trained: Trained, full: bool, fault_seed: int, say) -> None:
    count = 1000 if full else 200
    run, draw = trained.copy("flipped"), random.Random(fault_seed)
    path = newest(run)
    content = path.read_bytes()
    owner = json.loads(content[checkpoint.DIGEST_BYTES :].partition(b"\n")[0])["owner"]
    silent = 0
    for _ in range(count):
        path.write_bytes(flipped(content, draw))
        state, notes = checkpoint.load(run.folder / "checkpoints", owner)
        assert "is damaged and was passed over" in notes[0]
        assert state["epoch"] == 1
        silent += checkpoint.intact(path) is not None
    say(f"{count} flipped bits (seed {fault_seed}): {silent} not found")
    assert silent == 0


@pytest.mark.fault("B9", "B10")
def test_training_goes_on_from_the_one_before_to_the_same_weights(
    trained: Trained, full: bool, fault_seed: int, caplog: pytest.LogCaptureFixture, say
) -> None:
    draw, each = random.Random(fault_seed), 25 if full else 2
    for number in range(2 * each):
        run = trained.copy("resumed")
        path = newest(run)
        content = path.read_bytes()
        cut = content[: draw.randrange(len(content))]
        path.write_bytes(cut if number % 2 else flipped(content, draw))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            list(train(CONFIG, run))
        assert caplog.messages == [f"{path} is damaged and was passed over"]
        assert same(without_times(state_of(run)), without_times(trained.final))
    said = f"{each} truncations and {each} flips (seed {fault_seed})"
    say(f"{said}: trained on from the one before, the same weights bit for bit")


@pytest.mark.fault("B9", "B10")
def test_where_both_are_damaged_training_starts_over_and_says_so(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained.copy("both")
    for path in checkpoint.newest_first(run.folder / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        measured = list(train(CONFIG, run))
    assert len(measured) == 4  # Three epochs and the result.
    assert "training starts over" in caplog.messages[-1]
    assert same(without_times(state_of(run)), without_times(trained.final))


# ---- another trial's


@pytest.mark.fault("B11")
@pytest.mark.parametrize(
    ("config", "seed"), [(CONFIG, 2), ({**CONFIG, "dropout": 0.3}, 1)], ids=["seed", "setting"]
)
def test_the_checkpoint_of_another_trial_is_refused(trained: Trained, config, seed) -> None:
    run = trained.copy("foreign")
    other = Run(run.folder, run.data, seed=seed)
    before = {path: path.read_bytes() for path in (run.folder / "checkpoints").iterdir()}
    with pytest.raises(checkpoint.ForeignCheckpoint, match="under another configuration or seed"):
        list(train(config, other))
    assert before == {path: path.read_bytes() for path in (run.folder / "checkpoints").iterdir()}


# ---- code


class Calls:
    """What a pickle of it does when it is loaded."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Model(torch.nn.Module):
    """A whole module, as `torch.save(model)` would write one."""

    def __init__(self, canary: str):
        super().__init__()
        self.canary = canary

    def __setstate__(self, state: dict[str, Any]) -> None:
        os.mkdir(state["canary"])


def saved(value: Any, **more: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content, **more)
    return content.getvalue()


def old_tar(canary: str) -> bytes:
    """The format of torch before 0.2: a tar whose members are pickles."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            body = pickle.dumps(Calls(os.mkdir, canary))
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def torchscript(canary: str) -> bytes:
    """An archive that torch hands over to `torch.jit.load`."""
    content = io.BytesIO(saved({"x": Calls(os.mkdir, canary)}))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(Calls(os.mkdir, canary)))
        archive.writestr("archive/code/__torch__.py", f"import os\nos.mkdir({canary!r})\n")
    return content.getvalue()


def loaded_by_torch(canary: str) -> bytes:
    """A call of torch's own that loads another file without care."""
    other = f"{canary}.pickle"
    Path(other).write_bytes(saved(Calls(os.mkdir, canary)))
    return saved({"x": Calls(partial(torch.load, weights_only=False), other)})


PAYLOADS = {
    "os.mkdir": lambda it: saved({"x": Calls(os.mkdir, it)}),
    "os.system": lambda it: saved({"x": Calls(os.system, f"mkdir {it}")}),
    "eval": lambda it: saved({"x": Calls(builtins.eval, f"__import__('os').mkdir({it!r})")}),
    "exec": lambda it: saved({"x": Calls(builtins.exec, f"import os; os.mkdir({it!r})")}),
    "subprocess": lambda it: saved({"x": Calls(subprocess.call, ["mkdir", it])}),
    "before zip": lambda it: saved(
        {"x": Calls(os.mkdir, it)}, _use_new_zipfile_serialization=False
    ),
    "bare pickle": lambda it: pickle.dumps(Calls(os.mkdir, it)),
    "array of objects": lambda it: saved({"x": np.array([Calls(os.mkdir, it)], dtype=object)}),
    "module": lambda it: saved(Model(it)),
    "torch.load": loaded_by_torch,
    "tar": old_tar,
    "torchscript": torchscript,
}
NOT_RUN_BY_TORCH = {"tar", "torchscript"}  # Even without care, as torch is today.


def planted(folder: Path, body: bytes, owner: str = "me") -> Path:
    """A file with the right digest in front: who can write it can make that, too."""
    folder.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"owner": owner, "epoch": 9}).encode() + b"\n" + body
    path = folder / "epoch-000009.checkpoint"
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + body)
    return path


@pytest.mark.fault("B12")
@pytest.mark.filterwarnings("ignore")  # Of torch, about the formats that it reads here.
@pytest.mark.parametrize("name", PAYLOADS)
def test_code_is_not_run_and_nobody_is_told_to_run_it(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "ran"
    body = PAYLOADS[name](str(canary))
    path = planted(tmp_path / "checkpoints", body)
    with pytest.raises(checkpoint.UnreadableCheckpoint) as caught:
        checkpoint.load(tmp_path / "checkpoints", "me")
    assert not canary.exists()
    printed = "".join(traceback.format_exception(caught.value))
    assert "weights_only" not in printed.replace("weights_only=True)", "")  # A line of ours.
    assert str(path) in str(caught.value)
    assert path.exists()
    with contextlib.suppress(Exception):  # The same file, without care: it does run.
        torch.load(io.BytesIO(body), weights_only=False)
    assert canary.exists() == (name not in NOT_RUN_BY_TORCH)


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    "body",
    [b"", b"not json\n", b"[]\n", b"{}\n", b"[" * 100_000 + b"\n", b'{"owner": "me"}\n'],
    ids=["empty", "no header", "a list", "no owner", "deep", "no state"],
)
def test_a_file_with_the_right_digest_and_nothing_of_ours_is_refused(tmp_path, body) -> None:
    path = tmp_path / "epoch-000001.checkpoint"
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + body)
    with pytest.raises(checkpoint.UnreadableCheckpoint, match="move it away"):
        checkpoint.load(tmp_path, "me")


def test_a_state_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    planted(tmp_path, saved([1, 2]))
    with pytest.raises(checkpoint.UnreadableCheckpoint):
        checkpoint.load(tmp_path, "me")


# ---- links


@pytest.mark.fault("B24")
def test_links_in_place_of_checkpoints_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    checkpoint.save(outside, 1, {"epoch": 1}, "me")
    (tmp_path / "checkpoints").symlink_to(outside)
    for use in (
        lambda: checkpoint.load(tmp_path / "checkpoints", "me"),
        lambda: checkpoint.save(tmp_path / "checkpoints", 2, {"epoch": 2}, "me"),
    ):
        with pytest.raises(OSError, match="is a link, which is not followed"):
            use()
    assert [path.name for path in outside.iterdir()] == ["epoch-000001.checkpoint"]
    inside = tmp_path / "inside"
    inside.mkdir()
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (inside / "epoch-000001.checkpoint").symlink_to(outside / "epoch-000001.checkpoint")
    (inside / "epoch-000002.unfinished").symlink_to(target)
    assert checkpoint.load(inside, "me")[0] is None
    checkpoint.save(inside, 2, {"epoch": 2}, "me")
    assert target.read_bytes() == b"mine"
    assert checkpoint.load(inside, "me")[0] == {"epoch": 2}
