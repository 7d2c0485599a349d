from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest

from sweeper import trainer as trainers
from sweeper.errors import TrainerError
from sweeper.trainer import Run, check, measurements
from sweeper.trial import TrainerRef

TOYS = Path(__file__).with_name("toy_trainers.py")


@pytest.fixture(autouse=True)
def _toys_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS.parent))


@pytest.fixture
def run(tmp_path):
    return Run(seed=3, folder=tmp_path)


def toy(name: str) -> TrainerRef:
    return TrainerRef(function=f"toy_trainers:{name}")


def command(mode: str, *more: str) -> TrainerRef:
    return TrainerRef(command=("python", str(TOYS), mode, "{seed}", "{optim.lr}", *more))


LR = {"optim": {"lr": 0.5}}


def test_a_generator_yields_its_measurements(run):
    got = list(measurements(toy("countdown"), {"steps": 2}, run))
    assert got == [{"cost/updates": 1, "loss": 4.0}, {"cost/updates": 2, "loss": 3.5}]
    assert all(type(value) is float for values in got for value in values.values())


@pytest.mark.parametrize("name", ["returns_one", "returns_one_with_run"])
def test_a_plain_function_is_one_measurement_and_knows_the_seed(run, name):
    assert list(measurements(toy(name), {"lr": 0.25}, run)) == [
        {"progress": 1.0, "loss": 0.5, "seed": 3.0}
    ]


def test_a_command_prints_the_same_measurements(run, capfd):
    got = list(measurements(command("plain"), LR, run))
    assert got == [{"cost/updates": 1, "loss": 3.5}, {"cost/updates": 2, "loss": 0.5}]
    assert capfd.readouterr().out == "starting\n{not json\n"


def test_a_command_may_print_nan(run):
    second = list(measurements(command("nan"), LR, run))[1]
    assert math.isnan(second["loss"])


def test_a_failing_command_says_its_last_words(run, capfd):
    with pytest.raises(TrainerError, match=r"python ended with 3: first line \| no such layer"):
        list(measurements(command("fail"), LR, run))
    assert "no such layer" in capfd.readouterr().err


def test_closing_terminates_the_command(run, tmp_path):
    iterator = measurements(command("wait", str(tmp_path / "pid")), LR, run)
    next(iterator), next(iterator)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    iterator.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's parent-death signal")
def test_a_killed_worker_leaves_no_command_behind(tmp_path):
    script = (
        "import os, sys, signal; from pathlib import Path\n"
        "from sweeper.trainer import measurements, Run; from sweeper.trial import TrainerRef\n"
        "iterator = measurements(TrainerRef(command=tuple(sys.argv[1:])), {}, "
        "Run(seed=1, folder=Path()))\n"
        "next(iterator), next(iterator), os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    pid_file = tmp_path / "pid"
    arguments = ["python", str(TOYS), "wait", "1", "0", str(pid_file)]
    subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        timeout=30,
    )
    pid = int(pid_file.read_text())
    for _ in range(100):
        # Nobody may be there to reap it: a zombie is dead too.
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the command outlived its worker")


def test_placeholders_are_filled_from_the_configuration_and_the_run(tmp_path):
    run = Run(seed=7, folder=tmp_path, device="cuda", cpus=2, data=tmp_path / "d")
    config = {"kl": {"start": 0.1, "off": False}, "name": "a b", "sizes": [1, 2], "none": None}
    parts = ("x", "{kl.start}|{kl.off}|{name}|{sizes}|{none}", "{seed}{device}{cpus}", "{folder}")
    assert trainers.filled((*parts, "{data}", '{"a": 1} {} {0}'), config, run) == [
        *("x", "0.1|false|a b|[1, 2]|null", "7cuda2", str(tmp_path)),
        *(str(tmp_path / "d"), '{"a": 1} {} {0}'),
    ]
    # A corpus named by the configuration comes before the folder of corpora.
    assert trainers.filled(("x", "{data}"), {"data": "yelp"}, run) == ["x", "yelp"]


def test_a_value_is_never_read_as_a_placeholder(run):
    assert trainers.filled(("{a}",), {"a": "{b}", "b": "no"}, run) == ["{b}"]


def test_an_unknown_placeholder_is_refused(run):
    with pytest.raises(TrainerError, match=r"unknown placeholder 'optim.rl'; did you mean"):
        list(measurements(TrainerRef(command=("python", "{optim.rl}")), LR, run))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("no_mapping", "3.0 is no mapping"),
        ("no_number", "'loss' is 'low', which is no number"),
        ("nothing", "yielded no measurement"),
        ("returns_text", "returned '0.5'"),
        ("cost_goes_down", "cost/updates went down, from 2 to 1"),
    ],
)
def test_a_broken_contract_names_the_trainer_and_the_contract(run, name, fault):
    with pytest.raises(TrainerError) as caught:
        list(measurements(toy(name), {}, run))
    said = str(caught.value)
    assert f"toy_trainers:{name}" in said
    assert fault in said
    assert "a trainer is train(config, run) yielding" in said


def test_a_silent_command_breaks_the_contract(run):
    with pytest.raises(TrainerError, match="printed no JSON object"):
        list(measurements(TrainerRef(command=("python", "-c", "pass")), {}, run))


def test_a_measurement_without_cost_stands_at_the_cost_before(run):
    costs = [m.get("cost/updates") for m in measurements(toy("cost_left_out"), {}, run)]
    assert costs == [None, 5.0, 5.0]


def test_numbers_of_other_libraries_are_numbers(run):
    values = {"a": np.float32(0.5), "b": np.int64(2), "c": np.array(1.5), "d": True}
    assert trainers.plain(values, "x") == {"a": 0.5, "b": 2.0, "c": 1.5, "d": 1.0}
    with pytest.raises(TrainerError):
        trainers.plain({"a": np.zeros(1)}, "x")


def test_closing_runs_the_trainers_finally(run):
    iterator = measurements(toy("countdown"), {"steps": 9}, run)
    next(iterator)
    assert not (run.folder / "closed").exists()
    iterator.close()
    assert (run.folder / "closed").exists()


# --- check -------------------------------------------------------------------------------


def test_check_finds_without_importing(tmp_path, monkeypatch):
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "loop.py").write_text(
        "import torch_of_the_future\nif True:\n    def train(config): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    check(TrainerRef(function="heavy_package.loop:train"))
    with pytest.raises(TrainerError, match=r"no 'heavy_package\.lop'; did you mean 'loop'"):
        check(TrainerRef(function="heavy_package.lop:train"))
    with pytest.raises(TrainerError, match="no 'heavy_pakage'; did you mean 'heavy_package'"):
        check(TrainerRef(function="heavy_pakage.loop:train"))


def test_check_names_the_near_function():
    check(toy("countdown"))
    with pytest.raises(TrainerError, match="'contdown'; did you mean 'countdown'"):
        check(toy("contdown"))


def test_check_shows_where_a_trainer_does_not_parse(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("def train(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrainerError, match=r"half_written\.py:1: "):
        check(TrainerRef(function="half_written:train"))


def test_check_looks_at_a_command():
    check(command("plain"), LR)
    with pytest.raises(TrainerError, match="no program 'pyhton-of-mine'"):
        check(TrainerRef(command=("pyhton-of-mine", "x.py")))
    with pytest.raises(TrainerError, match=r"unknown placeholder 'optim\.lr'"):
        check(command("plain"), {})


def test_an_entry_point_names_a_trainer(monkeypatch, run):
    points = EntryPoints(
        [EntryPoint(name="count", value="toy_trainers:countdown", group=trainers.ENTRY_POINTS)]
    )
    monkeypatch.setattr(trainers.importlib.metadata, "entry_points", lambda group: points)
    check(TrainerRef(function="count"))
    assert len(list(measurements(TrainerRef(function="count"), {"steps": 2}, run))) == 2
    with pytest.raises(TrainerError, match="'cont'; did you mean 'count'"):
        check(TrainerRef(function="cont"))


def test_a_missing_function_is_named_when_it_is_loaded(run):
    with pytest.raises(TrainerError, match="'contdown'; did you mean 'countdown'"):
        list(measurements(toy("contdown"), {}, run))
