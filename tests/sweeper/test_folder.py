"""The folder store: what a worker writes is found, and nothing half-written is believed."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from sweeper.errors import CorruptRecord, EnvironmentFault, SpecError
from sweeper.record import Record
from sweeper.track import lease, open_store
from sweeper.track.folder import FencedOut, Folder, LeaseHeld
from sweeper.track.sealed import seal, unseal
from sweeper.trial import TrainerRef, Trial


def trial(seed=0, **evaluation):
    return Trial(
        trainer=TrainerRef(function="toy:train"),
        config={"data": "toy", "kl": {"start": 0.1}},
        evaluation=evaluation,
        seed=seed,
        data_digest="d" * 64,
        labels={"pooling": "Max"},
    )


def record(of, state="done", **fields):
    fields = {"result": {"cost/updates": 20.0, "test/nll": 1 / 3}} | fields
    return Record(trial_id=of.id, evaluation_id=of.evaluation_id, state=state, **fields)


def finished(store, of, **fields):
    attempt = store.start(of)
    attempt.measure(10, {"loss": 1.0})
    return attempt.finish(record(of, **fields))


def result_path(store, of):
    return store.path(of.id) / f"result-{of.evaluation_id}.json"


def test_a_finished_trial_is_found_as_it_was_written(tmp_path):
    store, one = Folder(tmp_path), trial()
    provenance = {"commit": "abc", "packages": {"torch": "2"}, "dirty": None}
    written = finished(store, one, seconds=2.5, cpu_seconds=2.0, provenance=provenance)
    assert written.attempt == 1
    assert abs(written.finished_at - time.time()) < 5
    assert (written.seconds, written.cpu_seconds) == (2.5, 2.0)
    assert store.find([one, trial(1)]) == {one.key: written}
    assert store.ids() == [one.id]
    described = json.loads((store.path(one.id) / "trial.json").read_text())
    assert described == {
        "id": one.id,
        "trainer": "toy:train",
        "config": {"data": "toy", "kl": {"start": 0.1}},
        "seed": 0,
        "data_digest": "d" * 64,
    }


def test_a_trial_runs_until_it_has_a_result(tmp_path):
    store, one = Folder(tmp_path), trial()
    assert store.find([one]) == {}
    attempt = store.start(one)
    assert store.find([one])[one.key].state == "running"
    with pytest.raises(LeaseHeld):
        store.start(one)
    attempt.finish(record(one))
    assert store.find([one])[one.key].state == "done"


def test_numbers_that_are_not_finite_come_back(tmp_path):
    store, one = Folder(tmp_path), trial()
    attempt = store.start(one)
    attempt.measure(1, {"loss": math.nan, "kl": math.inf})
    attempt.finish(record(one, state="diverged", result={"loss": -math.inf}, error="loss is -inf"))
    (measured,) = store.history(one.id)
    assert math.isnan(measured.values["loss"])
    assert measured.values["kl"] == math.inf
    found = store.find([one])[one.key]
    assert (found.state, found.result, found.error) == (
        "diverged",
        {"loss": -math.inf},
        "loss is -inf",
    )


def test_a_failed_trial_may_be_started_again_and_its_seconds_count(tmp_path):
    store, one = Folder(tmp_path), trial()
    finished(store, one, state="failed", seconds=3.0, error="no")
    first = store.entries(one.id)[-1]["seconds"]
    attempt = store.start(one)
    assert attempt.number == 2
    assert store.find([one])[one.key].state == "running"
    written = attempt.finish(record(one, seconds=4.0))
    assert written.seconds == 4.0 + first
    assert store.find([one]) == {one.key: written}


def test_a_later_failure_does_not_take_a_result_away(tmp_path):
    store, one = Folder(tmp_path), trial()
    done = finished(store, one)
    failed = finished(store, one, state="failed", error="no")
    assert (failed.state, failed.attempt) == ("failed", 2)
    assert store.find([one]) == {one.key: done}
    assert store.entries(one.id)[-1]["state"] == "failed"


def test_a_stopped_attempt_leaves_the_trial_free_and_no_result(tmp_path):
    store, one = Folder(tmp_path), trial()
    store.start(one).abandon("stopped")
    assert store.find([one]) == {}
    assert store.start(one).number == 2


def test_each_evaluation_has_its_own_result(tmp_path):
    store, few, many = Folder(tmp_path), trial(samples=100), trial(samples=500)
    assert few.id == many.id
    first = finished(store, few)
    assert store.find([many]) == {}
    second = finished(store, many, result={"cost/updates": 20.0, "test/nll": 0.25})
    assert store.find([few]) == {few.key: first}
    assert store.find([many]) == {many.key: second}


def test_an_older_attempt_can_write_nothing_more(tmp_path):
    store, one = Folder(tmp_path), trial()
    old = store.start(one)
    lease.release(store.path(one.id), lease.latest(store.path(one.id)))  # as if it had expired
    new = store.start(one)
    for late in (lambda: old.measure(5, {"loss": 9.0}), lambda: old.finish(record(one))):
        with pytest.raises(FencedOut, match=r"attempt 1 at trial .* newer one"):
            late()
    new.measure(5, {"loss": 1.0})
    written = new.finish(record(one))
    assert [m.values["loss"] for m in store.history(one.id)] == [1.0]
    assert store.find([one]) == {one.key: written}


@pytest.mark.fault("B18")
def test_a_folder_that_is_removed_while_its_trial_runs_is_not_made_anew(tmp_path):
    store, one = Folder(tmp_path), trial()
    attempt = store.start(one)
    shutil.rmtree(store.path(one.id))
    with pytest.raises(EnvironmentFault, match="was removed while"):
        attempt.measure(1, {"loss": 1.0})
    finished(store, one)  # the same number again, by somebody else
    with pytest.raises(EnvironmentFault, match="was removed while"):
        attempt.finish(record(one))


@pytest.mark.fault("B13")
@pytest.mark.parametrize("cut", [0, 1, 40, -1, -3])
def test_a_result_that_was_cut_is_a_corrupt_record(tmp_path, cut):
    store, one = Folder(tmp_path), trial()
    finished(store, one)
    path = result_path(store, one)
    path.write_bytes(path.read_bytes().rstrip()[:cut])
    found = store.find([one])[one.key]
    assert (found.state, found.result) == ("corrupt", {})
    said = f"trials/{one.id}/{path.name}: the checksum does not match"
    assert found.error == said
    assert list(store.damage(one.id)) == [(path, "the checksum does not match")]
    path.unlink()
    assert store.find([one]) == {}


@pytest.mark.fault("B13")
def test_a_result_that_was_edited_is_seen_and_all_are_named_at_once(tmp_path):
    store, trials = Folder(tmp_path), [trial(seed) for seed in range(3)]
    for one in trials:
        finished(store, one)
    for one in trials[:2]:
        path = result_path(store, one)
        path.write_bytes(path.read_bytes().replace(b"20.0", b"10.0"))
    found = store.find(trials)
    assert [found[one.key].state for one in trials] == ["corrupt", "corrupt", "done"]


@pytest.mark.parametrize("name", ["journal.jsonl", "trial.json"])
def test_what_an_attempt_reads_first_is_looked_at_where_one_is_to_come(tmp_path, name):
    store, done, begun = Folder(tmp_path), trial(0), trial(1)
    finished(store, done)
    attempt = store.start(begun)
    attempt.measure(1, {"loss": 20.0})
    attempt.abandon("over")
    for one in (done, begun):
        path = store.path(one.id) / name
        path.write_bytes(path.read_bytes().replace(b"start", b"stort").replace(b"id", b"di"))
        assert [path for path, _ in store.damage(one.id)] == [path]
    found = store.find([done, begun])
    assert found[done.key].state == "done"
    assert found[begun.key].state == "corrupt"
    assert f"trials/{begun.id}/{name}" in found[begun.key].error


def test_the_record_of_another_trial_is_refused(tmp_path):
    store, one, two = Folder(tmp_path), trial(0), trial(1)
    finished(store, one)
    finished(store, two)
    shutil.copy(result_path(store, one), result_path(store, two))
    assert f"the record of trial {one.id}" in store.find([two])[two.key].error


@pytest.mark.fault("B15")
def test_a_record_of_a_newer_program_is_refused(tmp_path):
    store, one = Folder(tmp_path), trial()
    finished(store, one)
    path = result_path(store, one)
    path.write_bytes(seal(unseal(path.read_bytes().rstrip()) | {"checksum": "", "format": 2}))
    found = store.find([one])[one.key]
    assert found.state == "corrupt"
    assert "newer version (record format 2)" in found.error
    assert list(store.damage(one.id)) == []  # It is for that version to judge.


def test_a_trial_whose_start_fails_is_left_free(tmp_path):
    store, one = Folder(tmp_path), trial()
    store.path(one.id).mkdir(parents=True)
    (store.path(one.id) / "trial.json").write_text("{")
    with pytest.raises(CorruptRecord, match=r"trial\.json"):
        store.start(one)
    assert lease.live(store.path(one.id)) is None


def test_artifacts_are_listed_with_checksums_and_links_are_not_followed(tmp_path):
    store, one = Folder(tmp_path / "runs"), trial()
    attempt = store.start(one)
    inside = attempt.folder / "artifacts" / "features"
    inside.mkdir(parents=True)
    (inside / "a.bin").write_bytes(b"abc")
    secret = tmp_path / "secret"
    secret.write_text("s")
    (inside / "link").symlink_to(secret)
    attempt.finish(record(one))
    # SHA-256 of "abc": FIPS 180-2, appendix B.1.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.artifacts(one.id) == {"artifacts/features/a.bin": {"sha256": digest, "bytes": 3}}


def test_files_that_a_stopped_scoring_wrote_are_the_trials(tmp_path):
    """Its result stays, and what lies there can be read: no checksum of before is against it."""
    store, one = Folder(tmp_path), trial()
    finished(store, one)
    attempt = store.start(trial(samples=500))
    (attempt.folder / "artifacts").mkdir(exist_ok=True)
    (attempt.folder / "artifacts" / "features.npz").write_bytes(b"new")
    attempt.abandon("stopped")
    assert store.artifact(one.id, "features.npz") == b"new"
    assert store.record(one).state == "done"


@pytest.mark.fault("B17")
def test_a_store_that_cannot_be_written_says_so_before_any_trial(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(EnvironmentFault, match="cannot make the folder"):
        Folder(blocked).prepare()
    Folder(tmp_path / "new").prepare()


def test_a_record_names_all_code_that_had_a_part_in_it(tmp_path):
    store, one, two = Folder(tmp_path), trial(samples=1), trial(samples=2)
    for code, end in (("c1", "abandon"), ("c0", "finish")):
        attempt = store.start(one, code)
        attempt.measure(10 * attempt.number, {"loss": 1.0})
        written = attempt.abandon("stopped") if end == "abandon" else attempt.finish(record(one))
    assert written.provenance["code_digests"] == ["c0", "c1"]
    attempt = store.start(two, "c2")  # scored again, after the training was done
    attempt.measure(20, {"nll": 1.0})
    written = attempt.finish(record(two, provenance={"code_digest": "c2"}))
    assert written.provenance == {"code_digest": "c2", "code_digests": ["c0", "c1", "c2"]}
    attempt = store.start(one, "c3")  # afresh
    attempt.measure(5, {"loss": 1.0})
    assert attempt.finish(record(one)).provenance["code_digests"] == ["c3"]
    assert store.find([one])[one.key].provenance["code_digests"] == ["c3"]


@pytest.mark.fault("B2")
def test_a_disk_that_is_full_when_a_trial_ends_is_one_fault_and_leaves_it_free(tmp_path):
    resource = pytest.importorskip("resource")
    store, one = Folder(tmp_path), trial()
    attempt = store.start(one)
    attempt.measure(1, {"loss": 1.0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        with pytest.raises(EnvironmentFault, match="cannot write"):
            attempt.finish(record(one))
        attempt.abandon("interrupted")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert store.find([one]) == {}
    finished(store, one)


def test_an_attempt_that_was_taken_over_is_given_up_without_a_word(tmp_path):
    store, one = Folder(tmp_path), trial()
    old = store.start(one)
    lease.release(store.path(one.id), lease.latest(store.path(one.id)))
    new = store.start(one)
    old.abandon("interrupted")
    assert [entry["attempt"] for entry in store.entries(one.id)] == [1, 2]
    with pytest.raises(LeaseHeld):
        store.start(one)
    new.finish(record(one))


@pytest.mark.fault("B17")
@pytest.mark.parametrize("place", ["file/below", "loop"])
def test_a_store_that_cannot_be_read_is_a_fault_with_its_path(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    store, one = Folder(tmp_path / place), trial()
    for use in (
        lambda: store.find([one]),
        lambda: store.history(one.id),
        lambda: store.artifacts(one.id),
        lambda: lease.live(store.path(one.id)),
        lambda: store.start(one),
        store.ids,
    ):
        with pytest.raises(EnvironmentFault, match=str(tmp_path / place)):
            use()


def test_a_running_trial_cannot_be_forgotten(tmp_path):
    store, one = Folder(tmp_path), trial()
    store.start(one)
    with pytest.raises(LeaseHeld):
        store.forget(one.id)


def test_names_of_stores(tmp_path):
    assert isinstance(open_store("folder", tmp_path), Folder)
    assert isinstance(open_store("sweeper.track:open_folder", tmp_path), Folder)
    with pytest.raises(SpecError, match="did you mean 'folder'"):
        open_store("foldr", tmp_path)
    with pytest.raises(SpecError, match="cannot be imported: ModuleNot"):
        open_store("no_such.thing:f", tmp_path)
    with pytest.raises(
        SpecError, match="unknown function 'open_foldr'; did you mean 'open_folder'"
    ):
        open_store("sweeper.track:open_foldr", tmp_path)


WORKER = """
import os, sys, signal
sys.path[:0] = {path!r}
from test_folder import record, trial
from sweeper.track import folder, journal, sealed
left = int(sys.argv[2])
def count(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
for name in ("fsync", "replace", "open", "utime", "write"):
    real = getattr(os, name)
    setattr(os, name, lambda *a, real=real, **k: (count(), real(*a, **k))[1])
attempt = folder.Folder(sys.argv[1]).start(trial())
attempt.measure(10, {{"loss": 1.0}})
attempt.finish(record(trial()))
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_durable_step_a_trial_can_be_finished_and_a_result_is_never_lost(tmp_path):
    script = WORKER.format(path=[os.path.dirname(__file__), *sys.path])
    for point in range(200):
        store, one = Folder(tmp_path / str(point)), trial()
        worker = subprocess.run(
            [sys.executable, "-c", script, str(store.root), str(point)],
            capture_output=True,
            text=True,
            check=False,
        )
        before = store.find([one])
        assert worker.returncode in (0, -signal.SIGKILL), worker.stderr
        assert all(found.state == "done" for found in before.values())
        if worker.returncode == 0:
            assert before
            assert point > 10
            break
        after = finished(store, one)
        assert store.find([one]) == {one.key: after}
        assert [m.cost for m in store.history(one.id)] == [10.0]


def test_reading_a_thousand_finished_trials(tmp_path, capsys):
    store, trials = Folder(tmp_path), [trial(seed) for seed in range(1000)]
    result = {f"valid/metric_{n}": n / 7 for n in range(30)}
    for one in trials:  # laid down by hand: a thousand attempts would take seconds
        folder = store.path(one.id)
        folder.mkdir(parents=True)
        made = record(one, result=result)
        content = {"format": 1} | {f: getattr(made, f) for f in made.__dataclass_fields__}
        (folder / f"result-{one.evaluation_id}.json").write_bytes(seal(content) + b"\n")
    began = time.perf_counter()
    found = store.find(trials)
    took = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n1,000 finished trials read in {took:.3f} s")
    assert len(found) == 1000


# ---- copies of a store


def as_copied(folder, place=None):
    """What `cp -r` makes of the dates, and of the owner's place where it is read elsewhere."""
    held = lease.latest(folder)
    path = lease.path_of(folder, held.attempt)
    if place is not None:
        path.write_bytes(seal({**asdict(held), "place": place}))
    os.utime(path)


@pytest.mark.parametrize("place", [None, "another machine"])
def test_what_had_ended_when_it_was_copied_is_held_by_nobody(tmp_path, place):
    store, done, failed, stopped = Folder(tmp_path), trial(0), trial(1), trial(2)
    finished(store, done)
    store.start(failed).finish(record(failed, "failed"))
    store.start(stopped).abandon("over")
    running = store.start(trial(3))
    for folder in (tmp_path / "trials").iterdir():
        as_copied(folder, place)
    assert [lease.live(store.path(one.id)) for one in (done, failed, stopped)] == [None] * 3
    assert lease.live(running.folder) is not None
    again = store.start(done)
    again.finish(record(done, "failed"))
    as_copied(again.folder, place)
    assert lease.live(again.folder) is None  # Though the result there is the first attempt's.
    assert store.find([done])[done.key].attempt == 1
    running.abandon("over")


def test_an_end_whose_result_is_still_to_come_is_none(tmp_path):
    store, one = Folder(tmp_path), trial()
    finished(store, one)
    as_copied(store.path(one.id), "another machine")
    result_path(store, one).unlink()
    assert lease.live(store.path(one.id)) is not None
