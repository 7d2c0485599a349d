"""Provenance: the digest follows the code that a trainer is made of, without importing it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

from sweeper import provenance
from sweeper.trial import TrainerRef, Trial


@pytest.fixture(autouse=True)
def _fresh():
    provenance.code_digest.cache_clear()
    provenance.git_state.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "toy_provenance_package"
    (root / "parts").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "parts" / "loss.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


def digest(**trainer):
    provenance.code_digest.cache_clear()
    return provenance.code_digest(TrainerRef(**trainer))


def test_the_digest_follows_every_source_of_the_package_and_nothing_else(package):
    function = "toy_provenance_package.parts.loss:train"
    before = digest(function=function)
    assert before
    assert "toy_provenance_package" not in sys.modules
    (package / "notes.txt").write_text("words")
    assert digest(function=function) == before
    assert digest(function="toy_provenance_package:other") == before
    (package / "parts" / "loss.py").write_text("x = 2\n")
    changed = digest(function=function)
    assert changed != before
    (package / "parts" / "loss.py").rename(package / "parts" / "losses.py")
    assert digest(function=function) not in (before, changed)


def test_the_digest_does_not_depend_on_where_the_package_is(package, tmp_path, monkeypatch):
    function = "toy_provenance_package:train"
    here = digest(function=function)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    package.rename(elsewhere / package.name)
    monkeypatch.syspath_prepend(str(elsewhere))
    assert digest(function=function) == here


def test_a_command_is_digested_by_the_files_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    command = ("python", "train.py", "--lr={lr}")
    before = digest(command=command)
    assert before
    script.write_text("print(2)\n")
    assert digest(command=command) != before
    assert digest(command=("true", "--lr={lr}")) is None


@pytest.mark.parametrize("function", ["no_such_package_at_all:train", "no_such_entry_point"])
def test_a_trainer_without_sources_has_no_digest(function):
    assert digest(function=function) is None


def test_a_stamp_is_plain_and_says_what_made_the_result(package):
    trial = Trial(
        trainer=TrainerRef(function="toy_provenance_package:train"),
        config={},
        seed=0,
        data_digest="dd",
    )
    stamp = provenance.stamp(trial)
    assert json.loads(json.dumps(stamp)) == stamp
    assert stamp["code_digest"] == provenance.code_digest(trial.trainer)
    assert stamp["data_digest"] == "dd"
    assert provenance.device_name("cpu") == "cpu"
    assert stamp["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert (stamp["commit"], stamp["dirty"]) == (None, None)


def test_commit_and_dirty_flag(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        ran = subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    git("init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git("add", "a.py")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert provenance.git_state(tmp_path) == {"commit": head, "dirty": False}
    provenance.git_state.cache_clear()
    (tmp_path / "a.py").write_text("2\n")
    assert provenance.git_state(tmp_path) == {"commit": head, "dirty": True}
    git("tag", "-m", "v1", "v1")
    provenance.git_state.cache_clear()
    assert provenance.git_state(tmp_path)["commit"] == head


def test_nothing_heavy_is_imported():
    program = (
        "import sys, sweeper.provenance as p, sweeper.track.courier, sweeper.track.mlflow;"
        "p.versions(); print([m for m in ('torch', 'numpy', 'ray', 'mlflow', 'pandas', 'yaml')"
        " if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
