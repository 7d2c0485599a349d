"""The published record: MLflow gets everything once, whatever fails between, and gives the
same records back. A real sqlite MLflow; its empty database is made once and copied."""

from __future__ import annotations

import base64
import json
import math
import queue
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace

import pytest

from sweeper.errors import EnvironmentFault
from sweeper.record import Measurement, Record
from sweeper.track import courier as delivery
from sweeper.track import mlflow as published
from sweeper.track import pages, parcel
from sweeper.track.courier import Courier, trial_of
from sweeper.track.folder import Folder
from sweeper.track.mlflow import MLflowStore
from sweeper.track.parcel import Origin
from sweeper.trial import TrainerRef, Trial

# What mlflow and its dependencies do when they are imported is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TABLE3 = Origin(sweep="table3", profile="quick", rows={"table3": "pooling"})
TABLE1 = Origin(sweep="table1", profile="quick")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A migrated database without an experiment."""
    root = tmp_path_factory.mktemp("template")
    with MLflowStore(root, experiment="another")._reachable():
        return root / "mlflow.db"


@pytest.fixture
def root(tmp_path, template):
    """A store's folder with an MLflow database in it that nobody has used."""
    shutil.copy(template, tmp_path / "mlflow.db")
    return tmp_path


def trial(seed=0, **evaluation):
    return Trial(
        trainer=TrainerRef(function="toy:train"),
        config={"data": "topics", "kl": {"start": 0.1, "schedule": "linear"}, "layers": [1, 2]},
        evaluation=evaluation,
        seed=seed,
        data_digest="d" * 64,
        labels={"pooling": "MaxPool", "data": "Topics", "seed": str(seed)},
    )


def record(of, state="done", **fields):
    result = {"cost/updates": 30.0, "test/nll": 1 / 3, "valid/nll": 0.1 + 0.2, "odd=key": 2.0}
    fields = {"result": result, "provenance": {"commit": "c" * 40, "code_digest": "x"}} | fields
    return Record(trial_id=of.id, evaluation_id=of.evaluation_id, state=state, **fields)


def finished(folder, of, state="done", **fields):
    attempt = folder.start(of)
    for cost in (10, 20, 30):
        attempt.measure(cost, {"cost/updates": cost, "train/loss": 1 / cost, "valid/nll": cost / 7})
    (attempt.folder / "artifacts").mkdir(exist_ok=True)
    (attempt.folder / "artifacts" / "nll.txt").write_text("1.5\n")
    return attempt.finish(record(of, state, **fields))


def runs(store, **tags):
    with store._reachable():
        return list(store._runs({f"sweeper.{key}": value for key, value in tags.items()}))


def metric_points(store, run, key):
    history = store._client.get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in history]


EXPECTED = {
    "train/loss": [(10, 1 / 10), (20, 1 / 20), (30, 1 / 30)],
    "valid/nll": [(10, 10 / 7), (20, 20 / 7), (30, 30 / 7), (30, 0.1 + 0.2)],
    "test/nll": [(30, 1 / 3)],
    "cost/updates": [(10, 10.0), (20, 20.0), (30, 30.0)],
}


def assert_complete(store, of, written):
    (run,) = runs(store, trial=of.id)
    for key, expected in EXPECTED.items():
        assert metric_points(store, run, key) == expected
    assert run.info.status == "FINISHED"
    assert run.data.metrics["valid/nll"] == written.result["valid/nll"]
    files = {file.path for file in store._client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "nll.txt"}
    assert store.find([of]) == {of.key: written}
    return run


# --- what is sent --------------------------------------------------------------------------


def test_names_are_those_mlflow_takes_and_stay_different():
    for key in ("test/nll", "kl.start", "a b", "x-1"):
        assert parcel.accepted(key) == key
    odd = ["a=b", "a[b", "a_b", "a,b", "../a", "/a", "a//b", "a/", "é", "k" * 251, "k" * 252, "."]
    made = [parcel.accepted(key) for key in odd]
    assert len(set(made)) == len(odd)
    assert all(len(name) <= 250 and not name.startswith((".", "/")) for name in made)


def test_what_is_cut_says_so_and_databases_can_hold_the_rest():
    long = parcel.text("a" * 7000, 6000)
    assert len(long) <= 6000
    assert long.endswith(parcel.checksum(b"a" * 7000))
    assert parcel.text("a\0b\udc80", 100) == "a\N{REPLACEMENT CHARACTER}b?"


@pytest.mark.parametrize("keys", [3, 400])
def test_a_record_comes_back_from_its_tags_exactly(keys):
    result = {f"metric/{n}": n / 7 for n in range(keys)} | {"x": math.inf}
    made = record(trial(), state="diverged", result=result, error="x is inf", attempt=3)
    tags = parcel.record_tags(made)
    assert all(len(value) <= parcel.TAG_CHARACTERS for value in tags.values())
    assert parcel.record_of(tags) == made
    shorter = record(trial())  # over a longer one, whose further tags stay
    assert parcel.record_of(tags | parcel.record_tags(shorter)) == shorter
    with pytest.raises(ValueError, match="checksum"):
        parcel.record_of({key: value.replace("/2", "/3") for key, value in tags.items()})


def test_infinities_are_not_sent_and_the_result_only_where_it_differs():
    history = [Measurement(cost=5, values={"a": math.nan, "b": 1.0, "c": 2.0}, at=1.0)]
    result = {"b": 1.0, "c": 3.0, "d": math.inf}
    done = record(trial(), result=result, finished_at=2.0)
    sent = [(p.key, p.value, p.at_ms, p.step) for p in parcel.points(history, done)]
    assert sent == [("b", 1.0, 1000, 5), ("c", 2.0, 1000, 5), ("c", 3.0, 2000, 5)]


def test_of_two_values_at_one_cost_the_later_is_mlflows_latest():
    history = [Measurement(cost=5, values={"a": x}, at=1.0) for x in (3.0, 2.0, 1.0, 1.0)]
    sent = [(p.value, p.at_ms, p.step) for p in parcel.points(history, None)]
    assert sent == [(3.0, 1000, 5), (2.0, 1001, 5), (1.0, 1002, 5)]


def test_batches_keep_within_the_limits():
    items = [(str(n), "v" * 6000) for n in range(250)]
    made = list(parcel.batches(items, 100))
    assert [item for batch in made for item in batch] == items
    assert all(len(batch) <= 100 and len(json.dumps(batch)) < 1_000_000 for batch in made)
    assert [len(batch) for batch in parcel.batches(list(range(205)), 100)] == [100, 100, 5]


def test_a_trial_survives_the_way_to_the_courier():
    from dataclasses import asdict

    for of in (
        trial(3, samples=5),
        Trial(trainer=TrainerRef(command=("a", "b")), config={}, seed=1),
    ):
        assert trial_of(json.loads(json.dumps(asdict(of)))) == of


def test_the_password_in_a_tracking_uri_is_no_argument(tmp_path):
    uri = "postgresql://me:secret@db/runs"
    assert "secret" not in " ".join(published.ui_command(uri, tmp_path))
    assert published.ui_environment(uri) == {"MLFLOW_BACKEND_STORE_URI": uri}


def test_the_pages_are_served_on_loopback_only(tmp_path):
    command = published.ui_command("sqlite:////x.db", tmp_path, port=5123)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5123"
    hosts = command[command.index("--allowed-hosts") + 1]
    assert hosts == "127.0.0.1:5123,localhost:5123"
    assert published.ui_command("https://host", tmp_path) == []


# --- publishing ----------------------------------------------------------------------------


def test_a_finished_trial_is_published_and_replays_change_nothing(root):
    folder, store, one = Folder(root), MLflowStore(root), trial(samples=100)
    written = finished(folder, one)
    for again in (store, store, MLflowStore(root)):
        again.publish(one, folder, TABLE3)
    run = assert_complete(store, one, written)
    assert run.data.params == {
        "data": "topics",
        "kl.start": "0.1",
        "kl.schedule": "linear",
        "layers": "[1, 2]",
        "samples": "100",
        "seed": "0",
    }
    tags = run.data.tags
    assert tags["mlflow.runName"] == "MaxPool · Topics · seed 0" == run.info.run_name
    assert tags["sweeper.row"] == tags["axis.pooling"] == "MaxPool"
    assert tags["sweeper.table"] == "table3"
    assert (tags["sweeper.dataset"], tags["sweeper.seed"]) == ("topics", "0")
    assert tags["mlflow.source.git.commit"] == "c" * 40
    (parent,) = runs(store, kind="sweep")
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("topics", "d" * 36)
    assert run.info.end_time == int(written.finished_at * 1000)


class Breaks:
    """An MLflow client whose n-th call fails, before it has an effect or after."""

    def __init__(self, client, calls, after):
        self.client, self.left, self.after = client, calls, after

    def __getattr__(self, name):
        real = getattr(self.client, name)

        def call(*args, **kwargs):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise ConnectionError("the request was lost")
            answer = real(*args, **kwargs)
            if self.left == 0:
                raise ConnectionError("the reply was lost")
            return answer

        return call


@pytest.mark.fault("B7")
@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_whatever_call_fails_delivering_again_completes_it_without_doubles(root, after):
    folder = Folder(root)
    store = MLflowStore(root)
    real = None
    for calls in range(1, 40):
        one = trial(calls)
        written = finished(folder, one)
        with store._reachable():
            real = real or store._client
        store._client = Breaks(real, calls, after)
        store._parents.clear()
        problem = None
        try:
            store.publish(one, folder, TABLE3)
        except EnvironmentFault as fault:
            problem = str(fault)
        assert problem is None or "was lost" in problem
        store._client = real
        store.publish(one, folder, TABLE3)
        assert_complete(store, one, written)
        assert len(runs(store, kind="sweep")) == 1
        if problem is None:
            assert calls > 8
            return
    raise AssertionError("it never got through")


def test_a_running_trial_grows_and_a_restarted_one_is_not_doubled(root):
    folder, store, one = Folder(root), MLflowStore(root), trial()
    attempt = folder.start(one)
    attempt.measure(10, {"train/loss": 5.0})
    store.publish(one, folder, TABLE3)
    (run,) = runs(store, trial=one.id)
    assert run.info.status == "RUNNING"
    assert store.find([one]) == {}
    attempt.measure(20, {"train/loss": 4.0})
    store.publish(one, folder, TABLE3)
    assert metric_points(store, run, "train/loss") == [(10, 5.0), (20, 4.0)]
    attempt.abandon("stopped")
    store.publish(one, folder, TABLE3)
    assert [r.info.status for r in runs(store, trial=one.id)] == ["KILLED"]
    written = finished(folder, one)  # from the beginning, with other values
    store.publish(one, folder, TABLE3)
    assert_complete(store, one, written)


def test_a_failed_trial_is_failed_and_a_retry_mends_it(root):
    folder, store, one = Folder(root), MLflowStore(root), trial()
    failed = finished(folder, one, "failed", result={}, error="out of luck")
    store.publish(one, folder, TABLE3)
    (run,) = runs(store, trial=one.id)
    assert run.info.status == "FAILED"
    assert "out of luck" in run.data.tags["mlflow.note.content"]
    assert store.find([one]) == {one.key: failed}
    written = finished(folder, one)
    store.publish(one, folder, TABLE3)
    assert_complete(store, one, written)


def test_two_sweeps_share_a_run_and_each_finds_it(root):
    folder, store, one = Folder(root), MLflowStore(root), trial()
    written = finished(folder, one)
    store.publish(one, folder, TABLE3)
    store.publish(one, folder, TABLE1)
    run = assert_complete(store, one, written)
    assert run.data.tags[TABLE3.tag] == run.data.tags[TABLE1.tag] == "true"
    assert len(runs(store, kind="sweep")) == 1  # a parent is made when it has a child or a table
    store.publish_tables(TABLE1, {"table1": "| a |"})
    assert len(runs(store, kind="sweep")) == 2


def test_a_sweep_with_a_changed_value_shares_a_run_too(root):
    """A variant is called quick+1a2b3c4d, and MLflow takes no plus in a tag's name."""
    changed = Origin(sweep="table1", profile="quick+1a2b3c4d")
    assert parcel.accepted(changed.tag) == changed.tag
    assert changed.tag != Origin(sweep="table1", profile="quick_1a2b3c4d").tag


def test_two_evaluations_of_a_trial_are_two_runs(root):
    folder, store = Folder(root), MLflowStore(root)
    few, many = trial(samples=100), trial(samples=500)
    written = [finished(folder, of) for of in (few, many)]
    for of in (few, many, few, many):
        store.publish(of, folder, TABLE3)
    assert len(runs(store, trial=few.id)) == 2
    assert store.find([few, many]) == {few.key: written[0], many.key: written[1]}
    assert store.find([many]) == {many.key: written[1]}
    never = trial(seed=5)
    assert store.trained([trial(samples=99), never]) == {few.id}
    assert store.trained([never]) == set()


def test_a_run_that_two_processes_created_is_made_one(root):
    folder, store, one = Folder(root), MLflowStore(root), trial()
    written = finished(folder, one)
    store.publish(one, folder, TABLE3)
    (run,) = runs(store, trial=one.id)
    names = {"sweeper.trial": one.id, "sweeper.evaluation": one.evaluation_id}
    names[TABLE1.tag] = "true"
    later = run.info.start_time + 1
    store._client.create_run(run.info.experiment_id, start_time=later, tags=names)
    store.publish(one, folder, TABLE3)
    kept = assert_complete(store, one, written)
    assert kept.info.run_id == run.info.run_id
    assert kept.data.tags[TABLE1.tag] == "true"


def test_a_deleted_run_is_missing_until_it_is_published_again(root):
    folder, store = Folder(root), MLflowStore(root)
    trials = [trial(seed) for seed in range(published.FEW + 2)]
    written = {of.key: finished(folder, of) for of in trials}
    for of in trials:
        store.publish(of, folder, TABLE3)
    for origin in (None, TABLE3, TABLE1):
        assert MLflowStore(root).find(trials, origin) == written
    (run,) = runs(store, trial=trials[3].id)
    store._client.delete_run(run.info.run_id)
    assert written.keys() - store.find(trials).keys() == {trials[3].key}
    store.publish(trials[3], folder, TABLE3)
    assert store.find(trials) == written


def test_a_record_that_was_edited_in_mlflow_is_not_believed(root):
    folder, store, one = Folder(root), MLflowStore(root), trial()
    finished(folder, one)
    store.publish(one, folder, TABLE3)
    (run,) = runs(store, trial=one.id)
    edited = run.data.tags[parcel.RECORD].replace('"done"', '"gone"')
    store._client.set_tag(run.info.run_id, parcel.RECORD, edited)
    found = store.find([one])[one.key]
    assert (found.state, found.result) == ("corrupt", {})
    assert found.error == f"MLflow run {run.info.run_id}: the checksum does not match"


def test_the_sweeps_run_shows_its_tables(root, tmp_path):
    store = MLflowStore(root)
    (tmp_path / "table3.tex").write_text("\\toprule")
    store.publish_tables(TABLE3, {"table3": "| KL |\n| 9.1 |"}, [tmp_path / "table3.tex"])
    (parent,) = runs(store, kind="sweep")
    assert parent.info.status == "RUNNING"
    store.close(TABLE3, "FAILED")
    assert [run.info.status for run in runs(store, kind="sweep")] == ["FAILED"]
    store.close(TABLE3)
    (parent,) = runs(store, sweep="table3", profile="quick")
    assert parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    assert note.endswith("\n\n## table3\n\n| KL&emsp; |\n| 9.1&emsp; |")
    assert parent.info.run_name == "table3 (quick)"
    files = store._client.list_artifacts(parent.info.run_id, "tables")
    assert {file.path for file in files} == {"tables/table3.tex", "tables/tables.md"}
    (tmp_path / "kl.png").write_bytes(b"a picture")
    store.publish_figures(TABLE3, [tmp_path / "kl.png"])
    files = store._client.list_artifacts(parent.info.run_id, "figures")
    assert {file.path for file in files} == {"figures/kl.png"}
    assert runs(store, kind="sweep")[0].data.tags["mlflow.note.content"] == note


def png(width, height):
    """The beginning of a picture, as far as its size."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"..."


def test_the_sweeps_run_shows_its_figures_below_its_tables(root, tmp_path):
    store = MLflowStore(root)
    (tmp_path / "kl.png").write_bytes(png(1280, 960))
    (tmp_path / "kl.pdf").write_bytes(b"%PDF")
    store.publish_figures(TABLE3, [tmp_path / "kl.png", tmp_path / "kl.pdf"])
    for table in ("| KL |", "| NLL |"):
        store.publish_tables(TABLE3, {"table3": table})
        (parent,) = runs(store, kind="sweep")
        note = parent.data.tags["mlflow.note.content"]
        address = f"get-artifact?path=figures%2Fkl.svg&run_uuid={parent.info.run_id}"
        assert note.endswith(f"## figures\n\n![kl.svg]({address})\n\n")
        assert (note.count("## table3"), note.count("## figures")) == (1, 1)
        assert note.index("## table3") < note.index("## figures")
    files = store._client.list_artifacts(parent.info.run_id, "figures")
    assert {file.path for file in files} == {f"figures/kl.{it}" for it in ("png", "pdf", "svg")}
    framed = pages.framed(png(1280, 960))
    assert f'width="{pages.FIGURE_PIXELS}" height="{pages.FIGURE_PIXELS * 3 // 4}"' in framed
    assert 'width="20" height="10"' in pages.framed(png(20, 10))
    assert pages.framed(b"%PDF") == ""


def test_a_note_holds_whole_tables_as_many_as_there_is_room_for():
    tables = {f"t{n}": "| NLL |\n| ---: |\n" + "| 9.1 |\n" * 150 for n in range(6)}
    note = pages.note(tables, "7", TABLE3)
    there = [name for name in tables if f"## {name}\n" in note]
    assert 0 < len(there) < len(tables)
    assert note.count("| 9.1&emsp; |") == 150 * len(there)
    assert note.count("| ---: |") == len(there)
    said = note.splitlines()[-1]
    assert said.endswith(f"also: {', '.join(name for name in tables if name not in there)}")
    many = pages.with_figures(note, "r" * 32, [f"figure_{n}.svg" for n in range(100)])
    assert len(many) <= parcel.TAG_CHARACTERS
    assert many.count("![figure_") == many.count("](get-artifact?") > 1
    assert pages.with_figures(many, "r" * 32, []) == note


SEEN = Origin(
    sweep="table3",
    profile="quick",
    rows={"table3": "pooling"},
    axes=["data", "pooling", "seed"],
    results=["test/nll", "odd=key"],
    curves=["valid/nll"],
)


def seen(value):
    """What MLflow's pages make of a saved view."""
    said = json.loads(value)
    packed = base64.b64decode(said["state"].removeprefix("deflate;"))
    return said, json.loads(zlib.decompress(packed))


def test_a_view_has_the_sweeps_runs_by_their_rows_and_curves_against_updates():
    said, state = seen(pages.view(SEEN, 5))
    assert (said["name"], said["createdAt"], said["updatedAt"]) == ("table3 (quick)", 5, 5)
    assert state["searchFilter"] == "tags.`sweeper.sweep.table3.quick` = 'true'"
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "axis.pooling"}]
    columns = ["tags.`axis.data`", "tags.`axis.pooling`", "tags.`axis.seed`"]
    odd = parcel.accepted("odd=key")
    assert state["selectedColumns"] == [*columns, "metrics.`test/nll`", f"metrics.`{odd}`"]
    assert state["globalLineChartConfig"]["xAxisKey"] == "step"
    (chart,) = state["compareRunCharts"]
    assert (chart["metricKey"], chart["xAxisKey"]) == ("valid/nll", "step")
    assert chart["metricSectionId"] == state["compareRunSections"][0]["uuid"]
    _, bare = seen(pages.view(Origin(sweep="s", profile="quick"), 5))
    assert bare["groupBy"] is None
    assert "compareRunCharts" not in bare


def test_a_view_is_kept_once_and_is_its_readers_once_they_have_changed_it(root):
    def there(store):
        with store._reachable():
            tags = store._client.get_experiment(store._experiment_id).tags
        return {key: x for key, x in tags.items() if key.startswith(pages.VIEW)}

    folder, one = Folder(root), trial()
    finished(folder, one)
    MLflowStore(root).publish(one, folder, SEEN)
    store = MLflowStore(root)
    first = there(store)
    (key,) = first
    (run,) = runs(store, trial=one.id)
    assert run.data.tags["axis.pooling"] == "MaxPool"  # what the view groups by is there
    MLflowStore(root).publish_tables(SEEN, {"table3": "| KL |"})
    assert there(store) == first
    (parent,) = runs(store, kind="sweep")
    link = f"#/experiments/{store._experiment_id}/runs?workflowType=machine_learning"
    note = parent.data.tags["mlflow.note.content"]
    assert f"({link}&viewStateShareKey={key.removeprefix(pages.VIEW)})" in note

    other = replace(SEEN, results=["test/kl"])
    MLflowStore(root).publish_tables(other, {"table3": "| KL |"})
    assert seen(there(store)[key])[1]["selectedColumns"][-1] == "metrics.`test/kl`"

    said = json.loads(there(store)[key])
    own = json.dumps(said | {"updatedAt": said["createdAt"] + 1})
    store._client.set_experiment_tag(store._experiment_id, key, own)
    MLflowStore(root).publish_tables(SEEN, {"table3": "| KL |"})
    assert there(store) == {key: own}


def test_no_database_is_made_to_look_for_records(tmp_path):
    assert MLflowStore(tmp_path).find([trial()]) == {}
    assert not (tmp_path / "mlflow.db").exists()


# --- the courier ---------------------------------------------------------------------------


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_a_database_that_was_deleted_had_been_told_is_to_be_told_again(tmp_path):
    root = tmp_path / "my runs"
    folder, one, uri = Folder(root), trial(), published.default_uri(root)
    finished(folder, one)
    tables = {"tables": {"table3": "| KL |"}, "files": []}
    (root / "mlflow.db").touch()
    where = delivery.target(uri, TABLE3)
    result = delivery.result_digest(folder, one)
    mark = folder.path(one.id) / "delivered.json"
    delivery.mark_delivered(mark, f"{where} {one.evaluation_id}", result)
    delivery.mark_delivered(root / "delivered.json", where, delivery.tables_digest(tables))
    for there in (True, False):
        assert delivery.was_delivered(folder, one, uri, TABLE3) == there
        assert delivery.were_delivered(folder, tables, uri, TABLE3) == there
        (root / "mlflow.db").unlink(missing_ok=True)


def test_a_picture_is_told_once_until_it_is_another(tmp_path):
    folder, uri = Folder(tmp_path), published.default_uri(tmp_path)
    (tmp_path / "mlflow.db").touch()
    told = {"figures": {"/kl.png": "0123"}}
    where = delivery.figures_target(uri, TABLE3)
    delivery.mark_delivered(tmp_path / "delivered.json", where, delivery.figures_digest(told))
    assert delivery.figures_delivered(folder, told, uri, TABLE3)
    assert not delivery.figures_delivered(folder, {"figures": {"/kl.png": "4567"}}, uri, TABLE3)
    assert not delivery.figures_delivered(folder, told, uri, TABLE1)
    courier = Courier(folder, TABLE3)
    courier.publish_figures([])
    assert courier.close() == 0


@pytest.mark.parametrize(("last", "state"), [({"close": "FAILED"}, "FAILED"), (None, "KILLED")])
def test_the_sweeps_run_ends_as_its_driver_says_or_was_killed(last, state):
    inbox = queue.SimpleQueue()
    inbox.put(last)
    assert delivery.deliver(inbox, pytest.fail, pytest.fail) == state


def test_a_store_that_cannot_be_used_is_the_couriers_problem_and_is_not_raised(tmp_path):
    (tmp_path / "file").write_text("")
    courier = Courier(Folder(tmp_path / "file"), TABLE3)
    courier.notice(trial())
    assert str(tmp_path / "file") in courier.problem
    courier.publish_tables({"table3": "| KL |"})
    assert courier.close() == 1


@pytest.mark.slow
def test_the_courier_delivers_while_nobody_waits_and_remembers(root):
    folder, trials = Folder(root), [trial(seed) for seed in range(3)]
    written = {of.key: finished(folder, of) for of in trials}
    courier = Courier(folder, TABLE3)
    began = time.perf_counter()
    for of in trials * 2:
        courier.notice(of)
    courier.publish_tables({"table3": "| KL |"})
    assert time.perf_counter() - began < 1.0
    assert courier.undelivered == 4
    assert courier.close(60) == 0, courier.problem
    store = MLflowStore(root)
    assert store.find(trials) == written
    assert [run.info.status for run in runs(store, kind="sweep")] == ["FINISHED"]

    second = Courier(folder, TABLE3)
    for of in trials:
        second.notice(of)
    second.publish_tables({"table3": "| KL |"})
    assert (second.undelivered, second._process) == (0, None)  # nothing to do, nothing started
    assert second.close() == 0

    (run,) = runs(store, trial=trials[0].id)
    store._client.delete_run(run.info.run_id)
    again = Courier(folder, TABLE3, again=True)
    for of in trials:
        again.notice(of)
    assert again.close(60) == 0, again.problem
    assert store.find(trials) == written


@pytest.mark.fault("B5", "B6")
@pytest.mark.slow
def test_a_server_that_is_down_costs_nothing_but_the_delivery(root):
    folder, trials = Folder(root), [trial(seed) for seed in range(3)]
    courier = Courier(folder, TABLE3, f"http://me:secret@127.0.0.1:{closed_port()}")
    for of in trials:
        began = time.perf_counter()
        courier.notice(of)
        finished(folder, of)
        courier.notice(of)
        assert time.perf_counter() - began < 1.0
    courier.publish_tables({"table3": "| KL |"})
    began = time.perf_counter()
    assert courier.close(60) == 4
    assert time.perf_counter() - began < 30
    assert "MLflow at http://127.0.0.1" in courier.problem
    assert "secret" not in courier.problem

    later = Courier(folder, TABLE3)  # a place that works
    for of in trials:
        later.notice(of)
    assert later.close(60) == 0, later.problem
    assert MLflowStore(root).find(trials) == folder.find(trials)


@pytest.mark.slow
def test_a_driver_that_dies_leaves_no_process_behind(root):
    folder = Folder(root)
    finished(folder, trial())
    program = """
import os, signal, sys
from sweeper.track.courier import Courier
from sweeper.track.folder import Folder
from sweeper.track.parcel import Origin
from sweeper.trial import Trial, TrainerRef
courier = Courier(Folder(sys.argv[1]), Origin(sweep="s", profile="p"), sys.argv[2])
courier.notice(Trial(trainer=TrainerRef(function="toy:train"), config={}, seed=1))
print(courier._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    from sweeper.track.lease import birth

    driver = subprocess.run(
        [sys.executable, "-c", program, str(root), f"http://127.0.0.1:{closed_port()}"],
        capture_output=True,
        text=True,
        check=False,
    )
    process = int(driver.stdout)
    deadline = time.monotonic() + 10
    while birth(process) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert birth(process) is None


@pytest.mark.slow
def test_two_couriers_make_one_database_and_one_run(tmp_path):
    folder, one = Folder(tmp_path), trial()
    written = finished(folder, one)
    couriers = [Courier(folder, origin) for origin in (TABLE3, TABLE1)]
    for courier in couriers:
        courier.notice(one)
    assert [courier.close(120) for courier in couriers] == [0, 0]
    store = MLflowStore(tmp_path)
    store.publish(one, folder, TABLE3)
    tags = assert_complete(store, one, written).data.tags
    assert tags[TABLE3.tag] == tags[TABLE1.tag] == "true"
