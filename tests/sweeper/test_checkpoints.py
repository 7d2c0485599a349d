"""The bootstrap over what trials left numbers of, such as test sentences: what a file may say,
which numbers are paired, and what the table says of those that cannot be."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from sweeper import run
from sweeper.dispatch.inline import dispatch as inline
from sweeper.errors import CorruptRecord, SpecError
from sweeper.record import Record
from sweeper.render import RENDERERS
from sweeper.run import Place
from sweeper.spec import Resources, parse
from sweeper.spec.sweep import Checkpoints
from sweeper.tables import tabulate
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

HEAD = """\
name: t
trainer: a.b:c
axes: {model: {LM: {m: lm}, A: {m: a}, B: {m: b}}, seed: [0, 1, 2]}
metrics: {nll: {from: test/nll, goal: min, format: ".2f", scale: 2}}
profiles: {quick: {}}
tables:
"""  # the line after it is line 7
ASKED = (
    "{value: nll, against: A, artifact: 'sentences_{evaluate.samples}.npz', or: sentences.npz, "
    "array: nll, over: sentences, samples: 999}"
)


def sweep_of(checkpoints=ASKED, more=""):
    table = f"{{rows: model, values: nll, over: seed, checkpoints: {checkpoints}{more}}}"
    return parse(f"{HEAD}  t: {table}\n", "s.yaml")


def said(checkpoints, more=""):
    with pytest.raises(SpecError) as caught:
        sweep_of(checkpoints, more)
    return str(caught.value).partition(": ")[2]


# ---- what a file may say


def test_what_a_file_may_say():
    found = sweep_of().tables["t"].checkpoints
    assert found == Checkpoints(
        value="nll",
        against="A",
        artifact="sentences_{evaluate.samples}.npz",
        fallback="sentences.npz",
        array="nll",
        over="sentences",
        samples=999,
    )
    assert (found.alpha, found.correct, found.mark) == (0.05, "holm", "°")
    least = sweep_of("{value: nll, against: A, artifact: a/b.npz, array: nll}").tables["t"]
    assert (least.checkpoints.samples, least.checkpoints.over) == (10_000, "items")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{value: nll, against: A, array: nll}", "tables.t.checkpoints needs 'artifact'"),
        (
            ASKED.replace("against: A", "against: C"),
            "unknown row 'C' in tables.t.checkpoints; one of A, B, LM",
        ),
        (
            ASKED.replace("sentences.npz", "../sentences.npz"),
            "tables.t.checkpoints.or must be an .npz file among a trial's artifacts, such as "
            "sentences_{evaluate.samples}.npz, not '../sentences.npz'",
        ),
        (
            ASKED.replace("samples: 999", "samples: 10"),
            "tables.t.checkpoints.samples must be a whole number, 100 or more, not 10",
        ),
        (
            ASKED.replace("samples: 999", "samples: 10_000_000"),
            "tables.t.checkpoints.samples must be at most 1,000,000, not 10_000_000",
        ),
    ],
)
def test_what_is_refused(text, message):
    assert said(text) == message


def test_marks_that_mean_two_things_are_refused():
    more = ", significance: {value: nll, against: A}"
    assert "have the same mark, *" in said(ASKED.replace("samples: 999", "mark: '*'"), more)
    assert sweep_of(more=more).tables["t"].significance.mark == "*"


def test_what_is_read_at_a_cost_left_no_numbers():
    assert said(ASKED, ", at: {updates: min}") == (
        "tables.t.checkpoints is about what training ended with; tables.t is read at a cost"
    )


# ---- which numbers are paired

N = 60
TRAINER = TrainerRef(function="toy:train")


def npz(values) -> bytes:
    file = io.BytesIO()
    np.savez(file, nll=values)
    return file.getvalue()


class Made:
    """Nine trials, their records, and the file that each left. B is 1 better than A on every
    sentence but for noise, the LM is as good as A; all sentences have difficulties of their
    own. The LM has no samples."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.sweep = sweep_of()
        self.hard = rng.exponential(40, size=N)
        shift = {"LM": 0.0, "A": 0.0, "B": -1.0}
        self.trials, self.values, self.files = [], {}, {}
        for model in ("LM", "A", "B"):
            for seed in range(3):
                evaluation = {} if model == "LM" else {"evaluate": {"samples": 500}}
                trial = Trial(
                    trainer=TRAINER, config={"m": model}, evaluation=evaluation, seed=seed,
                    data_digest="d", labels={"model": model, "seed": str(seed)},
                )  # fmt: skip
                self.trials.append(trial)
                self.values[trial.id] = self.hard + shift[model] + rng.normal(0, 1, size=N)
                name = "sentences.npz" if model == "LM" else "sentences_500.npz"
                self.files[trial.id, name] = npz(self.values[trial.id])

    def of(self, model):
        return [trial for trial in self.trials if trial.labels["model"] == model]

    def left(self, trial, name):
        found = self.files.get((trial.id, name))
        if isinstance(found, Exception):
            raise found
        return found

    def table(self, **given):
        records = {
            trial.key: Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done",
                result={"test/nll": float(self.values[trial.id].mean())},
            )
            for trial in self.trials
        }
        given = {"artifacts": self.left, **given}
        return tabulate(self.sweep.tables["t"], self.sweep, self.trials, records, **given)


@pytest.fixture
def made():
    return Made()


def test_what_differs_sentence_by_sentence_is_marked(made):
    table = made.table()
    lm, a, b = (line[0] for line in table.cells)
    assert [cell.circle for cell in (lm, a, b)] == ["", "", "°"]
    assert (b.p_circle, a.p_circle) == (2 / 1000, None)  # 1 of 1,000, twice by Holm
    assert lm.p_circle > 0.05
    assert (b.star, b.p_star) == ("", None)
    assert table.mark_of(b) == "°"
    assert (
        "° these checkpoints: nll differs from that of A (paired bootstrap over 60 sentences, 999 "
        "resamples, Holm over 2 comparisons, α = 0.05); it says nothing about other seeds"
    ) in table.footer
    for style in ("md", "terminal", "html", "tex"):
        assert RENDERERS[style](table).count("°") + RENDERERS[style](table).count("circ") >= 2


def test_survivors_have_no_circle(made):
    failed = {made.of("B")[2].key: "failed"}
    table = made.table(states={trial.key: "done" for trial in made.trials} | failed)
    lm, _, b = (line[0] for line in table.cells)
    assert (b.n, b.circle, b.p_circle) == (2, "", None)
    assert b.untested == ("not tested: 2 of 3 trials",)
    assert lm.p_circle is not None
    said = "it says nothing about other seeds; not tested: 2 of 3 trials (1 of 2)"
    assert said in " ".join(table.footer)
    of_reference = {made.of("A")[0].key: "failed"}
    table = made.table(states={trial.key: "done" for trial in made.trials} | of_reference)
    assert [line[0].untested for line in table.cells] == [
        ("not tested: 2 of 3 trials of A",),
        (),
        ("not tested: 2 of 3 trials of A",),
    ]


def test_the_same_resamples_every_time_and_whatever_is_beside_them(made):
    first = [line[0].p_circle for line in made.table().cells]
    made.trials.reverse()
    assert [line[0].p_circle for line in made.table().cells] == first


def test_p_is_that_of_the_mean_over_seeds_of_each_sentence(made):
    """By a plain loop over resamples of its own: the same p but for what chance does."""
    difference = np.mean(
        [
            made.values[lm.id] - made.values[a.id]
            for lm, a in zip(made.of("LM"), made.of("A"), strict=True)
        ],
        axis=0,
    )
    rng = np.random.default_rng(7)
    observed = abs(difference.mean()) / difference.std()
    beyond = 0
    for _ in range(2000):
        some = difference[rng.integers(N, size=N)]
        beyond += abs(some.mean() - difference.mean()) / some.std() >= observed
    # Holm leaves the larger of two as it is.
    assert made.table().cells[0][0].p_circle == pytest.approx(beyond / 2000, abs=0.07)


def untested(table):
    return [line[0].untested for line in table.cells]


def lost(made, model, how):
    for trial in made.of(model):
        how(trial)


def test_a_file_that_is_not_there(made):
    lost(made, "B", lambda trial: made.files.pop((trial.id, "sentences_500.npz")))
    table = made.table()
    why = "not testable: no sentences_500.npz or sentences.npz"
    assert untested(table) == [(), (), (why,)]
    assert [line[0].circle for line in table.cells] == ["", "", ""]
    assert table.marks == {why: "†"}
    assert table.footer[1].endswith(f"other seeds; {why} (1 of 2)")


def test_the_numbers_of_another_evaluation_are_not_taken(made):
    """A file of 100 samples, left by an earlier scoring, and none of 500."""
    for trial in made.of("B"):
        content = made.files.pop((trial.id, "sentences_500.npz"))
        made.files[trial.id, "sentences_100.npz"] = content
    assert untested(made.table())[2] == ("not testable: no sentences_500.npz or sentences.npz",)


def test_numbers_whose_mean_is_not_the_value_are_not_those_of_the_trial(made):
    trial = made.of("B")[1]
    made.files[trial.id, "sentences_500.npz"] = npz(made.values[trial.id] + 0.5)
    assert untested(made.table())[2] == (
        "not testable: the mean of nll in sentences_500.npz is not the trial's nll",
    )


def test_single_precision_is_good_enough(made):
    trial = made.of("B")[1]
    made.files[trial.id, "sentences_500.npz"] = npz(made.values[trial.id].astype(np.float32))
    assert made.table().cells[2][0].circle == "°"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CorruptRecord("torn"), "sentences_500.npz is damaged"),
        (b"nonsense", "sentences_500.npz: it is no .npz file"),
        (npz(np.full(N, np.nan)), "sentences_500.npz: nll is not finite numbers throughout"),
        (npz(np.ones((N, 2))), "nll in sentences_500.npz is [60, 2], not [N]"),
    ],
)
def test_a_file_that_cannot_be_read(made, content, why):
    made.files[made.of("A")[0].id, "sentences_500.npz"] = content
    assert untested(made.table()) == [(f"not testable: {why}",), (), (f"not testable: {why}",)]


def test_other_sentences_are_not_paired(made):
    for trial in made.of("B"):
        made.values[trial.id] = made.values[trial.id][:-1]
        made.files[trial.id, "sentences_500.npz"] = npz(made.values[trial.id])
    assert untested(made.table())[2] == ("not testable: 59 and 60 sentences are not the same ones",)


def test_sentences_of_other_data_are_not_paired(made):
    moved = {}
    for trial in made.of("B"):
        moved[trial.id] = replace(trial, data_digest="other")
        other = moved[trial.id].id
        made.values[other] = made.values[trial.id]
        made.files[other, "sentences_500.npz"] = made.files[trial.id, "sentences_500.npz"]
    made.trials = [moved.get(trial.id, trial) for trial in made.trials]
    assert untested(made.table())[2] == ("not testable: sentences of different data",)


def test_too_few_sentences_are_no_sample(made):
    for trial in made.trials:
        made.values[trial.id] = made.values[trial.id][:19]
        name = "sentences.npz" if trial.labels["model"] == "LM" else "sentences_500.npz"
        made.files[trial.id, name] = npz(made.values[trial.id])
    table = made.table()
    why = "not testable: 19 sentences, at least 20 are needed"
    assert untested(table) == [(why,), (), (why,)]
    assert table.heading(table.columns[0]) == ("nll†",)  # of all cells: the column's
    assert table.footer[1] == f"° these checkpoints: nll differs from that of A; {why} (2 of 2)"


def test_the_same_difference_on_every_sentence_has_no_spread_to_be_tested_by(made):
    for a, b in zip(made.of("A"), made.of("B"), strict=True):
        made.values[b.id] = made.values[a.id] + 1
        made.files[b.id, "sentences_500.npz"] = npz(made.values[b.id])
    table = made.table()
    assert (table.cells[2][0].circle, table.cells[2][0].p_circle) == ("", None)
    assert untested(table)[2] == ("not testable: all differences are the same number",)


def test_without_files_there_is_no_mark_and_the_table_is_there(made):
    table = made.table(artifacts=None)
    assert [line[0].circle for line in table.cells] == ["", "", ""]
    assert "not testable: no sentences_500.npz" in table.footer[1]


# ---- from the store

TOY = """\
name: t
trainer: {function: sentences_toy:train}
axes: {model: {A: {shift: 0.0}, B: {shift: -1.0}}, seed: [0, 1]}
metrics: {nll: {from: test/nll, goal: min}}
profiles: {quick: {}}
tables:
  t:
    rows: model
    values: nll
    over: seed
    checkpoints: {value: nll, against: A, artifact: sentences.npz, array: nll, samples: 500}
"""
TRAIN = """\
import numpy as np

def train(config, run):
    rng = np.random.default_rng(run.seed)
    own = np.random.default_rng([run.seed, int(-config["shift"])])
    values = rng.exponential(40, size=50) + config["shift"] + own.normal(0, 0.5, size=50)
    (run.folder / "artifacts").mkdir(exist_ok=True)
    np.savez(run.folder / "artifacts" / "sentences.npz", nll=values)
    yield {"cost/updates": 1, "test/nll": float(values.mean())}
"""


def test_what_trials_left_in_the_store(tmp_path, monkeypatch):
    (tmp_path / "sentences_toy.py").write_text(TRAIN)
    monkeypatch.syspath_prepend(tmp_path)
    sweep, place = parse(TOY, "s.yaml"), Place(store=tmp_path / "runs")
    plan = run.look(sweep, place)
    surroundings = Surroundings(store=place.store)
    inline(plan.trials, surroundings, lambda record: None, resources=Resources())
    (table,) = run.tables(sweep, run.look(sweep, place), place)
    assert table.cells[1][0].circle == "°"
    assert "paired bootstrap over 50 items, 500 resamples" in table.footer[1]
