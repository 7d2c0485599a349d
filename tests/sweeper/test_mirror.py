"""Trials copied to object storage while they run, and got from there by a machine that lost its
disk: against files, and against a real S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import object_storage
import pytest
from object_storage import KEYS, SECONDS, Way

from sweeper import worker
from sweeper.errors import CorruptRecord, EnvironmentFault, SpecError
from sweeper.plan import plan
from sweeper.record import Record
from sweeper.run import Place, copy_left, finished_elsewhere
from sweeper.track import lease, remote
from sweeper.track import mirror as mirrors
from sweeper.track.folder import Attempt, Folder
from sweeper.track.mirror import Behind, Copier, Copy, Mirror, Moving, bring, manifest_at
from sweeper.track.remote import Absent, Remote, away, opened
from sweeper.track.sealed import seal, unseal
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

TOYS = Path(__file__).parents[1] / "reliability"
ROOT = Path(__file__).parents[2]
SWEEP = """\
name: lost
trainer: {{function: "toy_mirrors:train"}}
base: {{steps: {steps}, pause: {pause}, calls: {calls}}}
axes: {{seed: [0, 1, 2]}}
metrics: {{loss: {{from: loss, goal: min, format: ".6f"}}}}
profiles: {{quick: {{}}}}
tables: {{main: {{rows: seed, values: [loss], over: [], write: [md]}}}}
"""


@pytest.fixture(scope="session")
def s3_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "moto.log"


@pytest.fixture(scope="session")
def s3_address(s3_log: Path) -> Iterator[str]:
    if why := object_storage.missing():
        pytest.skip(why)
    with object_storage.server(s3_log) as address:
        yield address


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes a bucket; its URL."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_address}.items():
        monkeypatch.setenv(name, value)
    opened.cache_clear()

    def bucket(name: str) -> str:
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
        return f"s3://{name}/some/prefix"

    yield bucket
    opened.cache_clear()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/mirror"
    return request.getfixturevalue("s3")(f"b{time.time_ns()}")


def trial(seed: int = 0) -> Trial:
    return Trial(trainer=TrainerRef(function="toy:train"), config={"lr": 0.1}, seed=seed)


def begun(store: Path, updates: int = 2, seed: int = 0) -> Attempt:
    """An attempt that has measured so many further updates and kept a checkpoint."""
    attempt = Folder(store).start(trial(seed))
    attempt.arrange(())
    advance(attempt, updates)
    return attempt


def advance(attempt: Attempt, updates: int) -> None:
    first = int(attempt.cost)
    for update in range(first + 1, first + updates + 1):
        attempt.measure(update, {"cost/updates": update, "loss": 1 / update})
        keep(attempt.folder, f"update {update} " + "x" * 5000)


def keep(folder: Path, content: str) -> None:
    (folder / "checkpoints").mkdir(exist_ok=True)
    draft = folder / "checkpoints" / "draft"
    draft.write_text(content)
    os.replace(draft, folder / "checkpoints" / "state")


def ended(attempt: Attempt) -> Record:
    (attempt.folder / "artifacts").mkdir(exist_ok=True)
    (attempt.folder / "artifacts" / "samples.txt").write_text("some samples")
    of = attempt.trial
    return attempt.finish(
        Record(
            trial_id=of.id,
            evaluation_id=of.evaluation_id,
            state="done",
            result={"loss": 1 / attempt.cost},
        )
    )


def copy(url: str, folder: Path) -> bool:
    return Copy(remote=Remote(url), folder=folder).bring_up_to_date()


def contents(folder: Path) -> dict[str, bytes]:
    """What a trial's folder holds, but leases: as this test finds it, with nothing of ours."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("lease-")
    }


def objects(url: str) -> set[str]:
    return set(Remote(url).below("trials"))


# ---- a copy, and back


def test_a_copy_comes_back_as_it_was_and_the_next_attempt_has_the_next_number(
    url: str, tmp_path: Path
) -> None:
    attempt = begun(tmp_path / "a", 1)
    attempt.abandon("stopped")
    attempt = begun(tmp_path / "a", 3)
    os.symlink("state", attempt.folder / "checkpoints" / "last")
    os.symlink("/etc/passwd", attempt.folder / "checkpoints" / "outside")
    os.utime(attempt.folder / "checkpoints" / "state", ns=(10**18, 10**18 + 7))
    record = ended(attempt)
    assert copy(url, attempt.folder)

    there = Folder(tmp_path / "b")
    assert bring(Mirror(url), there.path(trial().id))
    came = there.path(trial().id)
    expected = contents(attempt.folder)
    del expected["checkpoints/outside"]
    assert contents(came) == expected
    assert os.readlink(came / "checkpoints" / "last") == "state"
    assert (came / "checkpoints" / "state").stat().st_mtime_ns == 10**18 + 7
    assert there.result(trial()) == record
    assert not list(there.damage(trial().id))
    assert there.start(trial()).number == 3  # Not 1, or 2: those are attempts of the journal.
    assert not bring(Mirror(url), tmp_path / "b" / "trials" / trial().id)


def test_what_has_not_changed_is_not_sent_again(url: str, tmp_path: Path) -> None:
    attempt = begun(tmp_path / "a", 2)
    (attempt.folder / "artifacts").mkdir()
    (attempt.folder / "artifacts" / "large").write_bytes(os.urandom(300_000))
    copy(url, attempt.folder)
    assert not copy(url, attempt.folder)
    first = objects(url)
    advance(attempt, 1)
    copy(url, attempt.folder)
    new = {key.partition("/trials/")[2] or key for key in objects(url) - first}
    assert {key.split("/", 3)[3] for key in new} == {"journal.jsonl", "checkpoints/state"}
    assert {"large" in key for key in objects(url) & first} == {True, False}
    # What the new manifest does without is gone, so a long run does not fill the bucket.
    assert len([key for key in objects(url) if key.endswith("checkpoints/state")]) == 1
    # Touched, and the same: another process than the one that copied it has to look inside.
    os.utime(attempt.folder / "artifacts" / "large")
    copy(url, attempt.folder)
    assert len([key for key in objects(url) if key.endswith("large")]) == 1
    assert {"large" in key for key in objects(url) & first} == {True, False}
    attempt.abandon("stopped")


def test_only_what_is_further_is_brought(url: str, tmp_path: Path) -> None:
    one = begun(tmp_path / "a", 2)
    copy(url, one.folder)
    there = tmp_path / "b" / "trials" / trial().id
    assert bring(Mirror(url), there)
    advance(one, 2)
    copy(url, one.folder)
    assert bring(Mirror(url), there)  # It goes on from what is there.
    assert (there / "checkpoints" / "state").read_text().startswith("update 4 ")
    other = begun(tmp_path / "b", 1)  # And this goes on from that.
    assert other.cost == 5
    other.abandon("stopped")
    before = contents(there)
    assert not bring(Mirror(url), there)
    assert contents(there) == before
    advance(one, 9)  # On the other machine it went on, too: they have gone apart.
    copy(url, one.folder)
    assert bring(Mirror(url), there)  # That is longer.
    assert (there / "checkpoints" / "state").read_text().startswith("update 13 ")
    one.abandon("stopped")


def test_of_two_that_have_gone_apart_the_one_with_a_result_is_kept(
    url: str, tmp_path: Path
) -> None:
    done, other = begun(tmp_path / "a", 2), begun(tmp_path / "b", 50)
    copy(url, other.folder)
    with pytest.raises(Behind, match="which is further"):
        copy(url, done.folder)
    ended(done)
    assert copy(url, done.folder)
    with pytest.raises(Behind):
        copy(url, other.folder)
    other.abandon("stopped")
    before = contents(done.folder)
    assert not bring(Mirror(url), done.folder)
    assert contents(done.folder) == before
    assert bring(Mirror(url), other.folder)
    assert Folder(tmp_path / "b").result(trial()).state == "done"


def test_a_trial_that_a_process_runs_is_not_written_into(url: str, tmp_path: Path) -> None:
    far = begun(tmp_path / "a", 5)
    far.abandon("stopped")
    copy(url, far.folder)
    near = begun(tmp_path / "b", 1)
    with pytest.raises(lease.LeaseHeld):
        bring(Mirror(url), near.folder)
    near.abandon("stopped")


def test_files_set_aside_come_back_too(url: str, tmp_path: Path) -> None:
    """A training made anew, and lost in the middle, still has the result that it is to replace,
    and the files that are of that."""
    store = Folder(tmp_path / "a")
    attempt = store.start(trial(), "old code")
    advance(attempt, 2)
    ended(attempt)
    attempt = store.start(trial(), "new code")
    attempt.arrange({"stale"})
    advance(attempt, 1)
    attempt.abandon("stopped")
    copy(url, attempt.folder)
    there = Folder(tmp_path / "b")
    bring(Mirror(url), there.path(trial().id))
    assert contents(there.path(trial().id)) == contents(attempt.folder)
    assert there.artifact(trial().id, "samples.txt") == b"some samples"


# ---- copies that are not to be believed


@pytest.mark.parametrize("earlier", [False, True], ids=["the first copy", "a later copy"])
def test_a_copy_whose_copier_is_killed_at_any_object_is_never_believed(
    url: str, tmp_path: Path, earlier: bool, say
) -> None:
    attempt = begun(tmp_path / "a", 2)
    before = None
    if earlier:
        copy(url, attempt.folder)
        before = contents(attempt.folder)
        advance(attempt, 2)
    ended(attempt)
    after = kills = 0
    while killed(["copy", url, attempt.folder, after]):
        there = tmp_path / f"b{after}" / "trials" / trial().id
        assert bring(Mirror(url), there) == earlier
        assert not earlier or contents(there) == before
        after += 1
        kills += 1
    there = tmp_path / "whole" / "trials" / trial().id
    assert bring(Mirror(url), there)
    assert contents(there) == contents(attempt.folder)
    assert kills >= 4
    say(f"{url.partition(':')[0]}: {kills} copiers killed, at each object: no cut copy believed")


def killed(arguments: list[object]) -> bool:
    """Whether a process of ours was killed before it had done what it was to do."""
    command = [sys.executable, str(TOYS / "toy_mirrors.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def test_who_is_killed_while_it_is_brought_leaves_what_is_brought_again(
    tmp_path: Path, say
) -> None:
    url = f"file://{tmp_path}/mirror"
    attempt = begun(tmp_path / "a", 2)
    copy(url, attempt.folder)
    assert bring(Mirror(url), tmp_path / "old" / "trials" / trial().id)
    advance(attempt, 3)
    ended(attempt)
    copy(url, attempt.folder)
    expected = contents(attempt.folder)
    after = 0
    while True:
        shutil.copytree(tmp_path / "old", tmp_path / f"b{after}")
        there = tmp_path / f"b{after}" / "trials" / trial().id
        if not killed(["bring", url, there, after]):
            break
        # Whether a result is there or not, it is no part of a trial that seems whole.
        if Folder(tmp_path / f"b{after}").result(trial()) is not None:
            assert contents(there).items() >= expected.items()
        # Nor would it be wrong if the mirror were away now: no checkpoint is beyond its journal.
        state = there / "checkpoints" / "state"
        if state.exists() and (course := Folder(tmp_path / f"b{after}").history(trial().id)):
            assert course[-1].cost >= int(state.read_text().split()[1])
        bring(Mirror(url), there)
        came = {path: what for path, what in contents(there).items() if ".brought" not in path}
        assert {p: w for p, w in came.items() if ".removed" not in p} == expected
        after += 1
    assert after >= 8
    say(f"{after} kills, at each file that is put in its place: brought again, whole")


@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
@pytest.mark.parametrize("of", ["journal.jsonl", "checkpoints/state", "manifest"])
def test_a_copy_with_damage_is_refused_and_said(
    url: str, tmp_path: Path, of: str, harm: str
) -> None:
    attempt = begun(tmp_path / "a", 2)
    ended(attempt)
    copy(url, attempt.folder)
    remote = Remote(url)
    key = f"manifests/{trial().id}.json"
    if of != "manifest":
        key = manifest_at(remote, trial().id).files[of]["key"]
    content = remote.get(key)
    if harm == "gone":
        remote.remove([key])
    else:
        remote.put(key, content[:-7] if harm == "cut" else content[:9] + b"?" + content[10:])
    there = tmp_path / "b" / "trials" / trial().id
    begun(tmp_path / "b", 1).abandon("stopped")
    (there / "journal.jsonl").unlink()  # So that the mirror is asked for its copy.
    before = contents(there)
    if (of, harm) == ("manifest", "gone"):
        assert not bring(Mirror(url), there)
    else:
        with pytest.raises(CorruptRecord, match=trial().id):
            bring(Mirror(url), there)
    assert contents(there) == before
    # The next copy of the trial puts it right.
    (attempt.folder / "checkpoints" / "state").write_text("further")
    if of == "manifest":
        copy(url, attempt.folder)
        assert bring(Mirror(url), there)


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("../../../outside", {}),
        ("/tmp/outside", {}),
        ("lease-9.json", {}),
        ("checkpoints/x", {"link": "../../outside"}),
        ("checkpoints/x", {"link": "/etc/passwd"}),
        ("checkpoints/x", {"link": "state/../../y"}),  # `state` may be a link itself.
        ("checkpoints/x", {"key": "trials/ffffffffffffffff/1/x"}),
        ("checkpoints/x", {"key": "trials/{id}/../../x"}),
    ],
)
def test_a_manifest_that_leads_out_of_the_trial_is_refused(
    tmp_path: Path, path: str, entry: dict[str, str]
) -> None:
    url = f"file://{tmp_path}/mirror"
    attempt = begun(tmp_path / "a", 1)
    attempt.abandon("stopped")
    copy(url, attempt.folder)
    manifest = Path(tmp_path / "mirror" / "manifests" / f"{trial().id}.json")
    fields = unseal(manifest.read_bytes())
    some = fields["files"]["checkpoints/state"]
    made = {key: value.replace("{id}", trial().id) for key, value in entry.items()}
    fields["files"][path] = {**some, **made}
    manifest.write_bytes(seal(fields))
    with pytest.raises(CorruptRecord, match=r"no file of a trial|leads out|no object"):
        bring(Mirror(url), tmp_path / "b" / "trials" / trial().id)
    assert not (tmp_path / "b").exists()


def test_a_copy_under_the_id_of_another_trial_is_not_believed(tmp_path: Path) -> None:
    """Though all of its checksums are right."""
    url = f"file://{tmp_path}/mirror"
    attempt = begun(tmp_path / "a", 1)
    attempt.abandon("stopped")
    copy(url, attempt.folder)
    other = trial(7).id
    mirror = tmp_path / "mirror"
    os.rename(mirror / "trials" / trial().id, mirror / "trials" / other)
    said = unseal((mirror / "manifests" / f"{trial().id}.json").read_bytes())
    text = json.dumps(said).replace(trial().id, other)
    (mirror / "manifests" / f"{other}.json").write_bytes(seal(json.loads(text)))
    with pytest.raises(CorruptRecord, match=f"not {other}"):
        bring(Mirror(url), tmp_path / "b" / "trials" / other)
    assert not [*(tmp_path / "b" / "trials" / other).glob("journal*")]


def test_a_checkpoint_that_changes_all_the_time_is_copied_whole_and_never_before_its_journal(
    url: str, tmp_path: Path, full: bool, say
) -> None:
    attempt = begun(tmp_path / "a", 1)
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            advance(attempt, 1)

    trainer = threading.Thread(target=go_on)
    trainer.start()
    came = 0
    try:
        for number in range(60 if full else 12):
            copier = Copy(remote=Remote(url), folder=attempt.folder)
            with contextlib.suppress(Moving):
                came += copier.bring_up_to_date()
            there = Folder(tmp_path / f"b{number}")
            if not bring(Mirror(url), there.path(trial().id)):
                continue
            kept = (there.path(trial().id) / "checkpoints" / "state").read_text()
            update = int(kept.split()[1])
            assert kept == f"update {update} " + "x" * 5000
            assert there.history(trial().id)[-1].cost >= update
    finally:
        stop.set()
        trainer.join()
        attempt.abandon("stopped")
    assert came
    say(f"{url.partition(':')[0]}: {came} copies of a checkpoint that changes all the time")


def test_strays_of_long_ago_are_cleared(url: str, tmp_path: Path, monkeypatch) -> None:
    attempt = begun(tmp_path / "a", 1)
    attempt.abandon("stopped")
    copy(url, attempt.folder)
    remote = Remote(url)
    kept = objects(url)
    remote.put(f"trials/{trial().id}/1-cut/checkpoints/state", b"of a copier that was killed")
    copier = Copy(remote=remote, folder=attempt.folder)
    copier.clear_strays()
    assert len(objects(url)) == len(kept) + 1  # Somebody may be at it.
    monkeypatch.setattr("sweeper.track.mirror.STRAY_SECONDS", -60.0)
    copier.clear_strays()
    assert objects(url) == kept


# ---- addresses, and servers


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://key:word@bucket/folder", "AWS_ACCESS_KEY_ID"),
        ("s3://bucket/folder?secret=abc123def456ghi", "AWS_ACCESS_KEY_ID"),
        ("bucket/folder", "to look like"),
        ("s3://", "to look like"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(address: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as refused:
        Mirror.at(address)
    assert "word" not in str(refused.value).replace("password", "")
    assert "abc123" not in str(refused.value)


def cli(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeper", *map(str, arguments)],
        cwd=folder,
        env=surroundings(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def surroundings(**variables: str) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(TOYS)])
    return {**os.environ, "PYTHONPATH": paths, **variables}


def sweep_file(folder: Path, steps: int = 3, pause: float = 0.0) -> Path:
    path = folder / "lost.yaml"
    calls = json.dumps(str(folder / "calls"))
    path.write_text(SWEEP.format(steps=steps, pause=pause, calls=calls))
    return path


def refused(folder: Path, url: str, **variables: str) -> str:
    sweep_file(folder)
    done = cli(folder, "run", "lost.yaml", "--dispatch", "inline", "--mirror", url, **variables)
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert not (folder / "calls").exists()
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_mirror_that_cannot_be_used_ends_the_run_before_any_trial(s3, tmp_path: Path) -> None:
    assert "bucket does not exist" in refused(tmp_path, "s3://no-such-bucket/x")
    port = object_storage.free_port()
    away = f"http://127.0.0.1:{port}"
    assert "Could not connect" in refused(tmp_path, s3("there"), AWS_ENDPOINT_URL=away)
    assert "credentials" in refused(
        tmp_path, "s3://there/x", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""
    )
    assert "not known" in refused(tmp_path, "nosuch://there/x")


def test_refused_credentials_end_the_run_before_any_trial(tmp_path: Path) -> None:
    if why := object_storage.missing():
        pytest.skip(why)
    with object_storage.server(tmp_path / "moto.log", INITIAL_NO_AUTH_ACTION_COUNT="0") as address:
        said = refused(tmp_path, "s3://there/x", **KEYS, AWS_ENDPOINT_URL=address)
    assert "does not exist in our records" in said or "Forbidden" in said or "denied" in said
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in said


def test_without_s3fs_the_extra_is_named(tmp_path: Path) -> None:
    hide = tmp_path / "hide"
    (hide / "s3fs").mkdir(parents=True)
    (hide / "s3fs" / "__init__.py").write_text("raise ImportError('not here')\n")
    paths = os.pathsep.join([str(hide), str(ROOT), str(TOYS)])
    said = refused(tmp_path, "s3://bucket/x", PYTHONPATH=paths)
    assert "pip install 'sweeper[s3]'" in said


# ---- whole runs


def calls(folder: Path) -> Counter[tuple[int, int]]:
    """(seed, update) -> how often it was made."""
    lines = (folder / "calls").read_text().splitlines()
    return Counter((int(seed), int(update)) for seed, update in map(str.split, lines))


def table(folder: Path, store: str) -> bytes:
    return next((folder / store / "tables").rglob("main.md")).read_bytes()


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def at_mirror(url: str) -> tuple[int, int]:
    """How many trials have a result there, and how many none yet but a checkpoint."""
    mirror = Mirror(url)
    there = mirror.manifests(mirror.ids(), print).values()
    done = [it for it in there if it.results]
    begun = [it for it in there if not it.results and "checkpoints/state" in it.files]
    return len(done), len(begun)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_machine_that_loses_its_disk_in_the_middle_goes_on_from_the_mirror(
    url: str, by: str, tmp_path: Path, say
) -> None:
    steps = 40
    undisturbed, lost = tmp_path / "undisturbed", tmp_path / "lost"
    for folder in (undisturbed, lost):
        folder.mkdir()
    # One file for both: the path that it names is in the configuration, and in the trials' ids.
    sweep_file(tmp_path, steps, 0.1)
    line = ["run", "../lost.yaml", "--dispatch", by, "--slots", "1", "--store", "store"]
    done = cli(undisturbed, *line)
    assert done.returncode == 0, done.stderr
    (tmp_path / "calls").unlink()

    line += ["--mirror", url, "--mirror-every", "0.2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", *line],
        cwd=lost,
        env=surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: at_mirror(url) == (1, 1))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if by == "ray":  # Its workers have sessions of their own, and end when their driver has.
        wait_for(lambda: no_more_calls(tmp_path))
    shutil.rmtree(lost / "store")
    before = calls(tmp_path)
    first = cli(lost, *line)
    assert first.returncode == 0, first.stderr
    assert "1 finished trial was got from the mirror" in first.stderr

    assert table(lost, "store") == table(undisturbed, "store")
    after = calls(tmp_path)
    twice = {key: count for key, count in after.items() if count > 1}
    seeds = sorted({seed for seed, _ in before})
    assert len(seeds) == 2
    assert not any(seed == seeds[0] for seed, _ in twice)  # The finished one was not trained.
    assert set(after) == {(seed, update) for seed in range(3) for update in range(1, steps + 1)}
    made_again = [update for _, update in twice]
    assert 1 not in made_again  # The other one went on from its checkpoint.
    assert len(list((lost / "store" / "trials").iterdir())) == 3
    reached = max(update for seed, update in before if seed == seeds[1])
    say(
        f"{url.partition(':')[0]}, {by}: killed at update {reached}"
        f" of {steps} of the second of 3 trials: {len(made_again)} updates made twice"
    )


def no_more_calls(folder: Path) -> bool:
    size = (folder / "calls").stat().st_size
    time.sleep(1.0)
    return (folder / "calls").stat().st_size == size


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_loses_nothing(
    s3, s3_address: str, tmp_path: Path
) -> None:
    url = s3("away")
    way = Way(s3_address)
    sweep_file(tmp_path, steps=6, pause=0.05)
    line = ["lost.yaml", "--store", "store", "--mirror", url, "--mirror-every", "0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", "run", *line, "--dispatch", "inline"],
        cwd=tmp_path,
        env=surroundings(AWS_ENDPOINT_URL=way.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: (tmp_path / "calls").exists())
        way.cut()
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "still to be copied" in said
    assert "sweeper sync lost.yaml" in said
    logs = [path.read_text() for path in (tmp_path / "store" / "trials").glob("*/log.txt")]
    assert sum("copied later" in log for log in logs) == 3
    assert max(log.count("copied later") for log in logs) <= 2  # Said once, not at each try.
    way.mend()
    done = cli(tmp_path, "sync", *line, AWS_ENDPOINT_URL=way.address)
    assert done.returncode == 0, done.stderr
    assert at_mirror(url) == (3, 0)
    expected = table(tmp_path, "store")
    os.rename(tmp_path / "store", tmp_path / "gone")
    before = calls(tmp_path)
    done = cli(tmp_path, "run", *line, "--dispatch", "inline", AWS_ENDPOINT_URL=way.address)
    assert "3 finished trials were got from the mirror" in done.stderr
    assert calls(tmp_path) == before
    assert table(tmp_path, "store") == expected
    way.cut()


def test_what_the_mirror_has_is_found_in_one_listing(s3, s3_log: Path, tmp_path: Path) -> None:
    """Whatever the number of trials that it has nothing of."""
    place = Place(store=tmp_path / "store", mirror=Mirror(s3("listing")))
    place.mirror.reach()
    attempt = begun(tmp_path / "other", 1, seed=5)
    ended(attempt)
    copy(place.mirror.url, attempt.folder)
    trials = [trial(seed) for seed in range(400)]
    wanted = plan(trials, {}, lambda trainer: None)
    before = len(s3_log.read_text().splitlines())
    assert finished_elsewhere(wanted, place, print) == [trial(5).id]
    asked = [line for line in s3_log.read_text().splitlines()[before:] if '"' in line]
    assert 2 <= len(asked) <= 5, asked  # The listing, and the manifest of the one.


def test_a_trial_whose_copy_is_damaged_is_trained_and_that_is_said(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/mirror"
    mirror = Mirror(url, seconds=600.0)  # There is only the last copy.
    one = Trial(
        trainer=TrainerRef(function="toy_mirrors:train"),
        config={"steps": 4, "pause": 0.0},
        seed=3,
    )
    expected = worker.execute(one, Surroundings(store=tmp_path / "a", mirror=mirror))
    key = manifest_at(mirror.remote, one.id).files["checkpoints/state"]["key"]
    mirror.remote.put(key, b"4 somethingelse")
    record = worker.execute(one, Surroundings(store=tmp_path / "b", mirror=mirror))
    assert record.result["loss"] == expected.result["loss"]
    log = (tmp_path / "b" / "trials" / one.id / "log.txt").read_text()
    assert "the checksum does not match" in log
    assert "going on from what there is here" in log


def test_a_copier_does_not_keep_the_steps_waiting(url: str, tmp_path: Path, say) -> None:
    """The shares are printed and not tested: a machine with other work says nothing of them."""

    def steps(store: str, mirror: Mirror | None) -> list[float]:
        one = Trial(
            trainer=TrainerRef(function="toy_mirrors:train"),
            config={"steps": 200, "pause": 0.005, "bytes": 4_000_000},
            seed=0,
        )
        worker.execute(one, Surroundings(store=tmp_path / store, mirror=mirror))
        history = Folder(tmp_path / store).history(one.id)
        assert len(history) == 200
        return [point.values["step_seconds"] for point in history[5:]]

    steps("warm", Mirror(url, seconds=60.0))  # Clients are made once a process.
    without = [*steps("n1", None), *steps("n2", None)]
    for key in objects(url):
        assert "warm" not in key
    Remote(url).remove([f"manifests/{name}.json" for name in Mirror(url).ids()])
    beside = steps("w1", Mirror(url, seconds=0.3))
    ratio = statistics.median(beside) / statistics.median(without)
    mean = statistics.mean(beside) / statistics.mean(without)
    say(
        f"{url.partition(':')[0]}: a step beside a copier that is at 4 MB every 0.3 s takes "
        f"{ratio:.3f} of one without (median), {mean:.3f} (mean)"
    )


def test_the_last_copy_is_waited_for_no_longer_than_is_said(tmp_path: Path, monkeypatch) -> None:
    attempt = begun(tmp_path / "a", 1)
    entered, leave = threading.Event(), threading.Event()

    def hangs(self: Remote, key: str) -> bytes:
        entered.set()
        assert leave.wait(SECONDS)
        raise Absent(key)

    monkeypatch.setattr(Remote, "get", hangs)
    copier = Copier(Mirror(f"file://{tmp_path}/mirror"), attempt.folder)
    attempt.abandon("stopped")
    began = time.monotonic()
    copier.end(0.2)
    assert entered.is_set()
    assert time.monotonic() - began < SECONDS / 2
    assert "not all was copied within 0.2 s" in (attempt.folder / "log.txt").read_text()
    leave.set()


def test_what_keeps_it_from_copying_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    attempt = begun(tmp_path / "a", 1)
    copier = Copier(Mirror(f"file://{tmp_path}/file/mirror"), attempt.folder)
    assert [copier._try() for _ in range(5)] == [False] * 5
    attempt.abandon("stopped")
    copier.end()
    assert (attempt.folder / "log.txt").read_text().count("copied later") == 1


def test_nobody_who_is_fenced_out_copies_what_is_anothers(tmp_path: Path) -> None:
    attempt = begun(tmp_path / "a", 1)
    copier = Copier(Mirror(f"file://{tmp_path}/mirror"), attempt.folder)
    copier.end(last=False)
    attempt.abandon("stopped")
    assert not (tmp_path / "mirror").exists()


def test_an_unwritable_mirror_is_a_fault_of_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="the mirror file://"):
        Mirror(f"file://{tmp_path}/file/mirror").reach()


def test_a_mirror_that_is_away_is_asked_by_one_trial_and_waited_for_by_none(
    s3_address: str, s3, tmp_path: Path, monkeypatch
) -> None:
    """Until something comes from there again, or a minute is over."""
    url = s3("remembered")
    asked = []
    really = remote.opened

    def counted(url: str, pid: int) -> object:
        asked.append(threading.current_thread())
        return really(url, pid)

    monkeypatch.setattr(remote, "opened", counted)
    here = threading.current_thread()
    way = Way(s3_address)
    way.cut()
    monkeypatch.setenv("AWS_ENDPOINT_URL", way.address)
    opened.cache_clear()
    mirror = Mirror(url, seconds=600.0)
    for seed in range(3):
        one = Trial(
            trainer=TrainerRef(function="toy_mirrors:train"),
            config={"steps": 1, "pause": 0.0},
            seed=seed,
        )
        assert worker.execute(one, Surroundings(store=tmp_path, mirror=mirror)).state == "done"
        log = (tmp_path / "trials" / one.id / "log.txt").read_text()
        assert "going on from what there is here" in log
        assert "copied later" in log
        assert "not all was copied" not in log
    assert asked.count(here) == 1
    assert "Could not connect" in away(url) or "onnect" in away(url)
    way.mend()
    mirror.reach()
    assert away(url) is None
    remote.faults[url] = (time.monotonic() - 1.0, "long ago")
    assert away(url) is None
    way.cut()


def test_a_last_copy_that_is_not_waited_for_goes_on_until_another_attempt_is_there(
    tmp_path: Path, monkeypatch
) -> None:
    url = f"file://{tmp_path}/mirror"
    leave = threading.Event()
    really = Remote.send

    def slow(self: Remote, *arguments: object) -> str | None:
        assert leave.wait(SECONDS)
        return really(self, *arguments)

    monkeypatch.setattr(Remote, "send", slow)
    for seed, disturbed in ((0, False), (1, True)):
        leave.clear()
        attempt = begun(tmp_path / "a", 1, seed)
        copier = Copier(Mirror(url), attempt.folder)
        attempt.abandon("stopped")
        copier.end(0.1)
        later = Folder(tmp_path / "a").start(trial(seed)) if disturbed else None
        leave.set()
        copier._thread.join(SECONDS)
        assert (trial(seed).id in Mirror(url).ids()) == (not disturbed)
        if later is not None:
            later.abandon("stopped")


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), KeyError("odd")])
def test_a_copier_outlives_what_it_cannot_do_and_says_it(
    tmp_path: Path, monkeypatch, fault: Exception
) -> None:
    """At its start, too, before its first look at the trainer's files."""
    url = f"file://{tmp_path}/mirror"
    attempt = begun(tmp_path / "a", 1)
    left = 1
    name = "trainers_outline" if isinstance(fault, OSError) else "held"
    really = getattr(mirrors, name)

    def faulty(*arguments: object) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise fault
        return really(*arguments)

    monkeypatch.setattr(mirrors, name, faulty)
    copier = Copier(Mirror(url, seconds=0.02), attempt.folder)

    def copied() -> bool:
        advance(attempt, 1)  # There has to be something to copy.
        return left < 0 and bool(Mirror(url).ids())

    wait_for(copied)
    attempt.abandon("stopped")
    copier.end(SECONDS)
    log = (attempt.folder / "log.txt").read_text()
    assert log.count("copied later") == 1
    there = manifest_at(Remote(url), trial().id)
    assert there.entries == len(Folder(tmp_path / "a").entries(trial().id))


def test_a_last_copy_of_files_that_move_is_tried_again(tmp_path: Path, monkeypatch) -> None:
    url = f"file://{tmp_path}/mirror"
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0.01)
    really, left = mirrors.held, 2

    def moving(*arguments: object) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Moving
        return really(*arguments)

    monkeypatch.setattr(mirrors, "held", moving)
    for seed, times, copied in ((0, 2, True), (1, 1000, False)):
        left = times
        attempt = begun(tmp_path / "a", 1, seed)
        copier = Copier(Mirror(url), attempt.folder)
        attempt.abandon("stopped")
        copier.end(SECONDS)
        assert (trial(seed).id in Mirror(url).ids()) == copied
        log = attempt.folder / "log.txt"
        assert (log.exists() and "still changing; copied later" in log.read_text()) != copied


def test_what_is_left_at_the_end_is_found_in_one_go(s3, s3_log: Path, tmp_path: Path) -> None:
    """Trials that are copied cost a manifest each, all at once, and are never said to be left."""
    place = Place(store=tmp_path / "store", mirror=Mirror(s3("rest")))
    count = 24
    for seed in range(count):
        attempt = begun(place.store, 1, seed)
        ended(attempt)
        if seed:
            copy(place.mirror.url, attempt.folder)
    ids = {trial(seed).id for seed in range(count)}
    before = len(s3_log.read_text().splitlines())
    assert copy_left(ids, place, ids, 0.0) == ([trial(0).id], "there was no more time")
    asked = [line for line in s3_log.read_text().splitlines()[before:] if '"' in line]
    assert sum("list-type" in line for line in asked) <= 2, asked
    assert count <= len(asked) <= 2 * count + 4, len(asked)  # s3fs asks for the size first.
    assert copy_left(ids, place, ids) == ([], None)
    assert place.mirror.ids() == ids
    for seed in range(count):
        there = manifest_at(place.mirror.remote, trial(seed).id)
        assert there.entries == len(place.folder.entries(trial(seed).id))


def test_two_containers_with_one_process_id_write_drafts_of_their_own(
    tmp_path: Path, monkeypatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    drafts = []
    really = LocalFileSystem.pipe_file

    def piped(self: LocalFileSystem, path: str, content: bytes, **more: object) -> None:
        drafts.append(path)
        really(self, path, content, **more)

    monkeypatch.setattr(LocalFileSystem, "pipe_file", piped)
    there = Remote(f"file://{tmp_path}/mirror")
    for _ in range(2):
        there.put("manifests/x.json", b"content")
    assert len(set(drafts)) == 2
    assert os.listdir(tmp_path / "mirror" / "manifests") == ["x.json"]


def test_a_full_disk_is_no_fault_of_the_mirror(tmp_path: Path) -> None:
    there = Remote(f"file://{tmp_path}/mirror")
    there.put("large", b"x" * 100_000)
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    said = "cannot use /dev/full: No space left"
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(EnvironmentFault, match=said):
        there.receive("large", full)
    assert away(there.url) is None


@pytest.mark.slow
def test_sync_delivers_though_the_mirror_is_away(tmp_path: Path) -> None:
    sweep_file(tmp_path)
    (tmp_path / "file").write_text("")
    done = cli(tmp_path, "run", "lost.yaml", "--dispatch", "inline")
    assert done.returncode == 0, done.stderr
    (tmp_path / "runs" / "mlflow.db").unlink()
    done = cli(tmp_path, "sync", "lost.yaml", "--mirror", f"file://{tmp_path}/file/mirror")
    assert done.returncode == 3, done.stderr
    assert "MLflow has all 3 records" in done.stdout
    assert f"the mirror file://{tmp_path}/file/mirror" in done.stderr
    assert (tmp_path / "runs" / "mlflow.db").exists()
