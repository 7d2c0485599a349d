"""Claims: what a file may say, what the records make of it, and how that is told."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy import stats as scipy_stats

from sweeper import run
from sweeper.claims import STATUSES, every, judge, truth
from sweeper.cli import main
from sweeper.dispatch.inline import dispatch as inline
from sweeper.errors import SpecError
from sweeper.record import Record
from sweeper.render.claims import CLAIM_RENDERERS
from sweeper.spec import Resources, parse, read
from sweeper.spec.expressions import claim
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

TOYS = Path(__file__).parent
SWEEPS = TOYS.parents[1] / "sweeps"

HEAD = """\
name: t
trainer: a.b:c
axes:
  dataset: {Yahoo: {data: yahoo}, Yelp: {data: yelp}}
  model: {LM: {m: lm}, Max: {m: max}, Avg: {m: avg}}
  kl: {W.O.: {kl.weight: 1.0}, With: {}}
  seed: [0, 1, 2]
metrics:
  nll: {from: test/nll_iw, or: test/nll_exact, goal: min, format: ".1f"}
  updates: {from: cost/updates, unit: k, scale: 0.001, format: ".0f"}
profiles: {quick: {}, small: {axes: {model: {only: [LM, Max]}}}, other: {axes: {kl: {Half: {}}}}}
claims:
"""  # the line after it is line 13


def sweep_of(claims, **options):
    return parse(f"{HEAD}  c: {claims}\n", "s.yaml", **options)


def said(claims, **options):
    with pytest.raises(SpecError) as caught:
        sweep_of(claims, **options)
    return str(caught.value)


# ---- what a file may say


def test_a_claim_with_everything():
    found = sweep_of(
        "{say: Max wins, test: 'nll[Max, With] < nll[LM, With]', each: dataset, alpha: 0.1}"
    ).claims["c"]
    assert (found.name, found.say, found.alpha) == ("c", "Max wins", 0.1)
    assert (found.each, found.pool, found.over) == (("dataset",), (), ("seed",))
    assert found.axis_of == {"Max": "model", "LM": "model", "With": "kl"}
    assert found.test == claim("nll[Max, With] < nll[LM, With]")
    assert found.mark.line == 13


def test_seeds_are_what_a_claim_pairs_over_unless_it_says_otherwise():
    def places(claims):
        found = sweep_of(claims).claims["c"]
        return found.each, found.pool, found.over

    test = "test: 'nll[Max, With] < 1'"
    assert places(f"{{{test}, pool: dataset}}") == ((), ("dataset",), ("seed",))
    assert places(f"{{{test}, over: [dataset, seed]}}") == ((), (), ("dataset", "seed"))
    assert places(f"{{{test}, each: [dataset, seed]}}") == (("dataset", "seed"), (), ())
    assert places("{test: 'nll[Max, With, 1] < 1', each: dataset, over: []}")[2] == ()
    bare = "{test: 'nll < 1', each: [dataset, model], pool: kl}"
    assert places(bare) == (("dataset", "model"), ("kl",), ("seed",))


def test_what_is_not_said_is_the_test_itself():
    found = sweep_of("{test: 'nll[Max, With] < 1', each: dataset}").claims["c"]
    assert (found.say, found.alpha) == ("nll[Max, With] < 1", 0.05)


@pytest.mark.parametrize("label", ["Avg", "Half"])
def test_a_level_of_another_profile_may_be_named_and_is_missing(label):
    at = "Avg, With" if label == "Avg" else "Max, Half"
    claims = f"{{test: 'nll[{at}] < nll[LM, With]', each: dataset}}"
    sweep = sweep_of(claims, profile="small")
    found = judged(sweep, lambda at: {"test/nll_iw": 80.0 + int(at["seed"])})
    assert [finding.status for finding in found.findings] == ["missing", "missing"]
    (compared,) = found.findings[0].comparisons
    lacking = [(lack.what, lack.state) for lack in compared.lacking]
    assert lacking == [(f"nll[{at}]", "not in this design")]


BAD = {
    "{}": "claims.c needs 'test'",
    "3": "claims.c must be a mapping, not 3",
    "{test: 'nll[Max, With] < 1', eahc: dataset}": (
        "unknown key 'eahc' in claims.c; did you mean 'each'? one of "
        "alike, alpha, each, over, pool, say, test"
    ),
    "{test: 'nll[Max, With] < 1', each: dataset, alpha: 1}": (
        "claims.c.alpha must be above 0 and below 1, not 1"
    ),
    "{test: 'nll[Max, With] < 1', each: datset}": (
        "unknown axis 'datset' in claims.c; did you mean 'dataset'? one of "
        "dataset, kl, model, seed"
    ),
    "{test: 'nll[Max, With] <', each: dataset}": (
        "claims.c: column 17: a metric, a number or '(' is expected, not the end"
    ),
    "{test: 'nl[Max, With] < 1', each: dataset}": (
        "claims.c: column 1: unknown metric 'nl'; did you mean 'nll'? one of nll, updates"
    ),
    "{test: 'nll[With, Mx] < 1', each: dataset}": (
        "claims.c: column 1: unknown label 'Mx' in nll[With, Mx]; did you mean 'Max'? one of "
        "0, 1, 2, Avg, Half, LM, Max, W.O., With, Yahoo, Yelp"
    ),
    "{test: 'nll[Max] < 1', each: dataset}": (
        "claims.c: column 1: nll[Max] does not say which level of axis 'kl': "
        "name one in the brackets, or put the axis in each, pool or over"
    ),
    "{test: 'nll[Max, With] < nll[Max]', each: dataset}": (
        "claims.c: column 18: nll[Max] does not say which level of axis 'kl': "
        "name one in the brackets, or put the axis in each, pool or over"
    ),
    "{test: 'nll[Max, With, LM] < 1', each: dataset}": (
        "claims.c: column 1: nll[Max, With, LM] is at two levels of axis 'model': 'Max' and 'LM'"
    ),
    "{test: 'nll[Max, With, Yelp] < 1', each: dataset}": (
        "claims.c: column 1: axis 'dataset' is in each, and nll[Max, With, Yelp] is at 'Yelp' "
        "of it: one or the other"
    ),
    "{test: 'nll[Max, With, 0] < 1', each: dataset}": (
        "claims.c: column 1: axis 'seed' is in over, and nll[Max, With, 0] is at '0' "
        "of it: one or the other"
    ),
    "{test: 'nll[Max, With] < 1', each: dataset, pool: [dataset]}": (
        "claims.c: axis 'dataset' is in each and in pool"
    ),
    "{test: 'nll[Max, With]', each: dataset}": (
        "claims.c: column 1: 'nll[Max, With]' compares nothing; write a < b, or a in 0.5..1.5"
    ),
    "{test: 'not nll[Max, With]', each: dataset}": (
        "claims.c: column 5: 'nll[Max, With]' compares nothing; write a < b, or a in 0.5..1.5"
    ),
    "{test: 'nll[Max, With] == 1', each: dataset}": (
        "claims.c: column 16: no test can support '=='; write < or >, or 'in' and a range"
    ),
    "{test: '(nll[Max, With] < 1) < 1', each: dataset}": (
        "claims.c: column 17: a metric or a number is expected, not 'nll[Max, With] < 1'"
    ),
    "{test: 'nll[Max, With] < true', each: dataset}": (
        "claims.c: column 18: a metric or a number is expected, not 'true'"
    ),
    "{test: \"nll[Max, With] < 'Max'\", each: dataset}": (
        'claims.c: column 18: a metric or a number is expected, not "\'Max\'"'
    ),
    "{test: '1 < 2', each: dataset}": (
        "claims.c: column 3: no metric in '1 < 2': there is nothing to test"
    ),
    "{test: '2 in 1..3', each: dataset}": (
        "claims.c: column 3: no metric in '2 in 1..3': there is nothing to test"
    ),
    "{test: 'nll[Max, With] < 1 / 0', each: dataset}": (
        "claims.c: column 20: 1 / 0 is no number"
    ),
    "{test: 'nll[Max, With] in 3..2', each: dataset}": (
        "claims.c: column 19: a range goes up, as 2.5..3.5 does; not 3..2"
    ),
    "{test: 'nll[Max, With] in 1..nll[LM, With]', each: dataset}": (
        "claims.c: column 19: a range goes from number to number; compare metrics with < and >"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_what_is_refused(text, message):
    place, _, words = said(text).partition(": ")
    assert words == message
    assert place.startswith("s.yaml:13:")


def test_a_fault_in_a_test_is_told_at_the_test_and_all_at_once():
    found = said("{test: 'nl[Max, With] < kll[Mx, With]', each: dataset}").splitlines()
    assert len(found) == 3
    assert all(line.startswith("s.yaml:13:13: claims.c: column ") for line in found)


@pytest.mark.parametrize("text", ["[a]", "3"])
def test_claims_are_a_mapping(text):
    with pytest.raises(SpecError, match=r"s\.yaml:12:9: claims must be a mapping, not"):
        parse(HEAD.rstrip("\n") + f" {text}\n", "s.yaml")


UNLIKE = """\
name: t
trainer: a.b:c
axes: {model: {A: {m: a}, B: {m: b}}, seed: [0, 1, 2]}
metrics:
  nll: {from: test/nll_iw, or: test/nll_exact, goal: min}
  bound: {from: test/nelbo, goal: min}
  whole: {from: test/nll_iw, format: ".0f"}
  bits: {from: test/nll_iw, scale: 1.4427}
  kl: {from: test/kl}
  updates: {from: cost/updates}
profiles: {quick: {}}
claims:
"""  # the line after it is line 13


@pytest.mark.parametrize(
    ("test", "column", "said", "named"),
    [
        ("nll[A] < bound[B]", 8, "nll[A] < bound[B]", "nll and bound"),
        ("nll[A] - bound[B] < 0", 19, "nll[A] - bound[B] < 0", "nll and bound"),
        ("nll[A] < 80 and nll[A] < bound[B]", 24, "nll[A] < bound[B]", "nll and bound"),
        ("nll[A] / bound[B] in 0.9..1.1", 19, "nll[A] / bound[B] in 0.9..1.1", "nll and bound"),
        ("nll[A] < bits[B]", 8, "nll[A] < bits[B]", "nll and bits"),
        ("nll[A] < nll[B] + kl[B]", 8, "nll[A] < nll[B] + kl[B]", "nll and kl"),
        (
            "nll[A] / updates[A] < nll[B]",
            21,
            "nll[A] / updates[A] < nll[B]",
            "nll and updates",
        ),
    ],
)
def test_unlike_metrics_are_not_compared(test, column, said, named):
    with pytest.raises(SpecError) as caught:
        parse(f"{UNLIKE}  c: {{test: '{test}'}}\n", "s.yaml")
    alike = named.replace(" and ", ", ")
    assert str(caught.value) == (
        f"s.yaml:13:13: claims.c: column {column}: '{said}' compares unlike metrics: {named}; "
        "compare a metric with itself, or say that this claim takes them for one kind: "
        f"alike: [{alike}]"
    )
    said_so = f"{UNLIKE}  c: {{test: '{test}', alike: [{alike}]}}\n"
    if "updates" not in test:
        assert parse(said_so, "s.yaml").claims["c"].test == claim(test)
    else:  # A quotient of two metrics of one kind is none of that kind.
        with pytest.raises(SpecError, match="unlike metrics"):
            parse(said_so, "s.yaml")


@pytest.mark.parametrize(
    "test",
    [
        "nll[A] < nll[B]",
        "nll[A] < nll[B] - 0.5",
        "-nll[A] < 2 * nll[B]",
        "nll[A] < whole[B]",  # read from the same, printed otherwise
        "updates[A] / updates[B] in 2.5..3.5",
        "nll[A] / updates[A] < nll[B] / updates[B]",
        "nll[A] - nll[B] > 0.5 and kl[A] > kl[B]",
        "nll[A] / nll[B] < kl[A] / kl[B]",
        "nll[A] / nll[B] - 1 < 0.1",
    ],
)
def test_what_is_of_one_kind_is_compared(test):
    assert parse(f"{UNLIKE}  c: {{test: '{test}'}}\n", "s.yaml").claims["c"].test == claim(test)


def test_a_label_of_two_axes_is_no_label():
    text = HEAD.replace("kl: {W.O.:", "kl: {Max: {kl.weight: 2.0}, W.O.:")
    line = "  c: {test: 'nll[Max, With] < 1', each: dataset}\n"
    with pytest.raises(SpecError) as caught:
        parse(text + line, "s.yaml")
    assert str(caught.value) == (
        "s.yaml:13:13: claims.c: column 1: label 'Max' is one of axis 'model' and of axis 'kl': "
        "rename one of them"
    )
    placed = "  c: {test: 'nll[Max] < 1', each: dataset, pool: kl}\n"  # kl has its place: model's
    assert parse(text + placed, "s.yaml").claims["c"].axis_of == {"Max": "model"}


def test_a_table_and_the_claims_cannot_have_one_file():
    table = "{rows: model, columns: [dataset, kl], values: nll, over: seed}"
    with pytest.raises(SpecError, match=r"s\.yaml:15:3: a table called 'Claims' and the claims"):
        parse(
            f"{HEAD}  c: {{test: 'nll[Max, With] < 1', each: dataset}}\n"
            f"tables:\n  Claims: {table}\n",
            "s.yaml",
        )


def test_claims_are_taken_from_another_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    line = "  c: {test: 'nll[Max, With] < 1', each: dataset}\n"
    (tmp_path / "first.yaml").write_text(HEAD + line + line.replace("  c:", "  d:"))
    (tmp_path / "second.yaml").write_text(
        "name: s\nimport: {from: first.yaml, take: [trainer, axes, metrics, profiles, claims.c]}\n"
        "claims: {c: {alpha: 0.01}, e: {test: 'nll[LM, With] > 1', pool: dataset}}\n"
    )
    found = read("second.yaml").claims
    assert list(found) == ["c", "e"]
    assert (found["c"].alpha, found["c"].each) == (0.01, ("dataset",))
    text = (tmp_path / "second.yaml").read_text()
    (tmp_path / "second.yaml").write_text(text.replace("claims.c]", "claims]"))
    assert list(read("second.yaml").claims) == ["c", "d", "e"]


TABLE1 = """
claims:
  pooling_helps:    {say: "MaxPool beats SeqVAE on NLL", test: "nll[MaxPool] < nll[SeqVAE]", each: dataset, alpha: 0.05}
  avgpool_weakest:  {say: "AvgPool gains least", test: "nll[AvgPool] > nll[AbsPool] and nll[AvgPool] > nll[MaxPool]", each: dataset}
  dropout_hurts:    {say: "word dropout raises both", test: "kl[WordDrop] > kl[SeqVAE] and nll[WordDrop] > nll[SeqVAE]", each: dataset}
  maxpool_cheap:    {say: "about three times", test: "updates[Aggressive] / updates[MaxPool] in 2.5..3.5", each: dataset}
  plain_collapses:  {say: "plain SeqVAE collapses", test: "kl[SeqVAE] < 0.5", each: dataset}
"""  # noqa: E501
TABLE3 = """
claims:
  annealing_helps: {say: "KL annealing lowers NLL", test: "nll[With] < nll['W.O.']", pool: [dataset, model], alpha: 0.05}
"""  # noqa: E501


@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_claims_of_the_shipped_sweeps(profile):
    for name, text in {"table1": TABLE1, "table3": TABLE3}.items():
        path = SWEEPS / f"{name}.yaml"
        own = path.read_text().partition("\nclaims:")[0]
        sweep = parse(own + text, path, profile=profile)
        found = judge(replace(sweep, trainer=TrainerRef(function="a:b")), trials_of(sweep), {})
        places = 1 if name == "table3" else 2
        assert [len(verdict.findings) for verdict in found.verdicts] == [places] * len(sweep.claims)
        assert found.counts == {"missing": len(sweep.claims)}


# ---- what the records make of it


def trials_of(sweep):
    """The cross of the axes, each point a trial of its own."""
    trials = []
    for labels in product(*(axis.labels for axis in sweep.axes)):
        at = dict(zip([axis.name for axis in sweep.axes], labels, strict=True))
        config = {name: label for name, label in at.items() if name != "seed"}
        trainer = TrainerRef(function="a.b:c")
        trials.append(Trial(trainer=trainer, config=config, seed=int(at["seed"]), labels=at))
    return trials


def records_of(trials, result):
    """`result` gives for a trial's labels its result, a state, or None for no record."""
    records = {}
    for trial in trials:
        found = result(trial.labels)
        if found is not None:
            done = not isinstance(found, str)
            records[trial.key] = Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done" if done else found,
                result=found if done else {},
            )
    return records


def judged(sweep, result, states=None):
    """The verdict of the only claim."""
    trials = trials_of(sweep)
    named = {trial.key: states(trial.labels) for trial in trials} if states else None
    (found,) = judge(sweep, trials, records_of(trials, result), states=named).verdicts
    return found


SMALL = """\
name: t
trainer: a.b:c
axes:
  corpus: {X: {data: x}, Y: {data: y}}
  model: {A: {m: a}, B: {m: b}}
  seed: [0, 1, 2]
metrics:
  nll: {from: nll, or: exact, goal: min, format: ".1f"}
  kl: {from: kl, format: ".2f"}
profiles: {quick: {}}
"""
NLL = {  # corpus, model -> by seed
    ("X", "A"): [81.0, 81.4, 81.9],
    ("X", "B"): [83.2, 83.1, 84.4],
    ("Y", "A"): [90.0, 91.0, 92.0],
    ("Y", "B"): [89.0, 92.5, 91.0],
}


def small(text, axes=None):
    whole = SMALL if axes is None else axes(SMALL)
    return parse(f"{whole}claims:\n  c: {text}\n", "s.yaml")


def values(at):
    nll = NLL[at["corpus"], at["model"]][int(at["seed"])]
    return {"nll": nll, "kl": 100.0 - nll}


def paired(corpus):
    return scipy_stats.ttest_rel(NLL[corpus, "A"], NLL[corpus, "B"])


def test_a_difference_is_scipys_paired_t_with_holm_over_the_corpora():
    found = judged(small("{test: 'nll[A] < nll[B]', each: corpus}"), values)
    x, y = (finding.comparisons[0] for finding in found.findings)
    assert [finding.at for finding in found.findings] == [{"corpus": "X"}, {"corpus": "Y"}]
    # X: −2.2, −1.7, −2.5; Y: 1, −1.5, 1
    assert (x.left.mean, x.right.mean) == pytest.approx((81.4333333, 83.5666667))
    assert x.estimate.mean == pytest.approx(-2.1333333)
    assert x.samples == pytest.approx({"0": -2.2, "1": -1.7, "2": -2.5})
    assert (x.p, y.p) == pytest.approx((paired("X").pvalue, paired("Y").pvalue))
    interval = paired("X").confidence_interval(0.95)
    assert x.interval == pytest.approx((interval.low, interval.high))
    assert x.p_adjusted == pytest.approx(2 * paired("X").pvalue)  # the smaller of two
    assert y.p_adjusted == pytest.approx(paired("Y").pvalue)
    assert (x.n, x.points) == (3, 3)
    assert [finding.status for finding in found.findings] == ["supported", "undecided"]
    assert found.status == "undecided"
    assert "Holm over 2 comparisons, α = 0.05" in found.method


def test_holm_can_take_away_what_one_test_alone_would_give():
    p = paired("X").pvalue
    for alpha, status in ((1.5 * p, "undecided"), (2.5 * p, "supported")):
        claims = f"{{test: 'nll[A] < nll[B]', each: corpus, alpha: {alpha}}}"
        assert judged(small(claims), values).findings[0].status == status
    claims = f"{{test: 'nll[A, X] < nll[B, X]', alpha: {1.5 * p}}}"
    assert judged(small(claims), values).status == "supported"


@pytest.mark.parametrize(
    ("test", "status"),
    [
        ("nll[A] < nll[B]", "supported"),
        ("nll[A] <= nll[B]", "supported"),
        ("nll[B] > nll[A]", "supported"),
        ("nll[A] > nll[B]", "refuted"),
        ("nll[B] <= nll[A]", "refuted"),
        ("not nll[A] < nll[B]", "refuted"),
        ("kl[A] > kl[B]", "supported"),
        ("nll[A] + 2.1 < nll[B]", "undecided"),
        ("nll[A] < 82", "undecided"),
        ("nll[A] < 83", "supported"),
        ("84 < nll[A]", "refuted"),
        ("nll[B] - nll[A] in 0.5..4", "supported"),
        ("nll[B] - nll[A] in 2..4", "undecided"),
        ("nll[B] - nll[A] in 4.5..5", "refuted"),
        ("nll[B] - nll[A] not in 4.5..5", "supported"),
        ("nll[A] < nll[B] and kl[A] > kl[B]", "supported"),
        ("nll[A] < nll[B] and nll[A] < 82", "undecided"),
        ("nll[A] > nll[B] and nll[A] < 82", "refuted"),
        ("nll[A] > nll[B] or nll[A] < 82", "undecided"),
        ("nll[A] < nll[B] or nll[A] < 82", "supported"),
    ],
)
def test_what_is_supported_and_what_is_refuted(test, status):
    found = judged(small(f"{{test: '{test}', each: corpus}}"), values)
    assert found.findings[0].status == status


def test_a_side_without_a_metric_is_a_constant():
    found = judged(small("{test: 'nll[A] < 83', each: corpus}"), values).findings[0].comparisons[0]
    expected = scipy_stats.ttest_1samp(NLL["X", "A"], 83)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.right.mean, found.right.text) == (83.0, "")
    assert found.estimate.mean == pytest.approx(sum(NLL["X", "A"]) / 3 - 83)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.5), (2.5, 4.5), (-1.0, 0.9), (1.1, 1.3)])
def test_a_range_goes_by_the_whole_interval(low, high):
    ratios = [b / a for a, b in zip(NLL["X", "A"], NLL["X", "B"], strict=True)]
    mean = sum(ratios) / 3
    start, end = scipy_stats.t.interval(0.95, 2, loc=mean, scale=scipy_stats.sem(ratios))
    inside, outside = low < start < end < high, end < low or start > high
    status = "supported" if inside else "refuted" if outside else "undecided"
    test = f"nll[B, X] / nll[A, X] in {low}..{high}"
    found = judged(small(f"{{test: '{test}'}}"), values)
    assert found.status == status
    assert found.findings[0].comparisons[0].interval == pytest.approx((start, end))


def test_ratios_are_taken_pair_by_pair():
    found = judged(small("{test: 'nll[B] / nll[A] > 1', each: corpus}"), values)
    expected = scipy_stats.ttest_1samp(
        [b / a for a, b in zip(NLL["X", "A"], NLL["X", "B"], strict=True)], 1
    )
    assert found.findings[0].comparisons[0].p == pytest.approx(expected.pvalue)


def test_pooled_pairs_are_one_test():
    found = judged(small("{test: 'nll[A] < nll[B]', pool: corpus}"), values)
    (finding,) = found.findings
    (compared,) = finding.comparisons
    a, b = (NLL["X", m] + NLL["Y", m] for m in "AB")
    assert compared.p == compared.p_adjusted == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    assert list(compared.samples) == ["X, 0", "X, 1", "X, 2", "Y, 0", "Y, 1", "Y, 2"]
    assert (finding.at, compared.n) == ({}, 6)
    assert (
        found.method == "two-sided t test, paired by corpus, seed, Holm over 1 comparison, α = 0.05"
    )


def test_all_comparisons_of_a_claim_are_one_family():
    test = "nll[A] < nll[B] and kl[A] > kl[B]"
    found = judged(small(f"{{test: '{test}', each: corpus}}"), values)
    first = found.findings[0].comparisons[0]
    assert first.p_adjusted == pytest.approx(4 * first.p)  # the smallest of four
    assert "Holm over 4 comparisons" in found.method


# ---- where values lack


def test_too_few_pairs_are_undecided_or_where_trials_lack_missing():
    one_seed = small(
        "{test: 'nll[A] < nll[B]', each: corpus}", lambda t: t.replace("[0, 1, 2]", "[0]")
    )
    (compared,) = judged(one_seed, values).findings[0].comparisons
    assert (compared.status, compared.n, compared.why) == ("undecided", 1, "one pair, no test")

    def first_seed(at):
        return values(at) if at["seed"] == "0" else None

    (compared,) = (
        judged(small("{test: 'nll[A] < nll[B]', each: corpus}"), first_seed).findings[0].comparisons
    )
    assert (compared.status, compared.n, compared.points) == ("missing", 1, 3)
    assert len(compared.lacking) == 4
    assert judged(small("{test: 'nll[A] < 1', each: corpus}"), lambda at: None).status == "missing"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("failed", "undecided"),
        ("diverged", "undecided"),
        ("exceeded", "undecided"),
        ("missing", "missing"),
        ("running", "missing"),
    ],
)
def test_a_pair_is_left_out_with_the_trial_that_lacks_named(state, status):
    """And nothing is decided on the others alone, which would choose the seeds by outcome."""
    gone = {"corpus": "X", "model": "B", "seed": "1"}

    def result(at):
        return (None if state == "missing" else state) if at == gone else values(at)

    sweep = small("{test: 'nll[A] < nll[B]', each: corpus, alpha: 0.4}")
    (compared,) = judged(sweep, result).findings[0].comparisons
    (trial,) = [trial for trial in trials_of(sweep) if trial.labels == gone]
    (lack,) = compared.lacking
    assert (lack.what, lack.state, lack.trial) == ("B, 1", state, trial.id)
    assert (compared.n, compared.points, compared.status) == (2, 3, status)
    kept = scipy_stats.ttest_rel([81.0, 81.9], [83.2, 84.4])
    assert compared.p == pytest.approx(kept.pvalue)


def test_a_metric_that_a_result_has_not_is_said_to_lack():
    def result(at):
        return {"nll": 1.0} if at["model"] == "A" else {"kl": 1.0}

    found = judged(small("{test: 'nll[A] < nll[B]', each: corpus}"), result)
    (compared,) = found.findings[0].comparisons
    assert found.status == "missing"
    assert [(x.what, x.state) for x in compared.lacking] == [
        (f"B, {i}", "no nll") for i in range(3)
    ]


def test_a_quotient_by_zero_is_no_number():
    def result(at):
        return values(at) | {"kl": float(at["seed"])}

    found = judged(
        small("{test: 'nll[A] / kl[A] > 0', each: corpus, alpha: 0.9, alike: [nll, kl]}"), result
    )
    (compared,) = found.findings[0].comparisons
    assert [(x.what, x.state) for x in compared.lacking] == [("0", "no finite number")]
    assert compared.samples == pytest.approx({"1": 81.4, "2": 81.9 / 2})


def test_what_stands_in_and_what_other_code_made_counts_and_is_said():
    def result(at):
        found = values(at)
        return {"exact": found["nll"]} if at["model"] == "B" else found

    def states(at):
        return "stale" if at["seed"] == "2" else "done"

    sweep = small("{test: 'nll[A] < nll[B]', each: corpus}")
    (compared,) = judged(sweep, result, states).findings[0].comparisons
    assert compared.notes == (
        "stale: 2 of 6 values made by code that has changed since",
        "exact in place of nll in 3 of 6 values",
    )
    assert (compared.status, compared.n) == ("supported", 3)
    assert compared.p == pytest.approx(paired("X").pvalue)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], "all 3 are the same number, no test"),
        # 0.001 apart, but for rounding
        ([100.1, 250.3, 600.7], [100.101, 250.301, 600.701], "all 3 are the same number, no test"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ""),
    ],
)
def test_differences_without_a_spread_decide_nothing(a, b, why):
    def result(at):
        return {"nll": (a if at["model"] == "A" else b)[int(at["seed"])]}

    for test in ("nll[A] < nll[B]", "nll[A] >= nll[B]", "nll[A] - nll[B] in -2..2"):
        found = judged(small(f"{{test: '{test}', each: corpus}}"), result)
        assert found.status == "undecided"
        if " in " not in test:
            assert found.findings[0].comparisons[0].why == why


def test_one_trial_on_both_sides_is_no_pair():
    """Annealing is nothing to a language model: both of its levels are one trial."""
    sweep = parse(
        SMALL.replace("corpus: {X: {data: x}, Y: {data: y}}", "kl: {Off: {w: 1}, On: {}}")
        + "claims:\n  c: {test: 'nll[On] < nll[Off]', pool: model}\n",
        "s.yaml",
    )
    trials = [
        replace(t, config={"m": "a"}) if t.labels["model"] == "A" else t for t in trials_of(sweep)
    ]
    nll = {"On": [1.0, 2.0, 4.0], "Off": [2.0, 2.5, 6.0]}
    records = records_of(trials, lambda at: {"nll": nll[at["kl"]][int(at["seed"])]})
    (compared,) = judge(sweep, trials, records).verdicts[0].findings[0].comparisons
    assert list(compared.samples) == ["B, 0", "B, 1", "B, 2"]
    assert compared.p == pytest.approx(scipy_stats.ttest_rel(nll["On"], nll["Off"]).pvalue)
    assert compared.notes == ("3 pairs left out: one trial on both sides",)
    only = replace(sweep.claims["c"], test=claim("nll[On, A] < nll[Off, A]"), pool=(),
                   axis_of={"On": "kl", "Off": "kl", "A": "model"})  # fmt: skip
    (found,) = judge(replace(sweep, claims={"c": only}), trials, records).verdicts
    assert (found.status, found.findings[0].comparisons[0].why) == (
        "undecided", "one trial on both sides",
    )  # fmt: skip
    # One trial under two pooled labels is one pair, not two.
    pooled = replace(only, test=claim("nll[A] < 9"), pool=("kl",), axis_of={"A": "model"})
    (found,) = judge(replace(sweep, claims={"c": pooled}), trials, records).verdicts
    assert found.findings[0].comparisons[0].n == 3


def test_a_record_scored_under_other_settings_is_missing():
    sweep = small("{test: 'nll[A] < nll[B]', each: corpus}")
    records = {
        other.key: other
        for record in records_of(trials_of(sweep), values).values()
        for other in [replace(record, evaluation_id="other")]
    }
    assert judge(sweep, trials_of(sweep), records).counts == {"missing": 1}


def test_an_axis_without_a_place_is_refused():
    sweep = small("{test: 'nll[A] < nll[B]', each: corpus}")
    hidden = replace(sweep.claims["c"], over=())
    with pytest.raises(AssertionError, match="no silent averaging"):
        judge(replace(sweep, claims={"c": hidden}), trials_of(sweep), {})


def test_the_order_of_axes_trials_and_records_changes_nothing():
    def turned(text):
        head, corpus, model, seed, tail = text.partition("axes:\n")[0], *text.splitlines()[3:6], ""
        rest = text.partition("seed: [0, 1, 2]\n")[2]
        return "\n".join([head + "axes:", seed, model, corpus, rest + tail])

    claims = "{test: 'nll[A] < nll[B] or kl[A] in 17..19', each: corpus}"
    one, other = small(claims), small(claims, turned)
    assert [axis.name for axis in other.axes] == ["seed", "model", "corpus"]
    trials = trials_of(one)
    records = records_of(trials, values)
    backwards = dict(reversed(records.items()))
    for render in CLAIM_RENDERERS.values():
        first = render(judge(one, trials, records))
        assert render(judge(one, trials[::-1], backwards)) == first
        assert render(judge(other, trials_of(other), backwards)) == first


# ---- three values and a fourth

RANK = {  # and is the least, or the greatest; of the two unknown, missing wins in both
    "and": ("refuted", "missing", "undecided", "supported"),
    "or": ("refuted", "undecided", "missing", "supported"),
}


@pytest.mark.parametrize(("a", "b"), list(product(STATUSES, STATUSES)))
def test_and_and_or(a, b):
    x, y = claim("x < 1"), claim("y < 1")
    for op, choose in (("and", min), ("or", max)):
        found = truth(claim(f"x < 1 {op} y < 1"), {x: a, y: b})
        assert found == choose(a, b, key=RANK[op].index)
        assert truth(claim(f"y < 1 {op} x < 1"), {x: a, y: b}) == found
    not_both = truth(claim("not (x < 1 and y < 1)"), {x: a, y: b})
    assert not_both == truth(claim("not x < 1 or not y < 1"), {x: a, y: b})


def test_not_turns_only_what_is_known():
    x = claim("x < 1")
    turned = [truth(claim("not x < 1"), {x: status}) for status in STATUSES]
    assert turned == ["refuted", "supported", "undecided", "missing"]


def test_a_claim_is_refuted_by_one_place_and_supported_by_all():
    assert every(["supported", "supported"]) == "supported"
    assert every(["supported", "undecided"]) == "undecided"
    assert every(["missing", "undecided", "supported"]) == "missing"
    assert every(["missing", "refuted", "supported"]) == "refuted"


# ---- how it is told


def told(style, text="{say: 'A *beats* B | <all>', test: 'nll[A] < nll[B]', each: corpus}"):
    sweep = small(text)
    trials = trials_of(sweep)
    records = records_of(trials, values)
    del records[trials[-1].key]
    return CLAIM_RENDERERS[style](judge(sweep, trials, records)), trials[-1].id


def test_on_a_terminal():
    page, gone = told("terminal")
    p, q = 2 * paired("X").pvalue, scipy_stats.ttest_rel([90.0, 91.0], [89.0, 92.5]).pvalue
    low, high = (f"{x:.1f}".replace("-", "−") for x in paired("X").confidence_interval(0.95))
    lines = page.splitlines()
    assert lines[:5] == [
        "t (quick): 1 missing",
        "",
        "MISSING    c: A *beats* B | <all>",
        "           nll[A] < nll[B]; two-sided t test, paired by seed, Holm over 2 comparisons, "
        "α = 0.05",
        f"  supported  X  nll[A] 81.4 − nll[B] 83.6 = −2.1 [{low}, {high}], p {p:.2g}, n=3",
    ]
    assert lines[5].startswith("  missing    Y  nll[A] 90.5 − nll[B] 90.8 = −0.2 [")
    assert lines[5].endswith(f", p {q:.2g}, n=2 of 3")
    assert lines[6].strip() == f"lacking: B, 2 missing ({gone})"
    assert lines[-1] == "profile quick"


def test_in_markdown_free_text_is_escaped():
    page, _ = told("md")
    lines = page.splitlines()
    assert lines[0] == "**t (quick): 1 missing**"
    assert lines[2:4] == ["| claim | verdict | at | numbers |", "|---|---|---|---|"]
    assert lines[4].startswith(
        r"| A \*beats\* B \| &lt;all&gt; | **missing** | X | supported: nll\[A\] 81.4 − "
    )
    assert lines[5].startswith(r"|  |  | Y | missing: nll\[A\] 90.5 − ")
    assert all(line.replace(r"\|", "").count("|") == 5 for line in lines[2:6])
    assert lines[7].startswith(r"- c: A \*beats\* B \| &lt;all&gt;: nll\[A\] &lt; nll\[B\]; two-")


def test_several_comparisons_have_a_line_each():
    page, _ = told("terminal", "{test: 'nll[A] < nll[B] and not kl[A] in 1..2', each: corpus}")
    lines = page.splitlines()
    assert lines[2] == "MISSING    c"
    assert lines[4] == "  supported  X"
    assert lines[5].startswith("               supported  nll[A] 81.4 − nll[B] 83.6 = −2.1 [")
    assert lines[6].startswith("               refuted    kl[A] 18.57 [")
    assert "] in 1..2, p " in lines[6]


def test_in_json_everything_is_there():
    page, gone = told("json")
    (found,) = json.loads(page)["claims"]
    x, y = (finding["comparisons"][0] for finding in found["findings"])
    assert (found["status"], found["findings"][0]["at"]) == ("missing", {"corpus": "X"})
    assert x["p"] == pytest.approx(paired("X").pvalue)
    assert x["samples"]["2"] == pytest.approx(-2.5)
    assert y["lacking"] == [{"what": "B, 2", "state": "missing", "trial": gone}]
    assert len(x["trials"]) == 6


# ---- the verb, over real records

TOY = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
base: {steps: 2}
axes:
  level: {low: {level: 1.0}, high: {level: 2.0}}
  seed: [0, 1, 2]
metrics: {loss: {from: loss, format: ".2f"}}
profiles: {quick: {}}
claims:
  below: {say: low is below ten, test: "loss[low] < 10"}
  equal: {test: "loss[low] < loss[high]"}
"""
REFUTED = '  above: {test: "loss[high] > 10"}\n'


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with toy.yaml, all of it trained, and what types there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.delenv("SWEEPER_STORE", raising=False)
    (tmp_path / "toy.yaml").write_text(TOY)
    place = run.Place(store=tmp_path / "runs")
    plan = run.look(read("toy.yaml"), place)
    inline(plan.todo, Surroundings(store=place.store), lambda record: None, resources=Resources())
    return lambda *arguments: CliRunner().invoke(main, arguments)


def test_the_verb_says_what_there_is_and_checks_when_asked(desk, tmp_path):
    # loss is level / 2 + seed: 0.5, 1.5, 2.5 under low; always 0.5 more under high.
    shown = desk("claims", "toy.yaml", "--check")
    assert shown.exit_code == 0, shown.output
    assert "SUPPORTED  below: low is below ten" in shown.output
    assert "loss[low] 1.50 − 10 = −8.50 [−10.98, −6.02]" in shown.output  # 4.303 / sqrt(3)
    assert "= −0.50, all 3 are the same number, no test, n=3" in shown.output
    (tmp_path / "toy.yaml").write_text(TOY + REFUTED)
    assert desk("claims", "toy.yaml").exit_code == 0
    assert desk("claims", "toy.yaml", "--check").exit_code == 4
    assert desk("claims", "toy.yaml", "below", "--check").exit_code == 0
    one = desk("claims", "toy.yaml", "above", "--check", "--json")
    assert (one.exit_code, json.loads(one.output)["counts"]) == (4, {"refuted": 1})
    page = desk("claims", "toy.yaml", "--format", "md").output
    assert page.startswith("**toy (quick): 1 supported, 1 refuted, 1 undecided**\n\n| claim |")


def test_the_verb_refuses_what_is_not_there(desk, tmp_path):
    refused = desk("claims", "toy.yaml", "belo")
    assert refused.exit_code == 2
    assert "unknown claim 'belo'; did you mean 'below'?" in refused.output
    (tmp_path / "toy.yaml").write_text(TOY.partition("claims:")[0])
    refused = desk("claims", "toy.yaml", "--check")
    assert refused.exit_code == 2
    assert "toy.yaml: there are no claims in it" in refused.output


class Messenger:
    """A courier that keeps what it was given."""

    def publish_tables(self, tables, files):
        self.tables, self.files = tables, files


def test_claims_are_written_and_sent_beside_the_tables(desk, tmp_path):
    sweep, place, courier = read("toy.yaml"), run.Place(store=tmp_path / "runs"), Messenger()
    verdicts = run.claims(sweep, run.look(sweep, place))
    run.publish(sweep, [], verdicts, place, courier)
    path = tmp_path / "runs/tables/toy.quick/claims.md"
    assert path.read_text(encoding="utf-8") == CLAIM_RENDERERS["md"](verdicts)
    assert courier.files == [path]
    assert courier.tables == {"claims": CLAIM_RENDERERS["md"](verdicts)}


@pytest.mark.slow
def test_a_run_ends_with_a_line_about_the_claims(desk):
    done = desk("run", "toy.yaml", "--dispatch", "inline")
    assert done.exit_code == 0, done.output
    assert "claims: 1 supported, 1 undecided; sweeper claims toy.yaml says why" in done.output
    assert Folder(Path("runs")).root.joinpath("tables/toy.quick/claims.md").exists()


# ---- several scores of one training


def test_a_training_is_one_pair_however_often_it_is_scored():
    """Two numbers of samples are no two seeds: as many pairs as without them, of the means."""
    sweep = parse(
        SMALL.replace("  corpus: {X: {data: x}, Y: {data: y}}\n", "").replace(
            "  seed: [0, 1, 2]", "  seed: [0, 1, 2]\n  samples: {few: {s: 10}, many: {s: 50}}"
        )
        + "claims:\n  c: {test: 'nll[A] < nll[B]', pool: samples}\n",
        "s.yaml",
    )
    trials = [
        Trial(
            trainer=TrainerRef(function="a.b:c"),
            config={"m": model},
            evaluation={"s": samples},
            seed=seed,
            labels={"model": model, "seed": str(seed), "samples": samples},
        )
        for model, seed, samples in product("AB", range(3), ("few", "many"))
    ]

    def result(at):
        wide = {"few": 1.0, "many": -1.0}[at["samples"]]
        return {"nll": NLL["X", at["model"]][int(at["seed"])] + wide}

    (found,) = judge(sweep, trials, records_of(trials, result)).verdicts
    (compared,) = found.findings[0].comparisons
    assert (compared.n, compared.points) == (3, 3)
    assert compared.left.mean == pytest.approx(sum(NLL["X", "A"]) / 3)
    assert compared.p == pytest.approx(paired("X").pvalue)
    assert compared.notes == (
        "a training that is scored in several ways is one pair, of the means of its scores",
    )
    records = records_of(trials, result)
    del records[trials[1].key]  # A, seed 0, many samples
    (found,) = judge(sweep, trials, records).verdicts
    (compared,) = found.findings[0].comparisons
    assert (compared.n, compared.points, found.status) == (2, 3, "missing")
