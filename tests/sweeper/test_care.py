"""logs, gc and completion: over a store that is made here, trial by trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from sweeper import cleaning
from sweeper.cli import main
from sweeper.design import expand
from sweeper.dispatch import scratch
from sweeper.errors import CorruptRecord, EnvironmentFault
from sweeper.needed import Needed
from sweeper.record import Record
from sweeper.sizes import age_in_words, bytes_in_words, seconds_of
from sweeper.spec import read
from sweeper.track import lease
from sweeper.track.folder import Folder
from sweeper.track.log import follow, lines, visible
from sweeper.track.mlflow import Running
from sweeper.trial import TrainerRef, Trial

ROOT = Path(__file__).parents[2]
TOYS = Path(__file__).parent
HOUR = 3600.0
NOBODY = ("--tracking", "http://127.0.0.1:9")  # answers there

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
base: {steps: 3}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1]
metrics:
  loss: {from: loss, goal: min, format: ".3f"}
profiles: {quick: {}, long: {set: {steps: 30}}}
tables:
  losses: {rows: level, values: [loss], over: seed, cell: "{mean}"}
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    for name in ("SWEEPER_STORE", "SWEEPER_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "toy.yaml").write_text(SWEEP)
    return tmp_path


def typed(*words: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(words), input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def trials(profile: str = "quick") -> list[Trial]:
    return list(expand(read("toy.yaml", profile=profile), None))


def ended(trial: Trial, state: str = "done", log: str | None = "one\n", **fields: object) -> Path:
    attempt = Folder("runs").start(trial)
    if log is not None:
        (attempt.folder / "log.txt").write_text(log)
    attempt.finish(
        Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state=state, **fields)
    )
    return attempt.folder


def aged(path: Path, seconds: float = HOUR) -> Path:
    then = time.time() - seconds
    for below in [*path.rglob("*"), path]:
        os.utime(below, (then, then), follow_symlinks=False)
    return path


# ---- sizes


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (2.5e9, "2.5 GB")]
)
def test_bytes(count, said):
    assert bytes_in_words(count) == said


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 604_800), ("12h", 43_200), ("1.5m", 90), ("2w", 1_209_600)]
)
def test_ages(text, seconds):
    assert seconds_of(text) == seconds


def test_ages_in_words_and_what_is_none():
    assert age_in_words(3 * 86_400) == "3 days"
    assert age_in_words(119) == "119 seconds"
    for text in ("7", "d", "-1d", "7 days", ""):
        with pytest.raises(ValueError, match="7d"):
            seconds_of(text)


# ---- a log's lines


def test_a_log_may_hold_anything_and_moves_no_cursor(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"\x1b[2Jred\r\n50%\r100%\n\xff\xfe\ttab\x07\nlast, unended")
    assert lines(log) == ["\\x1b[2Jred", "50%", "100%", "\\xff\\xfe\ttab\\x07", "last, unended"]
    assert visible("a\u202eb\x9bc") == "a\\u202eb\\x9bc"


@pytest.mark.parametrize("last", [0, 1, 3, 99_999, 100_000, 100_001])
def test_the_last_lines_of_a_long_log_are_those_of_all(tmp_path, last):
    log = tmp_path / "log.txt"
    everything = [f"line {n}" for n in range(100_000)]
    log.write_text("\n".join(everything) + "\n")
    assert lines(log, last) == everything[max(0, 100_000 - last) :]


def test_no_log_an_empty_one_a_link_and_a_pipe(tmp_path):
    assert lines(tmp_path / "none") == []
    (tmp_path / "empty").touch()
    assert lines(tmp_path / "empty", 3) == []
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(EnvironmentFault):
            lines(tmp_path / name)


def test_following_gives_each_line_once_until_it_ends(tmp_path):
    log = tmp_path / "log.txt"
    goes_on = threading.Event()
    goes_on.set()
    came: list[str] = []
    reader = threading.Thread(target=lambda: came.extend(follow(log, goes_on.is_set, 1)))
    reader.start()
    parts = ["old\nno", "t yet\r", "\nfirst\nsec", "ond\n", "half"]
    for part in parts:
        time.sleep(0.4)
        with log.open("a", newline="") as file:
            file.write(part)
    goes_on.clear()
    reader.join(timeout=10)
    assert came[-3:] == ["first", "second", "half"]
    assert "".join(came).count("first") == 1
    assert came[:-3] in (["old", "not yet"], ["not yet"])


# ---- logs


def test_logs_of_a_trial_by_its_id_its_beginning_and_its_labels(desk):
    one, two, *_ = trials()
    ended(one, log="of one\n")
    path = ended(two, log="a\nb\nc\n")
    assert typed("logs", "toy.yaml", one.id).stdout == "of one\n"
    assert typed("logs", "toy.yaml", two.id[:8], "--tail", "2").stdout == "b\nc\n"
    assert typed("logs", "toy.yaml", "level=low", "seed=1").stdout == "a\nb\nc\n"
    said = typed("logs", "toy.yaml", two.id, "--path").stdout
    assert said == f"{path.relative_to(Path.cwd().resolve()) / 'log.txt'}\n"


def test_logs_without_an_id_are_of_those_that_failed_or_run(desk):
    one, two, three, _ = trials()
    ended(one)
    ended(two, "failed", log="".join(f"{n}\n" for n in range(100)), error="ValueError: \x1b[31m")
    running = Folder("runs").start(three)
    try:
        said = typed("logs", "toy.yaml").stdout.splitlines()
    finally:
        running.abandon("over")
    assert [line for line in said if line.startswith("==")] == [
        f"== low · seed 1: failed: ValueError: \\x1b[31m (runs/trials/{two.id}/log.txt)",
        f"== high · seed 0: running (runs/trials/{three.id}/log.txt)",
    ]
    assert [line for line in said if line.isdigit()] == [str(n) for n in range(80, 100)]


def test_what_runs_is_not_left_to_run(desk):
    one, two, *_ = trials()
    ended(one)
    running = Folder("runs").start(two)
    try:
        said = typed("status", "toy.yaml").stdout.splitlines()[0]
        for trial in trials()[2:]:
            ended(trial)
        last = typed("status", "toy.yaml").stdout.splitlines()[0]
    finally:
        running.abandon("over")
    assert said.endswith("4 trials, 1 done, 1 running, 2 missing; 2 to run")
    assert last.endswith("4 trials, 3 done, 1 running; nothing left to start")


def test_a_failure_is_told_once(desk):
    """In the table's footer where there is one, else with the log's place."""
    (desk / "toy.yaml").write_text(SWEEP.replace("countdown", "raises"))
    words = ("run", "toy.yaml", "--dispatch", "inline", "--offline", *NOBODY)
    first, again = typed(*words, "--keep-going"), typed(*words)
    assert (first.exit_code, again.exit_code) == (1, 1)
    error, (trial, *_) = "ValueError: the third layer has no weights", trials()
    assert f"failed: low · seed 0 ({trial.id}): {error}" in again.stdout
    assert error not in again.stderr
    assert "shows what they printed" in again.stderr.splitlines()[-1]
    assert f"{error} (runs/trials/{trial.id}/log.txt)" in typed("status", "toy.yaml").stderr


def test_logs_that_are_not_there(desk):
    (one, *_) = trials()
    nothing = typed("logs", "toy.yaml")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    states = "running, failed, diverged, exceeded or corrupt"
    assert f"no trial is {states}: 4 missing" in nothing.stderr
    assert "low · seed 0 (missing) has no log" in typed("logs", "toy.yaml", one.id).stderr
    ended(one, log="")
    assert "low · seed 0 (done) printed nothing" in typed("logs", "toy.yaml", one.id).stderr
    assert "nobody runs" in typed("logs", "toy.yaml", trials()[1].id, "--follow").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["levle=low"], "unknown axis 'levle'; did you mean 'level'?"),
        (["level=hgih"], "unknown label of level 'hgih'; did you mean 'high'?"),
        (["zz"], "unknown trial 'zz'"),
        (["level=low", "--follow"], "--follow takes one trial"),
    ],
)
def test_logs_of_what_nobody_knows(desk, words, says):
    refused = typed("logs", "toy.yaml", *words)
    assert refused.exit_code == 2
    assert says in refused.stderr


# ---- gc


def things(*words: str) -> dict[str, list[str]]:
    """Kind -> paths, relative to the store; of trials of whatever age, if not said otherwise."""
    age = () if {"--older-than", "--corrupt"}.intersection(words) else ("--older-than", "0s")
    result = typed("gc", *words, *age, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    root = Path(said["store"])
    return {
        kind: sorted(os.path.relpath(one["path"], root) for one in said[kind])
        for kind in cleaning.KINDS
        if said[kind]
    }


def snapshot(desk: Path) -> list[tuple[str, bytes]]:
    files = [path for path in sorted(desk.rglob("*")) if path.is_file()]
    return [(str(path), path.read_bytes()) for path in files]


def test_trials_of_all_profiles_are_needed_and_others_are_not(desk):
    needed = [*trials(), *trials("long")]
    for trial in needed:
        ended(trial)
    (desk / "other.yaml").write_text(SWEEP.replace("steps: 3}", "steps: 4}"))
    other = expand(read("other.yaml"), None)[0]
    ended(other)
    before = snapshot(desk)
    assert things("toy.yaml") == {"trials": [f"trials/{other.id}"]}
    assert things("toy.yaml", "other.yaml") == {}
    assert things("toy.yaml", "--older-than", "1h") == {}
    assert snapshot(desk) == before

    asked = ("gc", "toy.yaml", "--delete", "--older-than", "0s")
    refused = typed(*asked, answer="n\n")
    assert "remove 1 things" in refused.stderr
    nobody = typed(*asked)
    assert nobody.exit_code == 2
    assert "--yes removes without a question" in nobody.stderr
    nobody = typed(*asked, "--json")
    assert nobody.exit_code == 2
    assert "add --yes" in nobody.stderr
    assert snapshot(desk) == before
    assert typed(*asked, answer="y\n").exit_code == 0
    assert Folder("runs").ids() == sorted(trial.id for trial in needed)
    assert things("toy.yaml") == {}


def test_a_trial_of_today_is_left_alone(desk):
    """One that was begun by what left no design, a script or an older version, may be needed."""
    young, old = ended(trials("long")[0]), ended(trials("long")[1])
    aged(old, 25 * HOUR)
    (desk / "one.yaml").write_text(SWEEP.replace(", long: {set: {steps: 30}}", ""))
    listed = typed("gc", "one.yaml").stdout
    assert f"trials/{old.name}" in listed
    assert young.name not in listed
    assert "1 more trial in no design is younger than that (--older-than 0s lists all)" in listed


def ran(*words: str) -> None:
    done = typed("run", *words, "--dispatch", "inline", "--offline", *NOBODY)
    assert done.exit_code == 0, done.output


def test_a_file_adds_to_what_runs_left_and_only_a_name_takes_away(desk):
    """A store of several sweeps: to name one of them makes the others no waste."""
    (desk / "other.yaml").write_text(
        SWEEP.replace("name: toy", "name: other").replace("steps: 3}", "steps: 4}")
    )
    others = {trial.id for trial in expand(read("other.yaml"), None)}
    ran("toy.yaml")
    ran("other.yaml")
    assert things("toy.yaml") == {}
    found = things("toy.yaml", "--without", "other")
    assert found["trials"] == sorted(f"trials/{id}" for id in others)
    (design,) = found["designs"]
    assert design.startswith("sweeps/other.quick.")
    assert things("--without", "other.quick")["trials"] == found["trials"]
    listed = typed("gc", "--without", "other").stdout
    needed, _, left = listed.partition("designs that were left out: 1")
    assert "toy · quick, run" in needed
    assert "other · quick, run" in left
    refused = typed("gc", "--without", "ohter")
    assert refused.exit_code == 2
    assert "unknown design 'ohter'; did you mean 'other'?" in refused.stderr
    typed("gc", "--without", "other", "--older-than", "0s", "--delete", "--yes")
    assert things() == {}
    assert len(Folder("runs").ids()) == 4
    assert not (desk / "runs" / design).exists()


def test_a_copied_file_of_one_name_takes_nothing_away(desk):
    ran("toy.yaml")
    (desk / "copy.yaml").write_text(SWEEP.replace("steps: 3}", "steps: 4}"))
    planned = typed("plan", "copy.yaml", *NOBODY)
    assert "since the run of" not in planned.stdout
    assert "toy.yaml is named toy, too" in planned.stderr
    ran("copy.yaml")
    assert things() == {}
    assert "the same as in the run of" in typed("plan", "toy.yaml").stdout


def test_what_was_probed_or_scored_is_needed(desk):
    probed = typed("plan", "toy.yaml", "--probe", "--dispatch", "inline")
    assert probed.exit_code == 0, probed.output
    assert Folder("runs").ids()
    assert things() == {}
    assert "since the run of" not in typed("plan", "toy.yaml").stdout


def test_without_files_it_is_what_runs_left(desk):
    refused = typed("gc")
    assert refused.exit_code == 3
    assert "no store of trials" in refused.stderr
    ended(trials("long")[0])
    refused = typed("gc")
    assert refused.exit_code == 2
    assert "name the FILES" in refused.stderr
    ran("toy.yaml")
    assert things() == {"trials": [f"trials/{trials('long')[0].id}"]}
    left = next((desk / "runs/sweeps").glob("*.json"))
    left.write_bytes(left.read_bytes()[:-9])
    refused = typed("gc", "--delete", "--yes")
    assert refused.exit_code == CorruptRecord.exit_code
    assert "sweeper gc --corrupt --delete removes it" in refused.stderr
    assert len(Folder("runs").ids()) == 5
    typed("gc", "--corrupt", "--delete", "--yes")
    assert not left.exists()
    assert len(Folder("runs").ids()) == 5


def test_trials_whose_data_is_not_here_are_needed(desk):
    sweep = """\
name: data
trainer: {function: "toy_trainers:countdown", config: toy_config}
base: {data: %s}
axes: {lr: {one: {lr: 1}, two: {lr: 2}}, seed: [0]}
metrics: {loss: {from: loss}}
profiles: {quick: {}}
"""
    (desk / "data.yaml").write_text(sweep % "absent")
    there = expand(read("data.yaml"), None, without_data=True)
    with pytest.raises(EnvironmentFault, match="absent"):
        expand(read("data.yaml"), None)
    # The same trials as they were made where the data was.
    made = [
        Trial(trainer=t.trainer, config=t.config, seed=t.seed, data_digest="a" * 64) for t in there
    ]
    other = Trial(trainer=made[0].trainer, config=made[0].config, seed=5, data_digest="a" * 64)
    for trial in (*made, other):
        ended(trial)
    assert things("data.yaml") == {"trials": [f"trials/{other.id}"]}


SEARCH = """\
search:
  for_each: [level, seed]
  trials: 2
  objectives: [{metric: loss, goal: min}]
  space: {steps: {int: [3, 40]}}
"""


def test_what_a_search_tried_is_not_taken_for_nobodys(desk):
    (desk / "search.yaml").write_text(SWEEP.partition("tables:")[0] + SEARCH)
    ended(trials("long")[0])
    other = Trial(trainer=TrainerRef(function="toy_trainers:draw"), config={}, seed=0)
    ended(other)
    assert things("search.yaml") == {"trials": [f"trials/{other.id}"]}


def test_a_running_trial_is_not_touched(desk):
    long, *_ = trials("long")
    (desk / "one.yaml").write_text(SWEEP.replace(", long: {set: {steps: 30}}", ""))
    ended(trials()[0])
    running = Folder("runs").start(long)
    draft = running.folder / ".result.json.12.0123abcd"
    draft.touch()
    aged(running.folder)
    try:
        assert things("one.yaml") == {}
    finally:
        running.abandon("over")
    needed = Needed(ids={trials()[0].id})
    ((listed,), _) = cleaning.waste(desk / "runs", needed, older_than=0)
    again = Folder("runs").start(long)  # Between the list and the word to remove it.
    try:
        ((_, why),) = cleaning.remove(desk / "runs", [listed])
    finally:
        again.abandon("over")
    assert why
    assert running.folder.is_dir()


def test_what_was_interrupted_is_found_once_it_is_quiet(desk):
    folder = ended(trials()[0])
    runs = desk / "runs"
    (folder / "checkpoints").mkdir()
    left = [
        runs / ".stop-0123abcd",
        runs / ".delivered.json.77.0123abcd",
        folder / f".result-{'a' * 16}.json.77.0123abcd",
        folder / "checkpoints/epoch-000003.unfinished",
    ]
    kept = [runs / ".writable", folder / "checkpoints/epoch-000002.checkpoint", runs / ".mine"]
    for path in (*left, *kept):
        path.write_text("x")
    assert things("toy.yaml") == {}
    for path in (*left, *kept):
        aged(path)
    assert things("toy.yaml")["leftovers"] == sorted(str(p.relative_to(runs)) for p in left)
    assert typed("gc", "toy.yaml", "--delete", "--yes").exit_code == 0
    assert [path.exists() for path in (*left, *kept)] == [False] * 4 + [True] * 3


def test_scratch_folders_of_dead_drivers_and_no_others(desk):
    ended(trials()[0])
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    mine = scratch.private_scratch()
    dead = desk / "temporary/sweeper-dead"
    dead.mkdir()
    (dead / scratch.OWNER).write_text(json.dumps([lease.this_place(), process.pid, "1"]))
    (desk / "temporary/sweeper-link").symlink_to(dead)
    assert things("toy.yaml") == {"leftovers": ["../temporary/sweeper-dead"]}
    typed("gc", "toy.yaml", "--delete", "--yes")
    assert mine.is_dir()
    assert not dead.exists()


def test_no_lease_of_a_copied_store_is_a_dead_ones(desk):
    folder = ended(trials()[0])
    os.utime(folder / "lease-1.json")  # As `cp -r` dates it.
    assert things("toy.yaml") == {}


def damaged(path: Path, old: bytes, new: bytes) -> Path:
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


@pytest.fixture
def with_damage(desk: Path) -> list[Path]:
    """Of four trials one done, one done with a damaged result, one begun with a damaged
    journal, and one missing; the folders of the first three."""
    folders = [ended(trial, result={"loss": 1.5}) for trial in trials()[:2]]
    attempt = Folder("runs").start(trials()[2])
    attempt.measure(1.0, {"loss": 1.0})
    attempt.abandon("over")
    folders.append(attempt.folder)
    damaged(next(folders[1].glob("result-*.json")), b"1.5", b"0.5")
    damaged(folders[2] / "journal.jsonl", b'"start"', b'"stort"')
    return folders


REMEDY = "sweeper gc --corrupt --delete removes what cannot be believed"


@pytest.mark.parametrize("verb", ["status", "plan", "table"])
def test_what_reads_shows_what_is_corrupt_and_goes_on(with_damage, verb):
    said = typed(verb, "toy.yaml")
    assert said.exit_code == CorruptRecord.exit_code
    if verb == "table":
        assert "2 of 4" not in said.stdout
        assert "1 of 4 done, 1 missing, 2 corrupt" in said.stdout
        assert "0.500" not in said.stdout
    else:
        assert "4 trials, 1 done, 1 missing, 2 corrupt; 1 to run" in said.stdout
    for folder, file in zip(with_damage[1:], ("result-", "journal.jsonl:1"), strict=True):
        assert said.stderr.count(f"corrupt: runs/trials/{folder.name}/{file}") == 1
    assert said.stderr.count(REMEDY) == 1
    if verb != "table":
        objects = typed(verb, "toy.yaml", "--json")
        assert objects.exit_code == CorruptRecord.exit_code
        assert json.loads(objects.stdout)["counts"]["corrupt"] == 2


@pytest.mark.parametrize("verb", ["why", "logs"])
def test_one_corrupt_trial_is_in_nobody_elses_way(with_damage, verb):
    done, corrupt, *_ = trials()
    fine = typed(verb, "toy.yaml", done.id)
    assert fine.exit_code == 0, fine.output
    assert "corrupt" not in fine.output
    asked = typed(verb, "toy.yaml", corrupt.id)
    assert asked.exit_code == CorruptRecord.exit_code
    assert "sweeper gc --corrupt --delete" in " ".join(asked.output.split())


@pytest.mark.parametrize("verb", ["run", "eval"])
def test_nothing_is_trained_before_what_is_corrupt_is_repaired(with_damage, verb):
    before = snapshot(Path("runs"))
    refused = typed(verb, "toy.yaml", "--dispatch", "inline")
    assert refused.exit_code == CorruptRecord.exit_code
    assert REMEDY in refused.stderr
    assert snapshot(Path("runs")) == before


def test_what_is_corrupt_goes_and_the_next_run_makes_it_anew(with_damage):
    _, rescored, restarted = with_damage
    (rescored / "checkpoints").mkdir()
    found = things("--corrupt")
    (result,) = rescored.glob("result-*.json")
    wanted = [f"trials/{restarted.name}", f"trials/{rescored.name}/{result.name}"]
    assert found == {"corrupt": sorted(wanted)}
    assert typed("gc", "toy.yaml", "--corrupt").exit_code == 2
    assert "the checksum does not match" in typed("gc", "--corrupt").stdout
    typed("gc", "--corrupt", "--delete", "--yes")
    assert (rescored / "checkpoints").is_dir()
    assert not restarted.exists()
    assert things("--corrupt") == {}
    assert "nothing in runs is corrupt" in typed("gc", "--corrupt").stdout
    ran("toy.yaml")
    assert typed("status", "toy.yaml").exit_code == 0


def test_a_dead_process_lease_is_ended_and_its_number_stays_taken(desk):
    code = """
import os, sys
from sweeper.design import expand
from sweeper.spec import read
from sweeper.track.folder import Folder
Folder("runs").start(expand(read("toy.yaml"), None)[0])
os._exit(0)
"""
    paths = os.pathsep.join([str(ROOT), str(TOYS)])
    environment = os.environ | {"PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    (id,) = Folder("runs").ids()
    assert things("toy.yaml") == {"leases": [f"trials/{id}/lease-1.json"]}
    typed("gc", "toy.yaml", "--delete", "--yes")
    assert things("toy.yaml") == {}
    again = Folder("runs").start(trials()[0])
    again.abandon("over")
    assert again.number == 2


def test_checkpoints_of_finished_trials_only_when_asked(desk):
    done, failed = ended(trials()[0]), ended(trials()[1], "failed")
    for folder in (done, failed):
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints/epoch-000001.checkpoint").write_bytes(b"x" * 2000)
    assert things("toy.yaml") == {}
    listed = typed("gc", "toy.yaml", "--checkpoints").stdout
    assert f"trials/{done.name}/checkpoints" in listed
    assert "2.0 kB" in listed
    assert "trained again" in listed
    typed("gc", "toy.yaml", "--checkpoints", "--delete", "--yes")
    assert not (done / "checkpoints").exists()
    assert (failed / "checkpoints/epoch-000001.checkpoint").exists()
    assert Folder("runs").record(trials()[0]).state == "done"


def test_no_link_leads_out_of_the_store(desk):
    ended(trials()[0])
    outside = desk / "outside"
    (outside / "checkpoints").mkdir(parents=True)
    (outside / "checkpoints/mine").write_text("mine")
    (outside / ".x.json.12.0123abcd").write_text("mine")
    aged(outside)
    (desk / "runs/trials" / ("a" * 16)).symlink_to(outside)
    (desk / "runs/tables").symlink_to(outside)
    (desk / "runs/.tune").symlink_to(outside)
    folder = desk / "runs/trials" / trials()[0].id
    (folder / "checkpoints").symlink_to(outside / "checkpoints")
    inner = ended(trials("long")[1])
    (inner / "artifacts").symlink_to(outside)
    (desk / "one.yaml").write_text(SWEEP.replace(", long: {set: {steps: 30}}", ""))
    typed("gc", "one.yaml", "--checkpoints", "--delete", "--yes", "--older-than", "0s")
    assert not inner.exists()
    assert (outside / "checkpoints/mine").read_text() == "mine"
    assert (outside / ".x.json.12.0123abcd").exists()


def test_a_folder_that_is_no_store_is_refused(desk):
    (desk / "elsewhere/trials").mkdir(parents=True)
    (desk / "linked").mkdir()
    (desk / "linked/trials").symlink_to(desk / "elsewhere/trials")
    for store in (".", "linked", "nowhere"):
        refused = typed("gc", "toy.yaml", "--delete", "--yes", "--store", store)
        assert refused.exit_code == 3, refused.output
    assert typed("gc", "toy.yaml", "--store", "elsewhere").exit_code == 0


def test_an_interrupted_removal_is_a_leftover(desk):
    folder = ended(trials("long")[0])
    folder.rename(folder.with_name(".removed-0123abcd"))
    assert things("toy.yaml") == {"leftovers": ["trials/.removed-0123abcd"]}
    typed("gc", "toy.yaml", "--delete", "--yes")
    assert things("toy.yaml") == {}


def test_which_runs_of_mlflow_nothing_will_end(desk):
    done, failed, live, gone = trials()
    ended(done)
    ended(failed, "failed")
    attempt = Folder("runs").start(live)

    def run(name: str, trial: Trial | None, began: float = 0.0) -> Running:
        return Running(run_id=name, name=name, trial_id=trial and trial.id, began=began)

    runs = [run("done", done), run("failed", failed), run("live", live), run("gone", gone)]
    runs += [run("old sweep", None), run("new sweep", None, time.time())]

    def left(own: bool) -> list[str]:
        return [run.name for run in cleaning.left_running(desk / "runs", runs, own=own)]

    try:
        assert left(own=True) == ["failed", "gone"]
        assert left(own=False) == ["failed"]
    finally:
        attempt.abandon("over")
    assert left(own=True) == ["failed", "live", "gone", "old sweep"]
    assert left(own=False) == ["failed", "live"]


@pytest.mark.fault("B8")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_runs_left_running_in_mlflow_are_ended(desk):
    code = """
import sys
from pathlib import Path
from sweeper.design import expand
from sweeper.spec import read
from sweeper.track.folder import Folder
from sweeper.track.mlflow import MLflowStore
from sweeper.track.parcel import Origin
folder, store = Folder("runs"), MLflowStore("runs")
attempt = folder.start(expand(read("toy.yaml"), None)[0])
attempt.measure(1, {"loss": 1.0})
store.publish(attempt.trial, folder, Origin(sweep="toy", profile="quick"))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TOYS)])}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)

    def state(*words: str) -> list[dict]:
        return json.loads(typed("gc", "toy.yaml", "--json", *words).stdout)["mlflow"]

    (listed,) = state()
    assert listed["trial"] == trials()[0].id
    assert not listed["ended"]
    assert state("--delete", "--yes") == [{**listed, "ended": True}]
    assert state() == []


# ---- completion


def offered(words: list[str], begun: str = "") -> list[str]:
    offers = ShellComplete(main, {}, "sweeper", "_SWEEPER_COMPLETE").get_completions(words, begun)
    return [offer.value for offer in offers]


def test_what_is_offered(desk):
    (desk / "deeper/still").mkdir(parents=True)
    for name in ("deeper/two.yaml", "deeper/still/three.yml", ".hidden.yaml", "notes.txt"):
        (desk / name).write_text(SWEEP)
    ids = [trial.id for trial in trials()]
    assert offered(["run"]) == ["toy.yaml", "deeper/two.yaml", "deeper/still/three.yml"]
    assert offered(["run"], "de") == ["deeper/two.yaml", "deeper/still/three.yml"]
    assert offered(["run"], "./t") == ["./toy.yaml"]
    assert offered(["gc", "toy.yaml"], "t") == []
    for verb in ("run", "plan", "doctor"):
        assert offered([verb, "toy.yaml", "--profile"]) == ["quick", "long"]
    assert offered(["table", "toy.yaml"], "lo") == ["losses"]
    assert offered(["claims", "toy.yaml"]) == []
    assert offered(["run", "toy.yaml", "--dispatch"]) == ["inline", "ray"]
    assert "failed" in offered(["run", "toy.yaml", "--retry"])
    assert offered(["completion"]) == ["bash", "zsh", "fish"]
    for verb in ("eval", "logs"):
        assert offered([verb, "toy.yaml"]) == ids
        assert offered([verb, "toy.yaml", ids[0]]) == ids[1:]
        assert offered([verb, "toy.yaml"], ids[2][:10]) == [ids[2]]
    assert offered(["logs", "--profile", "long", "toy.yaml"]) == [t.id for t in trials("long")]


def test_an_id_is_offered_with_its_labels(desk):
    shell = ShellComplete(main, {}, "sweeper", "_SWEEPER_COMPLETE")
    helps = [offer.help for offer in shell.get_completions(["logs", "toy.yaml"], "")]
    assert helps[0] == "level=low seed=0"


BAD = {
    "missing": None,
    "empty": b"",
    "binary": bytes(range(256)),
    "a list": b"[1, 2]",
    "half": b"name: toy\naxes: {level: {low",
    "a circle": b"import: {from: toy.yaml, take: [tables, profiles]}\nprofiles: 3\ntables: []",
    "a bad trainer": SWEEP.replace("function:", "config: broken_config, function:").encode(),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_completion_says_nothing_of_what_is_wrong(desk, content, capfd):
    (desk / "broken_config.py").write_text("print('loud')\nraise RuntimeError('broken')")
    (desk / "toy.yaml").unlink()
    if content is not None:
        (desk / "toy.yaml").write_bytes(content)
    for words in (["table"], ["figure"], ["claims"], ["eval"], ["logs"], ["why"]):
        offered([*words, "toy.yaml"], "x")
        offered([*words, "toy.yaml"])
    offered(["run", "toy.yaml", "--profile"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("words", ["sweeper 'x", "sweeper nonsense ", "", "sweeper eval"])
def test_whatever_a_shell_asks_there_is_no_error(desk, words):
    for shell in ("bash", "zsh", "fish", "cmd"):
        for number in ("2", "99", "x"):
            asked = {"_SWEEPER_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
            environment = os.environ | asked | {"COMP_CWORD": number}
            result = CliRunner().invoke(main, [], prog_name="sweeper", env=environment)
            assert result.stderr == ""
            assert not result.exception or isinstance(result.exception, SystemExit)


BASH = """
eval "$(sweeper completion bash)"
complete -p sweeper
COMP_WORDS=(sweeper table toy.yaml lo); COMP_CWORD=3
_sweeper_completion sweeper; echo "${COMPREPLY[*]}"
COMP_WORDS=(sweeper logs broken.yaml ""); COMP_CWORD=3
COMPREPLY=(); _sweeper_completion sweeper; echo "${#COMPREPLY[@]}"
"""


@pytest.mark.slow
def test_a_real_bash_completes(desk):
    program = desk / "bin/sweeper"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sweeper "$@"\n')
    program.chmod(0o755)
    (desk / "broken.yaml").write_text("{")
    environment = os.environ | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(TOYS)]),
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    registered, names, none = done.stdout.splitlines()
    assert registered.endswith("-F _sweeper_completion sweeper")
    assert (names, none) == ("losses", "0")


def test_completing_an_id_is_quick(desk):
    asked = {"_SWEEPER_COMPLETE": "zsh_complete", "COMP_CWORD": "3"}
    asked["COMP_WORDS"] = f"sweeper logs {ROOT / 'sweeps/table3.yaml'} "
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "sweeper"],
        env=os.environ | asked | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = os.times()
    assert done.stderr == ""
    assert done.stdout.count("plain\n") == 36
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    assert spent < 1.5  # 0.3 on an idle machine; three times that where tests run side by side


def test_a_shell_that_is_none_of_these_is_refused():
    assert typed("completion", "cmd").exit_code == 2
    for shell in ("bash", "zsh", "fish"):
        assert "_SWEEPER_COMPLETE" in typed("completion", shell).stdout
