"""sweeps/own_trainer.yaml, and what it stands for: trainers that know nothing of `sweeper`, in
three ways, and how a command finds its files from any folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.design import expand
from sweeper.errors import SpecError, TrainerError
from sweeper.provenance import source_files
from sweeper.run import Place, look
from sweeper.spec import parse, read
from sweeper.track.folder import Folder
from sweeper.trainer import Run, check, located, measurements
from sweeper.trial import TrainerRef, Trial

SWEEPS = Path(__file__).parents[2] / "sweeps"
FILE = SWEEPS / "own_trainer.yaml"
HEAD = "name: t\nprofiles: {quick: {}}\ntrainer: {command: [python, own/fit.py]}\n"  # 3 lines


@pytest.fixture(autouse=True)
def _own_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(SWEEPS))


def trials(*sets: str) -> tuple[Trial, ...]:
    return expand(read(FILE, overrides=sets), None)


def first_of(system: str, *sets: str) -> Trial:
    return next(trial for trial in trials(*sets) if trial.labels["system"] == system)


# ---- the file


def test_two_systems_have_a_learning_rate_and_one_has_none():
    found = trials()
    assert len({trial.id for trial in found}) == len(found) == 2 * 2 * 3 + 3
    assert {t.labels["system"] for t in found if "lr" not in t.labels} == {"Neighbours"}
    assert {trial.seed for trial in found} == {0, 1, 2}


def test_each_system_has_its_own_way():
    ways = {trial.labels["system"]: trial.trainer for trial in trials()}
    assert (ways["Linear"].function, ways["Linear"].config) == (
        "own.linear:train",
        "own.linear_config",
    )
    assert ways["Network"].command[:2] == ("python", "own/network.py")
    assert ways["Neighbours"] == TrainerRef(function="digits-neighbours")
    for way in ways.values():
        check(way)


def test_no_trainer_knows_of_the_sweeper():
    for path in (SWEEPS / "own").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), flags=re.MULTILINE)
        assert not {"sweeper", "trainers"} & set(imported), path


def test_the_configuration_module_fills_in_refuses_and_drops():
    linear = first_of("Linear")
    assert linear.config == {"lr": 0.01, "epochs": 12, "penalty": "none"}
    assert linear.evaluation == {"top": 1}
    # alpha changes nothing without a penalty; `top` is a matter of scoring.
    assert first_of("Linear", "alpha=0.5").id == linear.id
    assert first_of("Linear", "penalty=l2", "alpha=0.5").config["alpha"] == 0.5
    other = first_of("Linear", "top=2")
    assert (other.id, other.evaluation_id != linear.evaluation_id) == (linear.id, True)
    with pytest.raises(SpecError, match="unknown key 'epoch'; did you mean 'epochs'"):
        trials("epoch=3")
    # A trainer that names no module takes what it is given.
    assert first_of("Network").config == {"lr": 0.01, "hidden": 32}


@pytest.mark.slow
def test_one_seed_from_another_folder_to_the_table(tmp_path):
    """The three ways give the same kind of record, and each what the digits allow: 1,000
    updates an epoch, and far more than the tenth that guessing gets right."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sweeper", "run", str(FILE)),
            *("--dispatch", "inline", "--where", "seed == 0"),
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    folder = Folder(tmp_path / "runs")
    chosen = [trial for trial in trials() if trial.seed == 0]
    assert len(chosen) == 5
    for trial in chosen:
        learns = trial.labels["system"] != "Neighbours"
        record = folder.record(trial)
        assert (record.state, record.cost) == ("done", 12_000 if learns else 0)
        assert record.result["test/accuracy"] > 0.9
        history = folder.history(trial.id, trial.evaluation_id)
        costs = {measurement.cost for measurement in history}
        assert costs == ({1000.0 * n for n in range(1, 13)} if learns else {0.0})
    table = (tmp_path / "runs/tables/own_trainer.quick/own_trainer.csv").read_text()
    assert all(system in table for system in ("Linear", "Network", "Neighbours"))


@pytest.mark.slow
def test_the_linear_trainer_continues_to_the_same_bits_and_scores_what_it_kept(tmp_path):
    linear = first_of("Linear")
    folders = [tmp_path / "at-once", tmp_path / "in-two"]
    for folder in folders:
        folder.mkdir()
    once, twice = (Run(seed=0, folder=folder) for folder in folders)
    whole = list(measurements(linear.trainer, linear.full_config, once))
    begun = measurements(linear.trainer, linear.full_config, twice)
    first = [next(begun) for _ in range(5)]
    begun.close()
    scoring = Run(seed=0, folder=twice.folder, score_only=True)
    with pytest.raises(RuntimeError, match="trained for 5 of 12 epochs"):
        list(measurements(linear.trainer, linear.full_config, scoring))
    assert first + list(measurements(linear.trainer, linear.full_config, twice)) == whole
    lenient = {**linear.full_config, "top": 10}
    (scored,) = measurements(linear.trainer, lenient, scoring)
    assert scored["test/accuracy"] == 1.0  # Each digit is among ten.


# ---- where a command finds its files


@pytest.fixture
def project(tmp_path):
    """sweeps/own/fit.py prints the folder it was started in and what it was given."""
    own = tmp_path / "sweeps" / "own"
    own.mkdir(parents=True)
    (own / "fit.py").write_text(
        'import json, sys\nprint(json.dumps({"given": len(sys.argv), "lr": float(sys.argv[1])}))\n'
    )
    (own / "a.json").write_text("{}")
    return tmp_path


def command_of(project: Path, *words: str) -> TrainerRef:
    said = f"name: t\nprofiles: {{quick: {{}}}}\ntrainer: {{command: [{', '.join(words)}]}}\n"
    return parse(said, project / "sweeps" / "t.yaml").trainer


def test_a_file_beside_the_sweep_file_is_found_from_any_folder(project, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    trainer = command_of(project, "python", "own/fit.py", "'{lr}'")
    check(trainer, {"lr": 0.5})
    got = list(measurements(trainer, {"lr": 0.5}, Run(seed=0, folder=tmp_path)))
    assert got == [{"given": 2.0, "lr": 0.5}]
    assert source_files(trainer) == [project / "sweeps" / "own" / "fit.py"]


def test_identity_is_the_words_as_written(project, tmp_path):
    trainer = command_of(project, "python", "own/fit.py", "'{lr}'")
    assert trainer.identity == ["python", "own/fit.py", "{lr}"]
    bare = TrainerRef(command=("python", "own/fit.py", "{lr}"))
    made = [Trial(trainer=some, config={"lr": 1}, seed=0) for some in (trainer, bare)]
    assert made[0].id == made[1].id


def test_only_words_that_are_files_there_become_paths(project, monkeypatch):
    own = project / "sweeps" / "own"
    (project / "sweeps" / "python").touch()
    words = ("python", "own/fit.py", "--config=own/a.json", "--out=own/b.json", "own", "0.5")
    assert located(command_of(project, *words)) == (
        *("python", str(own / "fit.py"), f"--config={own / 'a.json'}"),
        *("--out=own/b.json", "own", "0.5"),
    )
    # A file where we stand, as ever, if there is none beside the sweep file.
    monkeypatch.chdir(own)
    check(command_of(project, "python", "fit.py"))
    assert located(command_of(project, "python", "fit.py"))[1] == "fit.py"


def test_a_folder_with_braces_in_its_name_has_no_placeholder(tmp_path):
    sweeps = tmp_path / "{lr}" / "sweeps"
    sweeps.mkdir(parents=True)
    (sweeps / "fit.py").write_text("print('{\"loss\": 1}')\n")
    trainer = command_of(sweeps.parent, "python", "fit.py")
    got = list(measurements(trainer, {"lr": 0.5}, Run(seed=0, folder=tmp_path)))
    assert got == [{"loss": 1.0}]


def test_a_script_that_is_not_there_is_refused_with_what_is_near(project):
    check(command_of(project, "python", "-u", "own/fit.py", "out.py"))
    check(command_of(project, "python", "-m", "module", "out.py"))
    check(command_of(project, "python", "'{script}.py'"))
    with pytest.raises(TrainerError, match=r"no file 'own/fti.py' to run; did you mean 'own/fit"):
        check(command_of(project, "python", "-u", "own/fti.py"))


# ---- what is wrong, at its place


def fault(project: Path, text: str) -> str:
    sweep = parse(text, project / "sweeps" / "t.yaml")
    with pytest.raises(TrainerError) as caught:
        look(sweep, Place(store=project / "runs"))
    (problem,) = caught.value.problems
    return f"{problem.mark.line}:{problem.mark.column}: {problem.message}"


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("own.linear:trian", "unknown function in own.linear 'trian'; did you mean 'train'?"),
        ("digits-neighbors", "unknown trainer 'digits-neighbors'; did you mean"),
        ("{command: [python, own/fti.py]}", "trainer python: there is no file 'own/fti.py'"),
        ("{command: [pyhton, own/fit.py]}", "trainer: there is no program 'pyhton'"),
        ("{command: [python, own/fit.py, '{l}']}", "trainer python: unknown placeholder 'l'"),
    ],
)
def test_a_levels_trainer_is_refused_where_it_is_named(project, trainer, said):
    text = f"{HEAD}axes:\n  system:\n    A: {{}}\n    B:\n      trainer: {trainer}\n"
    assert fault(project, text).startswith(f"8:7: {said}")
    text = f"{HEAD}axes: {{system: {{A: {{}}, B: {{trainer: {trainer}}}}}}}\n"
    assert fault(project, text).startswith(f"4:28: {said}")


def test_the_files_own_trainer_is_refused_where_it_is_named(project):
    text = HEAD.replace("fit.py", "fit.py, '{lr}'") + "axes: {seed: [0, 1]}\n"
    assert fault(project, text).startswith("3:1: trainer python: unknown placeholder 'lr'")


def test_the_configuration_module_of_a_level_is_refused_there(project):
    text = f"{HEAD}axes: {{x: {{A: {{}}, B: {{trainer: {{function: a:b, config: c}}}}}}}}\n"
    with pytest.raises(SpecError) as caught:
        expand(parse(text, project / "sweeps" / "t.yaml"), None)
    (problem,) = caught.value.problems
    assert (problem.mark.line, problem.mark.column) == (4, 23)


def test_an_entry_point_whose_module_is_not_there_is_refused(monkeypatch):
    elsewhere = [entry for entry in sys.path if not (Path(entry) / "own").exists()]
    monkeypatch.setattr(sys, "path", elsewhere)
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(TrainerError, match=r"'own\.neighbours': there is no 'own'"):
        check(TrainerRef(function="digits-neighbours"))
