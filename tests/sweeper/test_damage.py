"""Damage in what trials left on their way to a result: journals and files. Each verb that reads
goes on, makes no number of it, says which file it is, and ends with 6."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sweeper.cli import main
from sweeper.design import expand
from sweeper.record import Record
from sweeper.run import code_digest
from sweeper.spec import read
from sweeper.track.folder import Folder
from sweeper.trial import Trial

TOYS = Path(__file__).parent
CORRUPT = 6

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
base: {steps: 3}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1, 2]
metrics:
  loss: {from: loss, goal: min, format: ".2f"}
  final: {from: test/loss, goal: min, format: ".2f"}
profiles: {quick: {}}
tables:
  early: {rows: level, values: [loss], over: seed, cell: "{mean}", at: {updates: 200}}
  late: {rows: level, values: [final], over: seed, cell: "{mean}"}
  paired:
    rows: level
    values: [final]
    over: seed
    cell: "{mean}"
    checkpoints: {value: final, against: low, artifact: items.npz, array: x, samples: 100}
figures:
  course: {kind: curves, y: loss, series: level, over: seed, write: [png]}
claims:
  lower: {say: low is lower, test: "final[low] < final[high]"}
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of six results. A trial of level l and seed s has the losses 10 l + s + 4, 3, 2, 1
    at 100, 200, 300 and 400 updates, and at the end, too, 30 items whose mean is 10 l + s."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    for name in ("SWEEPER_STORE", "SWEEPER_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "toy.yaml").write_text(SWEEP)
    for trial in trials():
        code = code_digest(trial.trainer)
        attempt = Folder("runs").start(trial, code)
        final = 10 * trial.config["level"] + trial.seed
        for n in (1, 2, 3, 4):
            values = {"cost/updates": 100.0 * n, "loss": final + 5 - n}
            attempt.measure(100.0 * n, values)
        content = io.BytesIO()
        np.savez(content, x=final + np.linspace(-1, 1, 30))
        (attempt.folder / "artifacts").mkdir()
        (attempt.folder / "artifacts" / "items.npz").write_bytes(content.getvalue())
        (attempt.folder / "artifacts" / "said.txt").write_text("said")
        attempt.finish(
            Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done",
                result={**values, "test/loss": final},
                provenance={"code_digest": code},
            )
        )
    return tmp_path


def trials() -> list[Trial]:
    return list(expand(read("toy.yaml"), None))


def typed(*words: str) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def row(text: str, label: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [label])
    return line.split()[1:]


def in_the_middle(journal: Path) -> str:
    """One digit of what was measured at 200 updates is another: line 3, after the start."""
    lines = journal.read_bytes().split(b"\n")
    assert b"200.0" in lines[2]
    lines[2] = lines[2].replace(b"200.0", b"900.0")
    journal.write_bytes(b"\n".join(lines))
    return "journal.jsonl:3: this line was changed after it was written"


def cut(journal: Path) -> str:
    """As if nothing had come after 100 updates: each line that is left is a good one."""
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:2]) + b"\n")
    return "journal.jsonl: it ends before the result that there is"


def gone(journal: Path) -> str:
    journal.unlink()
    return "journal.jsonl: it ends before the result that there is"


@pytest.fixture(params=[in_the_middle, cut, gone], ids=lambda how: how.__name__)
def journal(request, desk: Path) -> str:
    """The first trial's (low, seed 0) is damaged; where, and how."""
    folder = Folder("runs").path(trials()[0].id)
    return f"trials/{folder.name}/{request.param(folder / 'journal.jsonl')}"


def test_without_damage_all_is_well(desk):
    for words in (["table"], ["figure"], ["claims"], ["report"]):
        said = typed(words[0], "toy.yaml", *words[1:])
        assert (said.exit_code, said.stderr) == (0, "")
    assert row(typed("table", "toy.yaml", "early").stdout, "low") == ["14.00"]  # 10 + 1 + 3
    assert row(typed("table", "toy.yaml", "early").stdout, "high") == ["24.00"]


@pytest.mark.fault("B13", "B14")
def test_a_table_at_a_cost_has_no_number_of_a_damaged_journal(journal):
    said = typed("table", "toy.yaml", "early")
    assert said.exit_code == CORRUPT
    assert row(said.stdout, "low")[:2] == ["14.50", "(n=2)†"]  # of seeds 1 and 2
    assert row(said.stdout, "high") == ["24.00"]
    words = " ".join(said.stdout.split())
    assert "left out: 1 corrupt of 3 trials" in words
    assert "trials: 5 of 6 done, 1 corrupt" in words
    assert journal in words
    assert f"corrupt: runs/{journal}" in said.stderr
    assert "sweeper gc --corrupt --delete removes what cannot be believed" in said.stderr


def test_a_cell_of_nothing_else_is_corrupt(desk):
    for trial in trials()[:3]:
        cut(Folder("runs").path(trial.id) / "journal.jsonl")
    said = typed("table", "toy.yaml", "early")
    assert row(said.stdout, "low") == ["corrupt"]
    assert row(said.stdout, "high") == ["24.00"]


@pytest.mark.fault("B14")
def test_a_table_of_results_does_not_ask_for_it(journal):
    said = typed("table", "toy.yaml", "late")
    assert (said.exit_code, row(said.stdout, "low")) == (0, ["11.00"])
    assert typed("claims", "toy.yaml").exit_code == 0


def test_why_says_which_run_it_is(journal):
    said = typed("why", "toy.yaml", "early/low/loss")
    assert said.exit_code == CORRUPT
    assert f"is corrupt: {journal}" in " ".join(said.stdout.split())
    found = json.loads(typed("why", "toy.yaml", "early/low/loss", "--json").stdout)
    assert [(r["value"], r["state"]) for r in found["runs"]] == [
        (None, "corrupt"),
        (14.0, "done"),
        (15.0, "done"),
    ]
    assert typed("why", "toy.yaml", "early/high/loss").exit_code == 0
    assert typed("why", "toy.yaml", "late/low/final").exit_code == 0


def test_a_figure_leaves_it_out_and_says_so(journal):
    said = typed("figure", "toy.yaml")
    assert said.exit_code == CORRUPT
    assert said.stdout == "runs/tables/toy.quick/course.png\n"
    assert f"corrupt: runs/{journal}" in said.stderr


def test_a_report_says_it_at_its_places(journal, read):
    said = typed("report", "toy.yaml")
    assert said.exit_code == CORRUPT
    assert f"corrupt: runs/{journal}" in said.stderr
    page = read(Path("runs/tables/toy.quick/report.html").read_text(encoding="utf-8"))
    button = page.called("table-early").all("table")[0].rows()[0][1].one("button")
    assert button.text.startswith("14.50")
    card = page.called(button.attributes["popovertarget"])
    assert [line[1].text for line in card.one("table").rows()] == ["corrupt", "14", "15"]
    assert "corrupt: low seed 0" in page.called("curves").text
    assert "corrupt: low seed 0" in page.called("figure-course").text
    notes = page.called("provenance").text
    assert notes.count(f"could not be read: {journal}") == 1


@pytest.mark.fault("B13")
def test_what_repairs_it_removes_it(journal):
    folder = Folder("runs").path(trials()[0].id)
    assert typed("gc", "--corrupt", "--delete", "--yes").exit_code == 0
    assert not folder.exists()
    said = typed("table", "toy.yaml", "early")
    assert (said.exit_code, row(said.stdout, "low")[:2]) == (0, ["14.50", "(n=2)"])


@pytest.fixture
def artifact(desk: Path) -> str:
    path = Folder("runs").path(trials()[0].id) / "artifacts" / "items.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    return f"trials/{trials()[0].id}/artifacts/items.npz: the checksum does not match"


def test_a_damaged_file_is_no_test_and_is_said(artifact):
    said = typed("table", "toy.yaml", "paired")
    assert said.exit_code == CORRUPT
    assert "not testable: items.npz is damaged" in " ".join(said.stdout.split())
    assert row(said.stdout, "low")[0] == "11.00"
    assert f"corrupt: runs/{artifact}" in said.stderr
    assert "where the folder of a trial with such a file is deleted" in said.stderr
    assert "gc --corrupt" not in said.stderr  # It does not look at what is a trainer's own.
    asked = typed("why", "toy.yaml", "paired/low/final")
    assert asked.exit_code == CORRUPT
    assert artifact in asked.stderr
    assert typed("report", "toy.yaml").exit_code == CORRUPT
    assert typed("figure", "toy.yaml").exit_code == 0


def test_a_cell_read_at_a_cost_stays_where_only_a_file_is_damaged(artifact):
    said = typed("why", "toy.yaml", "early/low/loss", "--json")
    assert said.exit_code == 0
    assert [run["state"] for run in json.loads(said.stdout)["runs"]] == ["done"] * 3


def test_a_damaged_list_of_files(desk):
    path = Folder("runs").path(trials()[0].id) / "artifacts.json"
    path.write_bytes(path.read_bytes().replace(b'"bytes":4', b'"bytes":5'))
    for verb, *name in (("table", "paired"), ("report",)):
        said = typed(verb, "toy.yaml", *name)
        assert said.exit_code == CORRUPT
        assert f"{path.parent.name}/artifacts.json: the checksum does not match" in said.stderr
        assert "sweeper gc --corrupt --delete" in said.stderr
