"""What a verb tells a person to type next is a line that can be typed, and what is to be refused
is refused before anything is trained."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

from sweeper import run
from sweeper.cli import frame, main
from sweeper.cli.words import again, undelivered
from sweeper.spec import read

ROOT = Path(__file__).parents[2]
SECONDS = 240.0

# Breaks as a file beside it says, and counts its calls there.
TRAINER = """\
from pathlib import Path

HERE = Path(__file__).parent

def train(config, run):
    with open(HERE / "calls", "a") as calls:
        calls.write(f"{run.seed}\\n")
    if (HERE / "broken").exists():
        raise ValueError("there is no layer")
    loss = (config["x"] - 1) ** 2
    if not run.score_only:
        yield {"cost/updates": 1, "loss": loss}
    yield {"cost/updates": 2, "loss": loss}

train_a = train_b = train_c = train_d = train
"""
SWEEP = """\
name: toy
trainer: {function: "toy_advice:train"}
base: {x: 1}
axes: {seed: [%s]}
metrics: {loss: {from: loss, goal: min}}
profiles: {quick: {}}
tables: {losses: {rows: seed, values: [loss]}}
"""
CONFIG = """\
EVALUATION = ("evaluate",)

def effective(config):
    return {"evaluate": {"samples": 1}, **config}
"""
SEARCH = """\
name: toy
trainer: {function: "toy_advice:train"}
base: {x: 0.0, word: %s, seed: 0}
axes: {dataset: [A]}
metrics: {loss: {from: loss, goal: min}}
profiles: {quick: {}}
search:
  for_each: [dataset]
  sampler: {name: RandomSampler, seed: 1}
  trials: %d
  objectives: [{metric: loss, goal: min}]
  space: {x: {float: [-5, 5]}}
  promote: {seeds: [0]}
tables:
  toy:
    rows: {from: search, order_by: cost/updates}
    columns: [dataset]
    values: [loss]
    over: seed
"""


class Desk:
    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "toy_advice.py").write_text(TRAINER)
        (folder / "toy_advice_config.py").write_text(CONFIG)

    def write(self, text: str) -> None:
        (self.folder / "toy.yaml").write_text(text)

    def mark(self, name: str) -> Path:
        (self.folder / name).touch()
        return self.folder / name

    @property
    def calls(self) -> int:
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def start(self, verb: str, *more: str) -> subprocess.Popen[str]:
        keep = ("PATH", "LANG", "LC_ALL")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        return subprocess.Popen(
            [sys.executable, "-m", "sweeper", verb, "toy.yaml", "--dispatch", "inline", *more],
            cwd=self.folder,
            env={**environment, "HOME": str(self.folder), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, verb: str, *more: str, code: int = 0) -> str:
        out, err = (process := self.start(verb, *more)).communicate(timeout=SECONDS)
        assert "Traceback" not in out + err, out + err
        assert process.returncode == code, out + err
        return err


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The address of a server that is not there: bound, so that nobody else comes to be."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


# ---- lines that can be typed


def suggested() -> list[str]:
    """The verbs that are ever named in advice."""
    texts = (path.read_text() for path in sorted((ROOT / "sweeper/cli").glob("*.py")))
    quoted = re.findall(r"""\bagain\(["'](\w+)["']""", "\n".join(texts))
    return sorted(set(quoted))


GIVEN = (
    ("--profile", "paper"),
    ("--set", "base.x=2"),
    ("--store", "there"),
    ("--data", "corpora"),
    ("--tracking", "http://127.0.0.1:9"),
    ("--mirror", "memory://there"),
    ("--mirror-every", "3.0"),
)


def test_all_verbs_of_advice_are_looked_at():
    assert {"run", "status", "stop", "logs", "sync", "plan", "claims"} <= set(suggested())


@pytest.mark.parametrize("verb", suggested())
def test_a_verb_is_suggested_with_options_that_it_has(verb):
    opened = SimpleNamespace(sweep=SimpleNamespace(source="toy.yaml"), given=GIVEN)
    sweeper, named, *words = again(verb, opened).split()
    assert (sweeper, named) == ("sweeper", verb)
    with main.commands[verb].make_context(verb, [*words]) as context:
        read = context.params
    assert read["file"] == "toy.yaml"
    assert (read["profile"], str(read["store"])) == ("paper", "there")
    assert ("--mirror" in words) == (verb in ("run", "eval", "plan", "sync"))


def test_what_was_given_is_kept_by_option(tmp_path, monkeypatch):
    seen: list[frame.Opened] = []

    @click.command()
    @frame.mirror_options
    @frame.sweep_options
    def look(opened: frame.Opened) -> None:
        seen.append(opened)

    desk = Desk(tmp_path)
    desk.write(SWEEP % "0")
    monkeypatch.chdir(tmp_path)
    said: Result = CliRunner().invoke(
        look, ["toy.yaml", "--store", "there", "--mirror", f"file://{tmp_path}/copies"]
    )
    assert said.exit_code == 0, said.output
    assert seen[0].given == (("--store", "there"), ("--mirror", f"file://{tmp_path}/copies"))


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 delivery to MLflow is still"), (1200, "1,200 deliveries to MLflow are still")],
)
def test_deliveries_are_counted_in_words(count, said):
    courier = SimpleNamespace(undelivered=count, problem="it is slow")
    assert undelivered(courier) == f"{said} to be made: it is slow"


def test_who_joins_a_plan_probes(desk):
    desk.write(SWEEP % "0")
    assert "--join says beside what --probe trains" in desk.type("plan", "--join", code=2)


# ---- the first that fail alike


@pytest.mark.slow
@pytest.mark.fault("A12")
def test_what_cannot_be_scored_is_scored_by_the_same_line(desk):
    known = SWEEP.replace('train"}', 'train", config: toy_advice_config}')
    desk.write(known % "0, 1, 2, 3")
    desk.type("run")
    scored = ("--set", "evaluate.samples=7")
    broken = desk.mark("broken")
    said = desk.type("eval", *scored, code=1)
    assert "1 was not started. Once it is mended, the same line scores them all; --keep" in said
    assert "--retry" not in said
    broken.unlink()
    assert "4 to score" in desk.type("eval", *scored)


@pytest.mark.slow
@pytest.mark.fault("A12")
def test_three_probes_that_were_all_are_not_hopeless(desk):
    # Nothing that one trainer takes is known of another.
    levels = [f'{it}: {{trainer: {{function: "toy_advice:train_{it}"}}}}' for it in "abcd"]
    text = SWEEP.replace("{seed: [%s]}", "{size: {%s}, seed: [0]}")
    text = text.replace("rows: seed, values: [loss]", "rows: size, values: [loss], over: seed")
    desk.mark("broken")
    desk.write(text % ", ".join(levels[:3]))
    three = desk.type("plan", "--probe", "--store", "three", code=1)
    assert "probing 3 of 3" in three
    assert "the first 3 trials all failed" not in three
    desk.write(text % ", ".join(levels))
    four = desk.type("plan", "--probe", "--store", "four", code=1)
    assert four.splitlines()[-1].endswith(
        "1 was not started. Once it is mended, the same line with --retry failed probes them all"
    )
    (desk.folder / "broken").unlink()
    mended = desk.type("plan", "--probe", "--store", "four", "--retry", "failed")
    assert "probing 4 of 4" in mended


@pytest.mark.slow
@pytest.mark.fault("A12")
def test_a_search_that_came_to_something_is_not_given_up_for_three_that_fail(desk):
    desk.write(SEARCH % ("hello", 3))
    desk.type("run")
    made = desk.calls
    desk.write(SEARCH % ("hello", 8))
    desk.mark("broken")
    said = desk.type("run")
    assert "the first 3 trials all failed" not in said
    assert desk.calls >= made + 5
    # One of which nothing is known is.
    desk.write(SEARCH % ("other", 8))
    said = desk.type("run", "--store", "fresh", code=1)
    assert "the same line with --retry failed goes on; --keep-going goes on all the same" in said


# ---- refused before anything is trained


@pytest.mark.slow
def test_a_search_asks_for_its_variables_before_it_trains(desk):
    desk.write(SEARCH % ("env:TOY_ADVICE_WORD", 3))
    said = desk.type("run", code=3)
    assert "env:TOY_ADVICE_WORD: the variable TOY_ADVICE_WORD is not set" in said
    assert desk.calls == 0


@pytest.mark.slow
def test_a_strict_search_goes_on_only_beside_its_like(desk):
    desk.write(SEARCH % ("hello", 2))
    desk.type("run", "--strict")
    made = desk.calls
    (desk.folder / "toy_advice.py").write_text(TRAINER.replace("** 2", "** 4"))
    desk.write(SEARCH % ("hello", 4))
    said = desk.type("run", "--strict", code=3)
    assert "made by other code than that of now" in said
    assert desk.calls == made


@pytest.mark.slow
def test_a_run_that_trains_nothing_has_no_use_for_a_server(desk, nowhere):
    desk.write(SWEEP % "0, 1")
    desk.type("run")
    said = desk.type("run", "--tracking", nowhere)
    assert "deliveries to MLflow are still to be made" in said
    desk.write(SWEEP % "0, 1, 2")
    said = desk.type("run", "--tracking", nowhere, code=3)
    assert "--offline starts without it" in said
    assert desk.calls == 2


@pytest.mark.slow
def test_a_run_that_is_refused_leaves_the_last_design(desk):
    """Which `plan` compares with, and which is that of the run beside it."""
    desk.write(SWEEP % "0, 1")
    desk.type("run")
    designs = (desk.folder / "runs/sweeps").glob("*.json")
    before = {path: path.read_bytes() for path in designs}
    assert before
    desk.write(SWEEP % "0, 1, 2")
    sweep = read(str(desk.folder / "toy.yaml"))
    place = run.Place(store=desk.folder / "runs")
    with run.owning(sweep, place, lambda by: None):
        said = desk.type("run", "--tracking", f"sqlite:///{desk.folder}/theirs.db", code=3)
    assert "is being run by" in said
    assert {
        path: path.read_bytes() for path in (desk.folder / "runs/sweeps").glob("*.json")
    } == before


# Of two machines of a cluster: what the second makes leaves the first's as if of another numpy.
UNLIKE = """\
from pathlib import Path

from sweeper.track.sealed import seal, unseal

def train(config, run):
    yield {"cost/updates": 1, "loss": 1.0}
    for path in Path("runs/trials").glob("*/result-*.json"):
        fields = unseal(path.read_bytes().rstrip())
        fields["provenance"]["packages"]["numpy"] = "1.2.3"
        path.write_bytes(seal(fields) + b"\\n")
    yield {"cost/updates": 2, "loss": 1.0}
"""


@pytest.mark.slow
@pytest.mark.fault("C5")
def test_strict_asks_again_once_all_is_made(desk):
    (desk.folder / "toy_advice.py").write_text(UNLIKE)
    desk.write(SWEEP % "0, 1")
    assert "--strict: made with numpy 1.2.3 (1), " in desk.type("run", "--strict", code=3)


@pytest.mark.parametrize(
    ("state", "trains"),
    [("missing", True), ("failed", True), ("stale", True), ("unscored", False), ("running", False)],
)
def test_what_is_only_scored_or_waited_for_is_not_trained(state, trains):
    plan = SimpleNamespace(todo=[SimpleNamespace(key="a")], states={"a": state})
    assert run.trains(plan) is trains
