"""What a trial is and why it is in its state, and in what two differ, from toy trainers whose
configurations are small enough to be written down by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweeper.cli import main
from sweeper.design import expand
from sweeper.differences import ABSENT, Difference, differences, dropped, explained, nearest
from sweeper.errors import Mark
from sweeper.record import Record
from sweeper.spec import read
from sweeper.spec.sweep import Setting
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings, execute

TOYS = Path(__file__).parent

SWEEP = """\
name: toy
trainer: {function: "toy_trainers:keeps", config: toy_config}
base: {evaluate.samples: 1, kl.start: 0.5}
axes:
  model:
    VAE: {}
    Max Pool: {pooling: max}
    LM: {model: lm, pooling: avg}
    Same: {model: lm, pooling: max}
  seed: [0, 1]
metrics:
  score: {from: score}
profiles: {quick: {}}
"""


def toy(seed: int = 0, function: str = "a:b", data: str | None = "d", **config: object) -> Trial:
    samples = config.pop("samples", 1)
    return Trial(
        trainer=TrainerRef(function=function),
        config=config,
        evaluation={"evaluate": {"samples": samples}},
        seed=seed,
        data_digest=data,
    )


# ---- differences


def test_a_difference_is_said_key_by_key() -> None:
    one = toy(kl={"start": 0.0, "epochs": 10}, pooling="max", lr=1)
    two = toy(seed=1, kl={"start": 0.1, "epochs": 10.0}, lr=True, samples=5)
    assert differences(one, two) == (
        Difference(part="configuration", key="kl.start", one=0.0, other=0.1),
        Difference(part="configuration", key="pooling", one="max", other=ABSENT),
        Difference(part="configuration", key="lr", one=1, other=True),
        Difference(part="seed", key="seed", one=0, other=1),
        Difference(part="evaluation", key="evaluate.samples", one=1, other=5),
    )
    assert differences(toy(function="a:b"), toy(function="a:c", data=None)) == (
        Difference(part="trainer", key="trainer", one="a:b", other="a:c"),
        Difference(part="data", key="data digest", one="d", other=ABSENT),
    )


def test_no_difference_is_one_identity_and_one_difference_is_two() -> None:
    one, two = toy(x=[1, 2.0], y={"z": 1}), toy(x=(1.0, 2), y={"z": 1.0})
    assert (one.key == two.key, differences(one, two)) == (True, ())
    for other in (toy(x=[2, 1], y={"z": 1}), toy(x=[1, 2], y={"z": True}), toy(x=[1, 2], y={})):
        assert other.id != one.id
        assert differences(one, other) != ()
    null, without = toy(x=None), toy()
    assert null.id != without.id
    (found,) = differences(null, without)
    assert found.as_json() == {"part": "configuration", "key": "x", "one": None}


def test_the_nearest_differs_in_the_fewest_keys_of_training() -> None:
    here = toy(a=1, b=2, c=3)
    far, near, scored = (
        toy(a=1, b=0, c=0),
        toy(seed=9, a=1, b=2, c=3),
        toy(a=0, b=2, c=3, samples=7),
    )
    assert nearest(here, [far, near, scored]) == [near, scored, far]
    # Another seed of the configuration before another configuration with this seed, as costs
    # are estimated by; and another trainer's last, however alike it is configured.
    both = toy(seed=9, a=0, b=2, c=3)
    foreign = replace(here, trainer=TrainerRef(function="other:train"))
    assert nearest(here, [foreign, both, scored, near]) == [near, scored, both, foreign]


def test_who_says_each_value() -> None:
    settings = {
        "kl.start": Setting(value=0.5, mark=Mark("s.yaml", 3, 9)),
        "size": Setting(value=4, mark=Mark("s.yaml", 5, 1)),
        "lr": Setting(value="1e-1"),
        "pooling": Setting(value="max", mark=Mark("s.yaml", 8, 1)),
        "seed": Setting(value=3, mark=Mark("s.yaml", 9, 1)),
    }
    config = {"kl": {"start": 0.5, "epochs": 10}, "size": {"encoder": 4}, "lr": 0.1}
    told = [(v.key, v.value, v.place, v.written) for v in explained(config, settings)]
    assert told == [
        ("kl.start", 0.5, "s.yaml:3", ABSENT),
        ("kl.epochs", 10, "default", ABSENT),
        ("size.encoder", 4, "s.yaml:5", ABSENT),
        ("lr", 0.1, "--set", "1e-1"),
    ]
    (gone,) = dropped(config, settings)
    assert (gone.key, gone.value, gone.place) == ("pooling", "max", "s.yaml:8")


# ---- the verb


class Desk:
    """A folder with a sweep file in it, where verbs are typed and trials executed."""

    def __init__(self, folder: Path):
        self.folder, self.store = folder, Folder(folder / "runs")
        (folder / "toy.yaml").write_text(SWEEP)

    def trials(self, *overrides: str) -> dict[str, Trial]:
        found = expand(read("toy.yaml", overrides=overrides), None)
        return {" ".join(trial.labels.values()): trial for trial in found}

    def execute(self, label: str, *overrides: str) -> Record:
        return execute(self.trials(*overrides)[label], Surroundings(store=self.store.root))

    def type(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.output

    def why(self, *arguments: str) -> str:
        return self.type("why", "toy.yaml", *arguments)

    def json(self, *arguments: str) -> dict:
        return json.loads(self.why(*arguments, "--json"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.delenv("SWEEPER_STORE", raising=False)
    return Desk(tmp_path)


def test_a_trial_that_is_missing_and_the_one_nearest_to_it(desk: Desk) -> None:
    desk.execute("LM 1")
    desk.execute("Max Pool 1")
    trial, near = desk.trials()["Max Pool 0"], desk.trials()["Max Pool 1"]
    assert desk.why("model=Max Pool seed=0", "--set", "lr=1").splitlines() == [
        f"trial {trial.id}",
        "  labels   model=Max Pool seed=0",
        "  state    missing: nothing is recorded of it",
        "  trainer  toy_trainers:keeps",
        "  seed     0  toy.yaml:10",
        "  data     digest of toy",
        "  configuration",
        "    data          toy    default",
        "    limits.train  null   default",
        "    model         plain  default",
        "    pooling       max    toy.yaml:7",
        "    lr            1      --set",
        "    kl.start      0.5    toy.yaml:3",
        "    kl.epochs     10     default",
        f"  evaluation {trial.evaluation_id}",
        "    evaluate.samples  1  toy.yaml:3",
        f"  nearest that has a result: {near.id}  model=Max Pool seed=1",
        "          here  there",
        "    seed  0     1",
    ]
    told = desk.json(trial.id)
    assert (told["id"], told["state"], told["nearest"]["id"]) == (trial.id, "missing", near.id)
    assert told["nearest"]["differences"] == [{"part": "seed", "key": "seed", "one": 0, "other": 1}]
    assert {"key": "pooling", "value": "max", "place": "toy.yaml:7"} in told["configuration"]


def test_what_was_written_and_changes_nothing(desk: Desk) -> None:
    """LM and Same are one trial: the toy's configuration drops pooling under a model `lm`."""
    told = desk.why("model=LM seed=0")
    assert "  labels   model=LM seed=0\n  labels   model=Same seed=0\n" in told
    said = "  written, and dropped since it changes nothing here\n    pooling  avg  toy.yaml:8\n"
    assert said in told
    assert "no other trial in the store has a result" in told
    trial = desk.trials()["LM 0"]
    pair = ("model=LM seed=0", "model=Same seed=0")
    assert desk.why(*pair).splitlines() == [
        "one trial",
        f"  one    {trial.id}  missing  model=LM seed=0",
        f"  other  {trial.id}  missing  model=Same seed=0",
        "  written differently, which changes nothing here",
        "           one  other",
        "  pooling  avg  max",
    ]
    assert (desk.json(*pair)["same"], desk.json(*pair)["differences"]) == (True, [])


def test_two_trials_key_by_key(desk: Desk) -> None:
    one, two = desk.trials()["LM 0"], desk.trials()["Max Pool 1"]
    assert desk.why("model=LM seed=0", two.id[:10]).splitlines() == [
        "not the same trial: 3 keys of their training",
        f"  one    {one.id}  missing  model=LM seed=0",
        f"  other  {two.id}  missing  model=Max Pool seed=1",
        "           one     other",
        "  model    lm      plain",
        "  pooling  absent  max",
        "  seed     0       1",
    ]
    told = desk.json(one.id, two.id)
    assert (told["same"], told["same_training"]) == (False, False)
    assert {"part": "configuration", "key": "pooling", "other": "max"} in told["differences"]


def test_one_training_scored_in_two_ways(desk: Desk) -> None:
    desk.execute("VAE 0", "evaluate.samples=7")
    (desk.folder / "toy.yaml").write_text(
        SWEEP.replace(
            "  seed: [0, 1]", "  samples: {S1: {}, S5: {evaluate.samples: 5}}\n  seed: [0]"
        )
    )
    pair = ("model=VAE samples=S1 seed=0", "model=VAE samples=S5 seed=0")
    told = desk.why(*pair)
    assert told.startswith("one trial, scored in two ways: 1 key of its evaluation\n")
    assert told.endswith("                    one  other\n  evaluate.samples  1    5\n")
    assert desk.json(*pair)["same_training"] is True
    alone = desk.why(pair[0])
    said = "state    unscored: trained, and scored with evaluate.samples 7 (here 1)\n"
    assert said in alone
    assert "  also     model=VAE samples=S5 seed=0: unscored\n" in alone


def ended(desk: Desk, label: str, state: str, code: str, error: str | None = None) -> Trial:
    trial = desk.trials()[label]
    attempt = desk.store.start(trial, code)
    attempt.finish(
        Record(
            trial_id=trial.id,
            evaluation_id=trial.evaluation_id,
            state=state,
            error=error,
            provenance={"code_digest": code},
        )
    )
    return trial


def test_why_a_trial_failed_or_is_stale_or_was_interrupted(desk: Desk) -> None:
    failed = ended(desk, "VAE 0", "failed", "c", "ValueError: no weights")
    told = " ".join(desk.why(failed.id[:8]).split())
    assert "state failed: ValueError: no weights; attempt 1 ended " in told
    assert f"its log is runs/trials/{failed.id}/log.txt" in told
    assert "sweeper run toy.yaml --retry failed runs it again" in told
    stale = ended(desk, "VAE 1", "done", "0123456789abcdef")
    told = " ".join(desk.why(stale.id).split())
    assert "state stale: made by code 0123456789abcdef, which is " in told
    assert "sweeper run toy.yaml --retry stale trains it anew" in told
    begun = desk.trials()["LM 0"]
    attempt = desk.store.start(begun)
    attempt.measure(1200, {"loss": 1.0})
    told = desk.json(begun.id)
    assert told["state"] == "running"
    attempt.abandon("stopped")
    told = desk.json(begun.id)
    assert told["state"] == "missing"
    assert told["because"].startswith("attempt 1 came to 1,200 updates and no result (stopped, ")


def test_a_trial_that_only_the_store_has(desk: Desk) -> None:
    done = desk.trials("lr=3")["VAE 0"]
    desk.execute("VAE 0", "lr=3")
    told = desk.why(done.id)
    assert "  labels   not in this file\n  state    done: attempt 1 ended " in told
    assert "    lr            3\n" in told
    here = desk.trials()["VAE 0"]
    assert "  lr  1.0  3\n" in desk.why(here.id, done.id)
    near = desk.json(here.id)["nearest"]
    assert (near["id"], near["labels"], near["elsewhere"]) == (done.id, [], None)


def test_a_trial_of_an_earlier_run_is_told_by_its_labels_there(desk: Desk) -> None:
    """The store keeps what a run's design was, so that a label that has gone is still known."""
    from sweeper import run

    trials = desk.trials()
    desk.execute("Max Pool 0")
    sweep = read("toy.yaml")
    place = run.Place(store=desk.store.root)
    run.remember(sweep, run.look(sweep, place), place)
    (desk.folder / "toy.yaml").write_text(SWEEP.replace("    Max Pool: {pooling: max}\n", ""))
    told = desk.why(trials["Max Pool 0"].id)
    assert "  labels   model=Max Pool seed=0 of toy (run 20" in told


REFUSED = {
    "nothing begins so": (
        ("zzz", "--set", "lr=2"),
        "'zzz': no trial of toy.yaml or of the store has an id that begins so; "
        "sweeper plan toy.yaml --set lr=2 lists ids",
    ),
    "several begin so": (("",), "'' begins several trials: "),
    "several are there": (("model=VAE",), "model=VAE names 2 trials:\n  "),
    "no such axis": (("modle=VAE",), "unknown axis 'modle'; did you mean 'model'?"),
    "no such level": (("model=MaxPool",), "did you mean 'Max Pool'?"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_what_names_no_trial_is_refused(desk: Desk, given: tuple[str, ...], said: str) -> None:
    assert said in desk.type("why", "toy.yaml", *given, code=2)


def test_a_trial_as_the_store_has_it_is_checked(desk: Desk) -> None:
    trial = desk.trials()["VAE 0"]
    desk.execute("VAE 0")
    assert desk.store.trial(trial.id) == replace(
        trial, labels={}, trainer=TrainerRef(function="toy_trainers:keeps")
    )
    path = desk.store.path(trial.id) / "trial.json"
    path.write_text(path.read_text().replace('"lr": 1.0', '"lr": 2.0'))
    desk.type("plan", "toy.yaml")
    other = desk.trials()["VAE 1"]
    assert "no other trial in the store has a result" in desk.why(other.id)


def test_long_values_stand_below_each_other(desk: Desk) -> None:
    long = ",".join(str(n) for n in range(40))
    told = desk.why("model=VAE seed=0", "model=LM seed=0", "--set", f"data={long}")
    assert all(len(line) <= 100 for line in told.splitlines())
    alone = desk.why("model=VAE seed=0", "--set", f"data={long}").splitlines()
    place = alone.index("    data")
    assert alone[place + 1 : place + 3] == [f"        {long}", "        --set"]
