from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweeper import dispatch
from sweeper.dispatch.inline import dispatch as inline
from sweeper.errors import EnvironmentFault, SpecError
from sweeper.spec import Resources
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

TOYS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _toys_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS))


@pytest.fixture
def here(tmp_path):
    return Surroundings(store=tmp_path / "runs")


def toy(name: str, seed: int = 1, **config: object) -> Trial:
    return Trial(trainer=TrainerRef(function=f"toy_trainers:{name}"), config=config, seed=seed)


def test_records_come_in_the_order_given(here):
    trials = [toy("countdown", seed, steps=2) for seed in (3, 1, 2)] + [toy("raises")]
    records = []
    inline(trials, here, records.append, resources=Resources())
    assert [r.trial_id for r in records] == [t.id for t in trials]
    assert [r.state for r in records] == ["done", "done", "done", "failed"]


def test_a_lazy_list_of_trials_is_read_as_it_is_needed(here):
    records = []

    def coming():
        for seed in range(3):
            assert len(records) == seed
            yield toy("countdown", seed, steps=1)

    inline(coming(), here, records.append, resources=Resources())
    assert len(records) == 3


def test_a_stop_ends_between_trials(here):
    stop, records = threading.Event(), []

    def on_record(record):
        records.append(record)
        stop.set()

    trials = [toy("countdown", seed, steps=1) for seed in range(3)]
    inline(trials, here, on_record, resources=Resources(), stop=stop)
    assert len(records) == 1
    assert Folder(here.store).find(trials).keys() == {trials[0].key}


def test_a_stop_ends_a_trial_at_its_next_measurement(here):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    inline(
        [toy("waits")],
        here,
        lambda record: pytest.fail("a record"),
        resources=Resources(),
        stop=stop,
    )
    assert Folder(here.store).entries(toy("waits").id)[-1]["state"] == "interrupted"


# --- what a machine has room for ---------------------------------------------------------


def test_the_name_of_a_dispatcher():
    assert dispatch.dispatcher("inline") is inline
    assert dispatch.dispatcher("sweeper.dispatch.inline:dispatch") is inline
    with pytest.raises(SpecError, match="'rya'; did you mean 'ray'"):
        dispatch.dispatcher("rya")
    for wrong in ("sweeper.dispatch.inline:dispach", ":dispatch", "no_such_module:f", "toy:"):
        with pytest.raises(SpecError, match=f"dispatcher {wrong!r}"):
            dispatch.dispatcher(wrong)


def test_ray_is_imported_when_it_is_used():
    script = (
        "import sys, sweeper.dispatch, sweeper.dispatch.inline, sweeper.worker\n"
        "assert not {'ray', 'torch', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@pytest.mark.parametrize(
    ("cpus", "gpus", "cores", "devices", "expected"),
    [
        (1, 0, 8, 0, 8),
        (3, 0, 8, 0, 2),
        (16, 0, 8, 0, 1),
        (1, 1, 8, 2, 2),
        (1, 0.5, 8, 2, 4),
        (1, 0.5, 3, 2, 3),
        (1, 0.4, 8, 2, 4),  # twice on each device: 0.2 of both is left over
        (1, 0.1, 99, 1, 10),
        (1, 2, 8, 5, 2),
    ],
)
def test_slots(cpus, gpus, cores, devices, expected):
    assert dispatch.slots(Resources(cpus=cpus, gpus=gpus), cores, devices) == expected


def test_auto_is_one_gpu_where_there_is_any(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert dispatch.fitted(Resources(cpus=2, gpus="auto")) == Resources(cpus=2, gpus=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert dispatch.fitted(Resources(cpus=2, gpus="auto")) == Resources(cpus=2, gpus=1)


@pytest.mark.fault("A18")
def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert dispatch.fitted(Resources(gpus=0.5)) == Resources(gpus=0.5)
    with pytest.raises(EnvironmentFault, match="asks for 2 GPU and this machine shows 1") as caught:
        dispatch.fitted(Resources(gpus=2))
    assert caught.value.exit_code == 3


def test_a_trial_computes_where_its_resources_say():
    assert dispatch.device(Resources(gpus=0)) == "cpu"
    assert dispatch.device(Resources(gpus=0.5)) == "cuda"


@pytest.mark.fault("A19")
@pytest.mark.parametrize(
    ("visible", "expected"),
    [("", 0), ("0", 1), ("0,2", 2), ("GPU-aa, GPU-bb", 2), ("-1", 0), ("1,-1,2", 1)],
)
def test_visible_devices_are_counted_as_cuda_does(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert dispatch.gpus_present() == expected


def test_devices_are_counted_in_dev(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert dispatch.gpus_present(tmp_path) == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, expected):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert dispatch.cgroup_quota(tmp_path) == expected


def test_a_quota_below_one_core_is_one_core(monkeypatch):
    monkeypatch.setattr(dispatch, "cgroup_quota", lambda: 0.5)
    assert dispatch.cores() == 1
