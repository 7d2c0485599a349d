"""What a number of a table is made of, from records whose values are written down by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweeper.cli import main
from sweeper.design import expand
from sweeper.errors import SpecError
from sweeper.provenance import code_digest
from sweeper.record import Record
from sweeper.spec import read
from sweeper.tables import paths, tabulate
from sweeper.track.folder import Folder, result_path
from sweeper.trial import Trial

TOYS = Path(__file__).parent
SWEEP = """\
name: toy
trainer: {function: "toy_trainers:returns_one"}
axes:
  model: {VAE: {lr: 1}, Max/Pool: {lr: 2}, max: {lr: 3}, LM: {lr: 4}}
  kl: {W.O.: {kl: 0}, With: {kl: 1}}
  seed: [0, 1, 2]
metrics:
  nll: {from: test/nll, goal: min, format: ".1f", label: NLL}
  kl: {from: test/kl, format: ".2f", scale: 100, unit: "%"}
reported:
  main: {source: The Paper, rows: {VAE: {W.O.: {nll: 9.5}}}}
  one: {source: The Paper, rows: {VAE: {nll: 9.5}}}
tables:
  main:
    rows: model
    columns: [kl]
    labels: {VAE: Sequence VAE, W.O.: without}
    values: [nll, kl]
    over: seed
    cell: "{mean} ± {sd}"
    delta: {axis: kl, from: W.O., to: With}
    best: {values: [nll]}
  early:
    rows: model
    columns: [kl]
    values: [nll]
    over: seed
    at: {updates: 10}
  one:
    rows: {axis: model, only: [VAE, LM]}
    values: [nll]
    where: {kl: W.O.}
    over: seed
    relative_to: {row: LM}
    beside: paper
profiles: {quick: {}}
"""
NLL = {"W.O.": (10.0, 11.0, 12.0), "With": (9.0, 10.5, 10.5)}


class Desk:
    """A folder with a sweep file in it, where records are written and verbs typed."""

    def __init__(self, folder: Path):
        (folder / "toy.yaml").write_text(SWEEP)
        self.sweep = read("toy.yaml")
        self.trials = expand(self.sweep, None)
        self.folder = Folder(folder / "runs")

    def trial(self, *labels: str) -> Trial:
        return next(t for t in self.trials if tuple(t.labels.values()) == labels)

    def finish(self, trial: Trial, state: str = "done", **fields: object) -> None:
        attempt = self.folder.start(trial)
        nll = NLL[trial.labels["kl"]][trial.seed]
        for cost in (10, 20):
            attempt.measure(cost, {"cost/updates": cost, "test/nll": nll + 20 - cost})
        stamp = {
            "code_digest": code_digest(trial.trainer),
            "commit": "c" * 40,
            "dirty": trial.seed == 1,
            "device": "cpu",
            "data_digest": "d" * 16,
        }
        attempt.finish(
            Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state=state,
                result={"cost/updates": 20.0, "test/nll": nll, "test/kl": 0.25},
                seconds=1.5,
                provenance=stamp | fields.pop("provenance", {}),
                **fields,
            )
        )

    def fill(self, model: str) -> None:
        for trial in self.trials:
            if trial.labels["model"] == model:
                self.finish(trial)

    def type(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.output

    def why(self, path: str, *arguments: str, code: int = 0) -> str:
        return self.type("why", "toy.yaml", path, *arguments, code=code)

    def json(self, path: str) -> dict:
        return json.loads(self.why(path, "--json"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.delenv("SWEEPER_STORE", raising=False)
    return Desk(tmp_path)


# ---- the path


def test_a_path_is_taken_apart_at_slashes_outside_quotes() -> None:
    assert paths.split("main/VAE/With") == ("main", "VAE", "With")
    assert paths.split("main/'Max/Pool'/\"W.O.\"/") == ("main", "Max/Pool", "W.O.")
    assert paths.split("main/it's so/ x ") == ("main", "it's so", "x")
    assert paths.split("//") == ()
    for parts in (("main", "A/B", "x"), ("main", '"', "'x'"), ("a b", "c")):
        assert paths.split(paths.joined(parts)) == parts


def found(desk: Desk, path: str) -> tuple[str, str, str, str]:
    spec = desk.sweep.tables[paths.table_of(path, desk.sweep.tables)]
    table = tabulate(spec, desk.sweep, desk.trials, {}, histories=lambda trial: ())
    i, j = paths.find(paths.split(path)[1:], table)
    column = table.columns[j]
    return table.rows[i].key, ",".join(column.at.values()), column.metric.name, column.kind


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("main/VAE/W.O./nll", ("VAE", "W.O.", "nll", "value")),
        ("MAIN/sequence  vae/Without/NLL", ("VAE", "W.O.", "nll", "value")),
        ("main/VAE/nll/With", ("VAE", "With", "nll", "value")),
        ("main/Max/Pool/With/test/kl", ("Max/Pool", "With", "kl", "value")),
        ("main/'max/pool'/With/kl", ("Max/Pool", "With", "kl", "value")),
        ("main/max/With/kl", ("max", "With", "kl", "value")),
        ("main/LM/Δ/kl", ("LM", "Δ", "kl", "delta")),
        ("early/LM/with", ("LM", "With", "nll", "value")),
        ("one/VAE", ("VAE", "", "nll", "value")),
        ("one/VAE/ours", ("VAE", "", "nll", "value")),
        ("one/VAE/nll/paper", ("VAE", "", "nll", "paper")),
        ("one/VAE/diff", ("VAE", "", "nll", "difference")),
        ("one/VAE/ratio", ("VAE", "", "nll", "ratio")),
        ("one/VAE/÷ LM", ("VAE", "", "nll", "ratio")),
    ],
)
def test_a_cell_is_found_by_labels_and_by_what_is_printed(desk, path, expected) -> None:
    assert found(desk, path) == expected


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("main/VEA/With/nll", "unknown row 'VEA' of main; did you mean 'VAE'?"),
        ("main/VAE/Wiht/nll", "unknown column 'Wiht' of main; did you mean 'With'?"),
        ("main/VAE/With", "main: which column? one of With/nll; With/kl"),
        ("main/VAE/With/W.O./nll", "main: 'W.O.' is no part of With/nll; With/kl"),
        ("main/", "main: which row? one of VAE, Max/Pool, max, LM"),
        ("one/VAE/With", "unknown column 'With' of one"),
    ],
)
def test_what_names_no_cell_is_refused_with_what_there_is(desk, path, said) -> None:
    with pytest.raises(SpecError) as refused:
        found(desk, path)
    assert str(refused.value).startswith(said)


def test_the_path_of_each_cell_leads_back_to_it(desk) -> None:
    for name, spec in desk.sweep.tables.items():
        table = tabulate(spec, desk.sweep, desk.trials, {}, histories=lambda trial: ())
        every = iter(paths.every(table))
        for i in range(len(table.rows)):
            for j in range(len(table.columns)):
                path = next(every)
                assert paths.table_of(path, desk.sweep.tables) == name
                assert paths.find(paths.split(path)[1:], table) == (i, j), path


# ---- the number


def test_a_number_is_said_with_each_run_behind_it(desk) -> None:
    desk.fill("VAE")
    said = desk.json("main/VAE/W.O./nll")
    assert said["path"] == "main/VAE/W.O./nll"
    assert (said["printed"], said["mean"], said["sd"]) == ("11.0 ± 1.0", 11.0, 1.0)
    assert (said["n"], said["points"], said["state"]) == (3, 3, "value")
    assert said["column"] == {"at": {"kl": "W.O."}, "metric": "nll", "kind": "value"}
    assert (said["paper"], said["difference"], said["paper_source"]) == (9.5, 1.5, "The Paper")
    assert [run["value"] for run in said["runs"]] == [10.0, 11.0, 12.0]
    expected = [desk.trial("VAE", "W.O.", seed).id for seed in "012"]
    assert [run["trial"] for run in said["runs"]] == expected
    assert {run["updates"] for run in said["runs"]} == {20.0}
    assert [run["provenance"]["dirty"] for run in said["runs"]] == [False, True, False]
    assert said["missing"] == []

    text = desk.why("main/sequence vae/without/NLL")
    lines = text.splitlines()
    assert lines[0] == "main/VAE/W.O./nll"
    assert max(map(len, lines)) <= 100
    told = " ".join(text.split())
    assert "printed 11.0 ± 1.0" in told
    assert "is test/nll: mean ± sd over seed" in told
    assert "paper 9.5; ours minus paper +1.5 (The Paper)" in told
    rows = [line.split() for line in lines if expected[1] in line]
    assert rows == [
        ["1", "11", "20", "1.5", expected[1], "done", "cccccccccccc", "with", "changes"]
    ]
    assert f"each by code {code_digest(desk.trials[0].trainer)[:12]}, data dddddddddddd" in told


def test_a_scaled_value_is_said_as_the_table_shows_it(desk) -> None:
    desk.fill("VAE")
    said = desk.json("main/VAE/With/kl")
    assert (said["printed"], said["scale"], said["unit"]) == ("25.00% ± 0.00", 100, "%")
    assert [run["value"] for run in said["runs"]] == [25.0] * 3
    assert (said["paper"], said["difference"]) == (None, None)
    assert "times 100" in desk.why("main/VAE/With/kl")


def test_what_is_missing_is_named_with_the_line_that_fills_it(desk) -> None:
    desk.finish(desk.trial("VAE", "W.O.", "0"))
    desk.finish(desk.trial("VAE", "W.O.", "1"), "failed", error="ValueError: no")
    said = desk.json("main/VAE/W.O./nll")
    assert (said["printed"].partition(" ")[0], said["n"], said["points"]) == ("10.0", 1, 3)
    assert [run["state"] for run in said["runs"]] == ["done", "failed", "missing"]
    assert [run["value"] for run in said["runs"]] == [10.0, None, None]
    failed, missing, fill = said["missing"]
    assert failed.startswith(f"seed 1 ({desk.trial('VAE', 'W.O.', '1').id}) is failed: ValueError")
    assert "sweeper run toy.yaml --retry failed" in failed
    assert missing.endswith("is missing: nothing is recorded of it")
    assert fill == "sweeper run toy.yaml fills it"
    text = " ".join(desk.why("main/VAE/W.O./nll").split())
    assert "left out: 1 failed of 3 trials" in text
    assert fill in text
    empty = desk.json("main/LM/With/nll")
    assert (empty["printed"], empty["mean"], empty["n"]) == ("missing", None, 0)


def test_lines_about_trials_of_other_cells_are_left_out(desk) -> None:
    desk.fill("VAE")
    desk.finish(desk.trial("LM", "With", "2"), "diverged", error="nan")
    lost = desk.trial("LM", "With", "2").id
    assert lost in desk.type("table", "toy.yaml", "main")
    assert lost not in desk.why("main/VAE/With/nll")
    assert lost in desk.why("main/LM/With/nll")


def test_a_difference_is_said_with_both_sides_and_its_pairs(desk) -> None:
    desk.fill("VAE")
    said = desk.json("main/VAE/Δ/nll")
    assert said["column"]["kind"] == "delta"
    assert said["mean"] == pytest.approx((-1.0 - 0.5 - 1.5) / 3)
    assert [side["path"] for side in said["sides"]] == ["main/VAE/W.O./nll", "main/VAE/With/nll"]
    assert [side["mean"] for side in said["sides"]] == [11.0, 10.0]
    assert said["pairs"] == {
        "0": {"start": 10.0, "end": 9.0, "difference": -1.0},
        "1": {"start": 11.0, "end": 10.5, "difference": -0.5},
        "2": {"start": 12.0, "end": 10.5, "difference": -1.5},
    }
    # t = -1 / (0.5 / sqrt 3) = -3.4641 at 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2); the
    # other difference of the table is 0 at all seeds, p = 1, so Holm doubles this one.
    alone = 1 - 12**0.5 / 14**0.5
    assert said["p"] == pytest.approx(2 * alone, rel=1e-6)
    text = desk.why("main/VAE/delta/nll")
    assert "With minus W.O., seed by seed" in text
    assert "runs of main/VAE/W.O./nll" in text
    assert desk.trial("VAE", "With", "2").id in text


def test_a_ratio_and_published_numbers_say_what_they_are_made_of(desk) -> None:
    desk.fill("VAE")
    desk.fill("LM")
    ratio = desk.json("one/VAE/ratio")
    assert ratio["mean"] == 1.0
    assert [side["path"] for side in ratio["sides"]] == ["one/VAE/nll", "one/LM/nll"]
    paper = desk.json("one/VAE/paper")
    assert (paper["mean"], paper["state"], paper["paper_source"]) == (9.5, "quoted", "The Paper")
    assert paper["how"] == ["a published value, as data in the file; nothing here made it"]
    difference = desk.json("one/VAE/diff")
    assert (difference["mean"], difference["sides"][0]["mean"]) == (1.5, 11.0)


def test_a_number_at_equal_cost_is_read_from_the_way_there(desk) -> None:
    desk.fill("VAE")
    said = desk.json("early/VAE/W.O.")
    assert [run["value"] for run in said["runs"]] == [20.0, 21.0, 22.0]  # 10 more at 10 updates
    assert "every trial read at its last measurement at or before 10 updates" in said["how"]


def test_each_scoring_of_a_training_has_its_own_number_at_equal_cost(desk) -> None:
    text = SWEEP.replace('"toy_trainers:returns_one"}', '"toy_trainers:keeps", config: toy_config}')
    text = text.replace("{kl: 0}", "{evaluate.samples: 1}").replace(
        "{kl: 1}", "{evaluate.samples: 2}"
    )
    text = (
        text[: text.index("reported:")]
        + """\
tables:
  early: {rows: model, values: [nll], over: [seed, kl], at: {updates: 10}}
profiles: {quick: {}}
"""
    )
    Path("toy.yaml").write_text(text)
    desk.sweep = read("toy.yaml")
    desk.trials = expand(desk.sweep, None)
    desk.fill("VAE")
    runs = desk.json("early/VAE")["runs"]
    found = {(run["seed"], run["labels"]["kl"]): run["value"] for run in runs}
    assert found == {
        (seed, kl): nll + 10 for kl, three in NLL.items() for seed, nll in enumerate(three)
    }


def test_other_code_is_said_beside_the_value(desk) -> None:
    desk.fill("VAE")
    desk.finish(desk.trial("VAE", "With", "0"), provenance={"code_digest": "f" * 16})
    said = desk.json("main/VAE/With/nll")
    assert [run["state"] for run in said["runs"]] == ["stale", "done", "done"]
    assert said["runs"][0]["value"] == 9.0
    assert "made by code ffffffffffffffff" in said["runs"][0]["because"]
    assert "made by code that has changed since" in desk.why("main/VAE/With/nll")


def test_a_corrupt_record_is_no_number_and_says_which_file_it_is(desk) -> None:
    desk.fill("VAE")
    broken = desk.trial("VAE", "With", "0")
    path = Path(result_path(desk.folder.path(broken.id), broken.key))
    path.write_bytes(path.read_bytes().replace(b"9.0", b"1.0"))
    text = " ".join(desk.why("main/VAE/With/nll", code=6).split())
    assert "10.5 ± 0.0 (n=2)" in text
    assert f"seed 0 ({broken.id}) is corrupt:" in text
    assert path.name in text
    assert "9.0" not in text
    table = desk.type("table", "toy.yaml", "main", code=6)
    assert "10.5 ± 0.0 (n=2)" in table
    for seed in "12":
        other = desk.trial("VAE", "With", seed)
        path = Path(result_path(desk.folder.path(other.id), other.key))
        path.write_bytes(path.read_bytes()[:-9])
    table = desk.type("table", "toy.yaml", "main", code=6)
    (row,) = (line for line in table.splitlines() if line.startswith("Sequence VAE"))
    assert "corrupt" in row
    assert "11.0 ± 1.0" in row  # The rest is shown.
    assert f"runs/trials/{broken.id}/{path.name}" in table.replace("\n", "")
    for verb in ("plan", "status"):
        said = desk.type(verb, "toy.yaml", code=6)
        assert "3 corrupt" in said
        assert f"runs/trials/{broken.id}/" in said


# ---- the verb


def test_tables_and_trials_are_told_apart(desk) -> None:
    desk.fill("VAE")
    id = desk.trial("VAE", "With", "0").id
    assert desk.why(id[:12]).startswith(f"trial {id}")
    assert desk.why("model=Max/Pool kl=With seed=0").startswith("trial ")
    assert "unknown table 'mian'; did you mean 'main'?" in desk.why("mian/VAE", code=2)
    assert "is a number of a table" in desk.why("main/VAE/With/nll", id, code=2)


def test_numbers_are_completed(desk) -> None:
    from click.shell_completion import ShellComplete

    def offered(begun: str) -> list[str]:
        shell = ShellComplete(main, {}, "sweeper", "_SWEEPER_COMPLETE")
        found = shell.get_completions(["why", "toy.yaml"], begun)
        return [item.value for item in found]

    assert offered("ma") == ["main/"]
    assert offered("main/VAE/W") == [f"main/VAE/{k}/{v}" for k in NLL for v in ("nll", "kl")]
    assert offered("main/'M")[0] == "main/'Max/Pool'/W.O./nll"
    assert offered("nowhere/") == []
