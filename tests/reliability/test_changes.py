"""What changes between a run and the next: packages, the device, code; a seed or a configuration
that stands twice. It is said before anything starts and under each table; --strict refuses."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweeper import provenance, run, worker
from sweeper.circumstances import unlike, unlike_here
from sweeper.cli import main
from sweeper.errors import SpecError
from sweeper.run import Place
from sweeper.spec import parse, read
from sweeper.track.sealed import seal, unseal
from sweeper.trial import Trial

TOYS = Path(__file__).parents[1] / "sweeper"
SWEEP = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
base: {steps: 2}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1, 2]
metrics: {loss: {from: loss, goal: min}}
profiles: {quick: {}}
tables: {losses: {rows: level, values: [loss], over: seed}}
"""
HERE = {
    "python": platform.python_version(),
    "torch": importlib.metadata.version("torch"),
    "numpy": importlib.metadata.version("numpy"),
    "device": "cpu",
}
OTHER = {
    "python": ("with Python", "3.10.2"),
    "torch": ("with torch", "1.13.1"),
    "numpy": ("with numpy", "1.26.4"),
    "device": ("on", "cuda: NVIDIA A100"),
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Trial]]:
    """Runs the first trials of the sweep, here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    (tmp_path / "s.yaml").write_text(SWEEP)
    place = Place(store=tmp_path / "runs")

    def first(count: int) -> list[Trial]:
        trials = run.look(read(Path("s.yaml")), place).todo[:count]
        for trial in trials:
            assert worker.execute(trial, worker.Surroundings(store=place.store)).state == "done"
        return list(trials)

    return first


def rewrite(trial: Trial, what: str, value: str) -> None:
    """As if the trial had been run with something else."""
    (path,) = Path("runs/trials", trial.id).glob("result-*.json")
    fields = unseal(path.read_bytes().rstrip())
    stamp: dict[str, Any] = fields["provenance"]
    if what in ("torch", "numpy"):
        stamp["packages"][what] = value
    elif what == "code":
        stamp["code_digest"], stamp["code_digests"] = value, [value]
    else:
        stamp[what] = value
    path.write_bytes(seal(fields) + b"\n")


def sweeper(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*words, "s.yaml"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "what",
    [
        *(pytest.param(it, marks=pytest.mark.fault("C5")) for it in ("python", "torch", "numpy")),
        pytest.param("device", marks=pytest.mark.fault("C6")),
    ],
)
def test_some_made_with_another(what: str, made: Callable, tmp_path: Path) -> None:
    how, other = OTHER[what]
    trials = made(4)
    for trial in trials[:1]:
        rewrite(trial, what, other)
    mixed = f"made {how} {', '.join(sorted([f'{other} (1)', f'{HERE[what]} (3)']))}"
    code, said = sweeper("plan")
    assert code == 0, said
    assert f"1 of 4 was made {how} {other}, this is {HERE[what]}\n" in said
    for style in ("terminal", "md", "html", "csv"):
        code, said = sweeper("table", "--format", style)
        assert code == 0, said
        # A line may be broken anywhere, and a page says × for its own reasons.
        assert style == "csv" or squeezed(mixed) in squeezed(said), said
    for verb in ("table", "report"):
        assert sweeper(verb)[0] == 0
        code, said = sweeper(verb, "--strict")
        assert (code, said) == (3, f"--strict: {mixed}\n")
    before = sorted(tmp_path.glob("runs/trials/*"))
    code, said = sweeper("run", "--dispatch", "inline", "--strict")
    assert code == 3, said
    assert said.splitlines() == [
        f"--strict: {mixed}",
        f"--strict: 1 of 4 was made {how} {other}, this is {HERE[what]}",
    ]
    assert sorted(tmp_path.glob("runs/trials/*")) == before


@pytest.mark.fault("C5")
def test_all_made_with_another(made: Callable) -> None:
    """They are alike, and what is left would not be."""
    for trial in made(4):
        rewrite(trial, "torch", "1.13.1")
    said_of = f"4 of 4 were made with torch 1.13.1, this is {HERE['torch']}"
    assert said_of in sweeper("plan")[1]
    code, said = sweeper("table", "--strict", "--format", "md")
    assert code == 0, said
    assert "made with" not in said
    assert sweeper("run", "--dispatch", "inline", "--strict") == (3, f"--strict: {said_of}\n")


def test_nothing_is_said_where_all_is_alike(made: Callable) -> None:
    made(6)
    code, said = sweeper("plan")
    assert code == 0
    assert "made with" not in said
    assert sweeper("table", "--strict", "--format", "md") == sweeper("table", "--format", "md")
    assert "made with" not in sweeper("table")[1]
    assert sweeper("report", "--strict")[0] == 0


@pytest.mark.fault("C3")
def test_what_other_code_made(made: Callable) -> None:
    trials = made(4)
    for trial in trials[:2]:
        rewrite(trial, "code", "0" * 16)
    refused = "--strict: 2 of 4 were made by other code than that of now\n"
    assert "2 stale" in sweeper("plan")[1]
    code, said = sweeper("table", "--format", "md")
    assert code == 0, said
    assert "(2 stale)" in said
    assert "code 000000000000," in said
    for words in (["table"], ["report"], ["run", "--dispatch", "inline"]):
        assert sweeper(*words, "--strict") == (3, refused)
    # What is to be made anew does not stand.
    sweep, place = read(Path("s.yaml")), Place(store=Path("runs").absolute())
    run.refuse_unlike(sweep, run.look(sweep, place, ["stale"]), to_run=True)


@pytest.mark.slow
@pytest.mark.fault("C3", "C5")
def test_a_strict_run_of_what_is_alike_goes_on(made: Callable) -> None:
    made(2)
    code, said = sweeper("run", "--dispatch", "inline", "--strict")
    assert code == 0, said
    assert sweeper("table", "--strict")[0] == 0


def test_counts_and_order_of_what_is_said() -> None:
    stamps = [
        {"python": "3.11", "packages": {"torch": torch, "numpy": "2"}, "device": device}
        for torch, device, count in (("2.12.0", "cpu", 2), ("2.13.0", "cuda: X", 3))
        for _ in range(count)
    ]
    assert unlike(stamps) == [
        "made with torch 2.12.0 (2), 2.13.0 (3)",
        "made on cpu (2), cuda: X (3)",
    ]
    assert unlike(stamps[:2]) == unlike([]) == unlike([{}]) == []
    here = {"python": "3.11", "packages": {"torch": "2.14.0"}, "device": "cuda: X"}
    assert unlike_here(stamps, here) == [
        "5 of 5 were made with torch 2.12.0, 2.13.0, this is 2.14.0",
        "2 of 5 were made on cpu, this is cuda: X",
    ]
    assert unlike_here(stamps, {}) == unlike_here([], here) == []


def test_a_slice_of_a_gpu_is_that_gpu() -> None:
    stamps = [{"device": "cuda: NVIDIA H200 MIG 1g.18gb"}]
    assert unlike_here(stamps, {"device": "cuda: NVIDIA H200"}) == []
    assert unlike_here(stamps, {"device": "cuda: NVIDIA H100"})


def test_a_gpu_as_its_driver_names_it(tmp_path: Path) -> None:
    there = tmp_path / "0000:1a:00.0"
    there.mkdir()
    (there / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 18\n")
    assert provenance.gpu_model(tmp_path) == "NVIDIA H200"
    assert provenance.gpu_model(tmp_path / "gone") is None


@pytest.mark.fault("C7")
def test_a_seed_twice_is_refused_and_a_configuration_twice_is_told(made: Callable) -> None:
    text = SWEEP.replace("[0, 1, 2]", "[0, 1, 0]")
    with pytest.raises(SpecError, match=r"s\.yaml:6:16: 0 is in axis 'seed' twice"):
        parse(text, "s.yaml")
    Path("s.yaml").write_text(SWEEP.replace("high: {level: 2.0}", "high: {level: 1}"))
    code, said = sweeper("plan")
    assert code == 0, said
    assert "3 trials (3 points share one with another)" in said
    assert "one trial: level=low, level=high" in said


def squeezed(text: str) -> str:
    return "".join(text.split())
