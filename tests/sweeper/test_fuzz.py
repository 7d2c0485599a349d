"""Whatever a sweep file says, it ends in a plan or in a clean error.

Files are built from the language's grammar, right and nearly right; and made from files that
are shipped, or known to be bad, by changing bytes. SWEEPER_FUZZ_CASES says how many (10,000).
A file that is found goes into REGRESSIONS.
"""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sweeper.design import expand, idle
from sweeper.errors import SpecError, SweeperError
from sweeper.merges import merges
from sweeper.plan import plan
from sweeper.run import check_trainers
from sweeper.spec import parse
from sweeper.spec.problems import UNSHOWN
from sweeper.tables.mixtures import mixtures

ROOT = Path(__file__).parents[2]
BAD = Path("tests/sweeper/bad")
CASES = int(os.environ.get("SWEEPER_FUZZ_CASES", "10_000"))
SEED = int(os.environ.get("SWEEPER_FUZZ_SEED", "0"))  # of the changed bytes
FROM_GRAMMAR = CASES * 2 // 5
UNPLACED = ("--set", "all else is right; ")  # what is of no place in the file
SECONDS = 2  # of the processor for one file
MEGABYTES = 300  # more memory than before, for all of them
MAX_TRIALS = 2000  # The trials of a fine file are made; more than these would only be slower.


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def outcome(content, source, profile="quick", overrides=()):
    """ "plan" or "error". Anything but the two fails."""
    start, wrong = time.process_time(), None
    try:
        read_and_plan(content, source, profile, overrides)
    except SweeperError as error:
        wrong = error
    assert time.process_time() - start < SECONDS
    if wrong is None:
        return "plan"
    assert wrong.exit_code in (2, 3), wrong
    assert wrong.problems
    for problem in wrong.problems:
        assert problem.mark or problem.message.startswith(UNPLACED), problem
        assert not UNSHOWN.search(str(problem)), problem
        assert len(str(problem)) < 1500, problem
    return "error"


def read_and_plan(content, source, profile, overrides):
    sweep = parse(content, source, profile=profile, overrides=overrides)
    check_trainers(sweep)
    trials = expand(sweep, None, max_trials=MAX_TRIALS)
    if mixed := mixtures(sweep, trials):
        raise SpecError(*mixed)
    merged = merges(sweep, trials)
    [str(said) for said in (*merged, *idle(sweep))]
    found = plan(trials, {}, lambda trainer: None)
    assert found.counts["points"] == len(trials)
    assert all(trial.id and trial.seed >= 0 for trial in found.todo)


# ---- files of the grammar

AXES = ["model", "dataset", "seed", "kl.start", "pooling", "optim.lr", "word_dropout", "x"]
METRICS = ["nll", "kl", "updates"]
LABELS = ["A", "B", "Max", "last", "max", "0", "1", "0.5", "a b", "é"]
KEYS = ["pooling", "kl.start", "kl", "kl.schedule", "optim.lr", "optim", "dropout", "seed", "data",
    "word_dropout", "evaluate.samples", "limits", "scheme", "objective", "x", "x.y"]  # fmt: skip
ODD = [None, True, False, 0, -1, 2.5, 1e-3, 1e308, 2**62, 2**70, "", " ", "yes", "010", "1e3", "~",
    "12:30", "2026-01-31", ".nan", "..", "../x", "a: b", "- a", "{mean}", "{", "*a", "&a", "!a",
    "x == 1", "\u202e", "\n", "\x00", "🙂", "e\u0301", "test/nll", [], {}, [[]], {"a": {}},
    "a" * 300]  # fmt: skip

text = st.one_of(st.sampled_from(AXES + METRICS + LABELS + KEYS), st.text(max_size=6))
scalars = st.one_of(
    st.sampled_from([0, 1, 2, 0.1, 0.5, 1e-3, "max", "last", "linear", "synthetic_topics"]),
    st.integers(-3, 40),
    st.floats(-1e9, 1e9),
    text,
)
anything = st.one_of(
    st.sampled_from(ODD),
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


def mostly(strategy):
    """Seldom something else."""
    return st.one_of(*[strategy] * 15, anything)


def optional(**entries):
    return st.fixed_dictionaries({}, optional={k: mostly(v) for k, v in entries.items()})


def several(names, entry, most=3):
    return st.dictionaries(st.one_of(*[st.sampled_from(names)] * 9, text), mostly(entry),
        max_size=most)  # fmt: skip


def listed(names):
    return st.one_of(st.sampled_from(names), st.lists(st.sampled_from(names), max_size=3))


operands = st.one_of(
    st.sampled_from([*AXES, *KEYS, "nll[Max]", "kl[A, B]", "updates['a b']", "valid/kl"]),
    st.sampled_from(["1", "0.5", "'A'", "'max'", "true", "null", "-2", "1e-3", "1_0", "[1, 'a']"]),
    st.text(max_size=4),
)
expressions = st.recursive(
    st.builds(
        "{} {} {}".format,
        operands,
        st.sampled_from(["==", "!=", "<", ">=", "in", "not in", "=", "+", "/", ".."]),
        operands,
    ),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or", "in"]), inner),
        inner.map("not ({})".format),
        inner.map("({})".format),
    ),
    max_leaves=3,
)
configurations = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS), text), scalars, max_size=3
)
numbers = st.lists(
    st.one_of(st.integers(-2, 9), st.sampled_from([0.1, 0.25, 1e-4, 1e9, 1e300])), max_size=4
)
levels = st.dictionaries(
    st.sampled_from(LABELS),
    st.one_of(
        configurations,
        configurations,
        optional(
            set=configurations,
            note=text,
            override=st.booleans(),
            trainer=st.just("trainers.text_vae:train"),
        ),
        st.none(),
    ),
    max_size=4,
)
lists = st.lists(scalars, max_size=4)
axes = st.one_of(
    lists,
    levels,
    st.builds(
        lambda form, rest: {**form, **rest},
        st.one_of(
            st.fixed_dictionaries({"values": lists}),
            st.fixed_dictionaries({"range": numbers}),
            st.fixed_dictionaries({"linspace": numbers}),
            st.fixed_dictionaries({"logspace": numbers}),
            st.fixed_dictionaries({"zip": st.dictionaries(st.sampled_from(KEYS), lists)}),
            st.fixed_dictionaries({"levels": levels}),
            st.fixed_dictionaries({"only": listed(LABELS)}),
            st.fixed_dictionaries({"also": levels}),
        ),
        st.one_of(st.just({}), st.fixed_dictionaries({"when": expressions})),
    ),
)
places = st.lists(st.sampled_from(AXES), max_size=2)
metrics = optional(
    **{"from": st.sampled_from(["test/nll", "valid/kl", "cost/updates"])},
    goal=st.sampled_from(["min", "max"]),
    format=st.sampled_from([".1f", ",.0f", "g", ".99f"]),
    scale=st.floats(0, 10),
    note=text,
    label=text,
)
rows = st.one_of(
    st.sampled_from(AXES),
    optional(axis=st.sampled_from(AXES), only=listed(LABELS)),
    st.just({"from": "search", "order_by": "cost/updates"}),
)
tests = optional(
    value=st.sampled_from(METRICS), against=st.sampled_from(LABELS), alpha=st.floats(0, 1)
)
tables = optional(
    rows=rows,
    columns=places,
    values=listed(METRICS),
    over=places,
    where=st.dictionaries(st.sampled_from(AXES), st.sampled_from(LABELS), max_size=2),
    cell=st.sampled_from(["{mean}", "{mean} ± {sd}", "{mean:.1f}", "{", "{x}"]),
    labels=st.dictionaries(st.sampled_from(LABELS), text, max_size=2),
    rules_after=listed(LABELS),
    caption=text,
    references=st.dictionaries(text, st.dictionaries(st.sampled_from(METRICS), text, max_size=2),
        max_size=2),
    best=optional(values=listed(METRICS), per=places),
    delta=optional(
        axis=st.sampled_from(AXES), **{"from": st.sampled_from(LABELS)},
        to=st.sampled_from(LABELS), significance=tests,
    ),
    relative_to=optional(row=st.sampled_from(LABELS), **{"as": st.just("{ratio:.1f}x")}),
    significance=tests,
    beside=st.just("paper"),
    at=optional(updates=st.one_of(st.integers(-1, 9), st.just("min"))),
    write=listed(["md", "tex", "csv", "html"]),
)  # fmt: skip
figures = optional(
    kind=st.sampled_from(
        ["curves", "scatter", "pareto", "importance", "history", "slices", "parallel"]
    ),
    x=st.sampled_from(["cost/updates", "nll"]),
    y=listed(["valid/kl", "nll"]),
    series=rows,
    panels=rows,
    rows=rows,
    over=places,
    where=st.dictionaries(st.sampled_from(AXES), st.sampled_from(LABELS), max_size=2),
    artifact=st.just("features.npz"),
    array=text,
    by=places,
    metric=st.sampled_from(["nll", "valid/kl"]),
    keys=listed(["kl.start", "dropout"]),
    band=st.sampled_from(["range", "ci95", "sd"]),
)
claims = optional(
    test=expressions, say=text, each=places, pool=places, over=places, alpha=st.floats(0, 1)
)
spans = st.lists(st.one_of(st.integers(0, 9), st.floats(0, 1)), min_size=2, max_size=2)
parameters = optional(
    choice=lists, float=spans, int=spans, log=st.booleans(), step=scalars, when=expressions
)
searches = optional(
    for_each=places,
    trials=st.integers(0, 9),
    objectives=st.lists(
        optional(metric=st.sampled_from(["valid/nll", "cost/updates", "nll"]), goal=st.just("min")),
        max_size=2,
    ),
    constraints=st.lists(expressions, max_size=2),
    space=several(KEYS, parameters),
    sampler=optional(name=st.sampled_from(["TPESampler", "a.b:C"]), seed=st.integers()),
    enqueue=st.lists(st.dictionaries(st.sampled_from(KEYS), scalars, max_size=2), max_size=2),
    prune=optional(
        rule=st.just("successive_halving"), metric=st.just("valid/nll"),
        grace=st.sampled_from(["20%", "0%", "x"]), factor=st.integers(0, 4),
    ),
    promote=optional(front=st.booleans(), top=st.integers(0, 3), seeds=st.lists(st.integers(0, 3),
        max_size=3), score_on=st.sampled_from(["test", "valid"])),
    storage=st.sampled_from(["sqlite:///x.db", "env:X", "postgresql+psycopg2://u@h:0/d"]),
)  # fmt: skip
limits = {"updates": st.integers(-1, 9), "wall": st.sampled_from(["1h", "0s"]),
    "gpu_hours": st.floats(0, 9)}  # fmt: skip
parts = {
    "base": st.one_of(configurations, st.sampled_from(["parts/wrong.yaml", "gone.yaml", "."])),
    "set": configurations,
    "axes": several(AXES, axes),
    "exclude": st.lists(st.one_of(expressions, configurations), max_size=3),
    "include": st.lists(
        st.dictionaries(
            st.sampled_from([*AXES, *KEYS]), st.one_of(scalars, lists), max_size=3
        ),
        max_size=2,
    ),
    "resources": optional(
        cpus=st.integers(-1, 3),
        gpus=st.sampled_from([0, 0.5, 1.5, "auto"]),
        stall=st.sampled_from(["30m", "1h30m", "0s", "soon", 30]),
    ),
    "budget": optional(**limits, per_trial=optional(**limits), on_exceed=st.just("stop")),
    "search": searches,
}  # fmt: skip
profiles = st.fixed_dictionaries(
    {"quick": optional(**parts)}, optional={"paper": optional(**parts)}
)
files = st.fixed_dictionaries(
    {
        "name": mostly(st.just("t")),
        "trainer": mostly(
            st.sampled_from(
                [
                    "trainers.text_vae:train",
                    {"function": "trainers.text_vae:train", "config": "trainers.config"},
                    {"command": ["python", "-m", "trainers.text_vae", "--seed={seed}"]},
                ]
            )
        ),
        "profiles": st.one_of(*[st.just({"quick": {}})] * 3, mostly(profiles)),
    },
    optional={
        **{name: mostly(part) for name, part in parts.items() if name != "search"},
        "metrics": mostly(several(METRICS, metrics)),
        "tables": mostly(several(["t", "u"], tables, 2)),
        "figures": mostly(several(["f"], figures, 1)),
        "claims": mostly(several(["c", "d"], claims, 2)),
        "reported": anything,
        "data_root": mostly(st.sampled_from([".", "gone", "~nobody/x"])),
        "import": mostly(
            optional(
                **{"from": st.sampled_from(["parts/good.yaml", "parts/circle.yaml", "gone.yaml"])},
                take=st.lists(
                    st.sampled_from(["axes", "axes.model", "metrics", "base", "x"]), max_size=3
                ),
            )
        ),
    },
)
with_search = st.builds(lambda file, search: {**file, "search": search}, files, searches)


@st.composite
def wild(draw):
    """A function, as Hypothesis spells out in full, in memory without end, a strategy that
    has to give up."""
    return draw(st.one_of(files, files, with_search))


FINE_AXES = {
    "model": [
        {"A": {}, "B": {"decoder": "skip"}},
        {"A": {"set": {}, "note": "plain"}, "B": {"pooling": "max"}, "C": {"pooling": "avg"}},
        {"levels": {"A": None, "B": {"model": "language_model"}}},
    ],
    "data": [["synthetic_topics"], ["synthetic_topics", "synthetic_styles"]],
    "kl.start": [
        [0.1, 0.2],
        {"linspace": [0, 0.5, 3]},
        {"values": [0, 0.5], "when": "model == 'A'"},
    ],
    "rates": [{"zip": {"optim.lr": [1.0, 0.5], "optim.decay": [0.5, 0.7]}}],
    "optim.clip": [{"logspace": [1, 100, 3]}, [5]],
    "word_dropout": [{"range": [0, 0.4, 0.2]}, [0, 0.1]],
    "seed": [[0, 1], {"range": [0, 2]}, [7]],
}
FINE = {
    "cell": ["{mean}", "{mean} ± {sd}", "{mean} [{min}, {max}]"],
    "caption": ["What came of it."],
    "best": [{"values": ["nll"]}],
    "write": [["md", "tex"], "csv"],
    "references": [{"Floor": {"nll": "test/floor"}}],
    "significance": [{"value": "nll", "against": "A", "alpha": 0.1}],
    "relative_to": [{"row": "B", "as": "{ratio:.1f}x"}],
    "rules_after": [["A"], []],
    "labels": [{"A": "first", "B": "second"}],
    "at": [{"updates": "min"}, {"updates": 500}],
}
FINE_SEARCH = {
    "trials": 4,
    "objectives": [{"metric": "valid/nll", "goal": "min"}],
    "constraints": ["valid/kl >= 0.5 and not (cost/updates > 100)"],
    "space": {
        "kl.schedule": {"choice": ["linear", "cyclical"]},
        "kl.end": {"float": [0.2, 0.5], "step": 0.1, "when": "kl.schedule == 'linear'"},
        "optim.epochs": {"int": [4, 64], "log": True},
    },
    "enqueue": [{"kl.schedule": "linear", "kl.end": 0.3}],
    "sampler": {"name": "TPESampler", "seed": 7},
    "storage": "sqlite:///runs/x.db",
    "prune": {"rule": "successive_halving", "metric": "valid/nll", "grace": "20%", "factor": 3},
    "promote": {"front": True, "top": 2, "seeds": [0, 1]},
}


@st.composite
def fine(draw):
    """A file with nothing wrong in it."""

    def some(of):
        return {name: of[name] for name in of if draw(st.booleans())}

    def one(options):
        return draw(st.sampled_from(options))

    axes_ = {name: one(forms) for name, forms in {**some(FINE_AXES), **MODEL}.items()}
    axes_ = {name: axes_[name] for name in FINE_AXES if name in axes_}
    searching = draw(st.integers(0, 4)) == 0
    if searching:
        axes_ = {name: axes_[name] for name in ("model", "data") if name in axes_}
    rows_, *others = axes_
    columns = [name for name in others if draw(st.integers(0, 2)) == 0]
    rest = [name for name in others if name not in columns]
    table = {"rows": rows_, "columns": columns, "values": ["nll", "kl"], "over": rest}
    table |= {name: one(FINE[name]) for name in some(FINE)}
    lowest = {"data": "synthetic_topics", "kl": {"warmup_epochs": 3}, "evaluate.samples": 9}
    file = {
        "name": "t",
        "trainer": one(["trainers.text_vae:train", {"function": "trainers.text_vae:train",
            "config": "trainers.config"}]),
        "base": lowest,
        "axes": axes_,
        "metrics": {"nll": {"from": "test/nll", "goal": "min"}, "kl": {"from": "test/kl"}},
        "profiles": one([{"quick": {}}, {"quick": {"set": {"dropout": 0.1}}, "paper": {}},
            {"quick": {"axes": {"model": {"also": {"A": {"cosine": 1.0}}}}, "resources":
            {"cpus": 2}}, "paper": {"axes": {"model": {"only": ["A"]}}, "exclude": []}}]),
    }  # fmt: skip
    more = {
        "set": {"dropout": 0.2, "optim.epochs": 3},
        "resources": {"cpus": 1, "gpus": one([0, 0.5, "auto"]), "stall": "30m"},
        "budget": {"updates": 10**9, "per_trial": {"wall": "12h"}, "on_exceed": "stop"},
        "claims": {"c": {"test": one(["nll[A] < nll[B]", "kl[A] / kl[B] in 0.5..2 or nll[A] < 3"]),
            "each": others}},
        "figures": {"f": {"kind": "curves", "y": ["valid/kl"], "series": "model", "over": others}},
        "reported": {"t": {"rows": {"A": {"nll": 1.5}}, "notes": {"A": "from the paper"}}},
        "exclude": one([["kl.start == 0.9 or model == 'A'"], [{"model": ["A"]}], []]),
        "include": one([[], [{**dict.fromkeys(axes_, None), "model": "A"}]]),
    }  # fmt: skip
    if searching:
        file["search"] = {**FINE_SEARCH, "for_each": list(axes_)}
        more = {"figures": {"f": {"kind": "importance", "metric": "valid/nll"}}}
        table = {
            "rows": {"from": "search", "order_by": "cost/updates"},
            "columns": list(axes_),
            "values": "nll",
            "over": ["seed"],
        }
    tables_ = {"tables": {"t": table}} if draw(st.booleans()) else {}
    return {**file, **tables_, **some(more)}


MODEL = {"model": FINE_AXES["model"]}


def spoilt(value, dice):
    """One thing in a file changed: something odd for a value, an entry gone, one moved here."""
    if isinstance(value, dict) and value and dice.random() < 0.93:
        key = dice.choice(list(value))
        if (fate := dice.random()) < 0.05:
            return {k: v for k, v in value.items() if k != key}
        if fate < 0.1:
            return {**value, dice.choice([*KEYS, *AXES, *LABELS, *PLACES]): value[key]}
        return {**value, key: spoilt(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        at = dice.randrange(len(value))
        return [*value[:at], spoilt(value[at], dice), *value[at + 1 :]]
    if isinstance(value, str) and value and dice.random() < 0.4:
        at = dice.randrange(len(value))
        return value[:at] + dice.choice(["", "(", "'", "x", "[", "]", " "]) + value[at + 1 :]
    return dice.choice([*ODD, *LABELS, *AXES, [0, 0], ["A", "A"], {"A": {}}, "A" * 70])


PLACES = [*FINE, "only", "also", "when", "values", "range", "zip", "levels", "set", "note", "from",
    "axes", "each", "over", "pool", "where", "import", "columns", "override"]  # fmt: skip


def spelled(value, dice, depth=0):
    """A value as YAML, in one of the ways to write it; seldom a key is misspelt."""
    if isinstance(value, dict):
        items = [(misspelt(k, dice), spelled(v, dice, depth + 1)) for k, v in value.items()]
        if depth == 0:
            return "\n".join(f"{key}: {said}" for key, said in items) + "\n"
        return "{" + ", ".join(f"{key}: {said}" for key, said in items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(spelled(item, dice, depth + 1) for item in value) + "]"
    if isinstance(value, str):
        return scalar(value, dice)
    return {None: "null", True: "true", False: "false"}.get(value) if (
        value is None or isinstance(value, bool)
    ) else repr(value)  # fmt: skip


def scalar(value, dice):
    if value.isascii() and value.replace("_", "").replace(".", "").replace("/", "").isalnum():
        return dice.choice([value, value, f"'{value}'", f'"{value}"'])
    if dice.random() < 0.03:
        return value
    escaped = value.encode("unicode_escape", "surrogatepass").decode().replace('"', '\\"')
    return f'"{escaped}"' if dice.random() < 0.5 else "'" + value.replace("'", "''") + "'"


def misspelt(key, dice):
    if dice.random() > 0.01 or len(key) < 2:
        return scalar(key, dice)
    at = dice.randrange(len(key) - 1)
    return scalar(key[:at] + key[at + 1] + key[at] + key[at + 2 :], dice)


def of_grammar(cases):
    """So many examples, the same ones each time."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # To make an example smaller can take longer than all of this.
        suppress_health_check=list(HealthCheck),
    )


def content_of(file, dice):
    return spelled(file, dice).encode("utf-8", "surrogatepass")


@given(file=fine(), seed=st.integers(0, 2**32))
@of_grammar(FROM_GRAMMAR // 4)
def test_what_is_fine_ends_in_a_plan(file, seed):
    whole = content_of(file, Unchanging(seed))
    if file.get("exclude") or file.get("include"):
        outcome(whole, BAD / "fuzz.yaml")  # Together with the axes they may leave nothing.
    else:
        read_and_plan(whole, BAD / "fuzz.yaml", "quick", ())


class Unchanging(random.Random):
    """Dice by which nothing is misspelt."""

    def random(self):
        return max(0.04, super().random())


spoilt_files = {"plan": 0, "error": 0}


@given(file=fine(), seed=st.integers(0, 2**32))
@of_grammar(FROM_GRAMMAR // 2)
def test_with_something_wrong(file, seed):
    dice = random.Random(seed)
    for _ in range(dice.choice([1, 1, 1, 3])):
        file = spoilt(file, dice)
    content = content_of(file, dice) if isinstance(file, dict) else b""
    spoilt_files[outcome(content, BAD / "fuzz.yaml")] += 1


def test_of_what_is_spoilt_both_are_many():
    """What ends in an error always, or never, is no test of what comes after."""
    if not (total := sum(spoilt_files.values())):
        pytest.skip("needs the files of the test above")
    print(f"{total} spoilt files: {spoilt_files}")
    assert min(spoilt_files.values()) > total // 50


@given(file=wild(), seed=st.integers(0, 2**32))
@of_grammar(FROM_GRAMMAR // 4)
def test_with_anything_anywhere(file, seed):
    outcome(content_of(file, random.Random(seed)), BAD / "fuzz.yaml")


# ---- changed bytes

SIGNIFICANT = [b":", b": ", b"-", b"- ", b"[", b"]", b"{", b"}", b",", b"#", b" #", b"&a ", b"*a",
    b"!", b"!!int ", b"|", b">", b"'", b'"', b"%", b"@", b"`", b"\t", b"\n", b"\r", b"\n\n", b"  ",
    b"? ", b"---\n", b"...\n", b"<<: ", b"~", b"\\", b"0", b"9", b"1e999", b".inf", b".nan", b"-",
    b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\xc2\x85", b"\xed\xa0\x80"]  # fmt: skip


def seeds():
    """Files that others are made from: (content, source)."""
    shipped = [path for path in sorted(Path("sweeps").glob("*.yaml")) if path.stem != "paper"]
    known = [path for path in sorted(BAD.glob("*.yaml")) if path.stat().st_size < 2000]
    found = [(path.read_bytes(), path.with_name("fuzz.yaml")) for path in [*shipped, *known]]
    return found, len(shipped)


def changed(content, other, dice):
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        at = dice.randrange(len(content) + 1)
        to = min(len(content), at + dice.choice([1, 1, 2, 5, 20, 100]))
        match dice.randrange(8):
            case 0:  # a flipped bit
                if at < len(content):
                    flipped = content[at] ^ (1 << dice.randrange(8))
                    content = content[:at] + bytes([flipped]) + content[at + 1 :]
            case 1:  # something taken away
                content = content[:at] + content[to:]
            case 2:  # something twice
                content = content[:to] + content[at:to] * dice.choice([1, 1, 3]) + content[to:]
            case 3:  # something of another file
                start = dice.randrange(len(other) + 1)
                content = content[:at] + other[start : start + dice.choice([5, 50, 5000])]
            case 4:  # a line of another file
                lines = content.split(b"\n")
                lines.insert(dice.randrange(len(lines) + 1), dice.choice(other.split(b"\n")))
                content = b"\n".join(lines)
            case 5:  # two words change places
                words = content.split(b" ")
                one, two = dice.randrange(len(words)), dice.randrange(len(words))
                words[one], words[two] = words[two], words[one]
                content = b" ".join(words)
            case _:
                content = content[:at] + dice.choice(SIGNIFICANT) + content[at:]
    return content


def test_with_changed_bytes():
    dice = random.Random(SEED)
    files_, shipped = seeds()
    found = {"plan": 0, "error": 0}
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for number in range(CASES - FROM_GRAMMAR):
        some = files_[:shipped] if dice.random() < 0.4 else files_
        (content, source), (other, _) = dice.choice(some), dice.choice(files_)
        content = changed(content, other, dice)
        try:
            found[outcome(content, source, dice.choice(["quick", "quick", "paper"]))] += 1
        except Exception as error:
            pytest.fail(f"file {number} of seed {SEED}: {error!r}\n{source}\n{content!r}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    took = time.process_time() - start
    print(f"{number + 1} changed files of seed {SEED}: {found}; {took:.0f} s, {grown:.0f} MB more")
    assert found["plan"] > (number + 1) // 50
    assert grown < MEGABYTES


# ---- what was found

REGRESSIONS = {
    "axes: {x: {logspace: [1e-308, 1e308, 3]}}": "plan",
    "axes: {x: {logspace: [1, -1, 3]}}": "error",
    "axes: {x: {logspace: [1, 0, 3]}}": "error",
    "axes: {x: {linspace: [-1e308, 1e308, 5]}}": "plan",
    "axes: {x: {range: [0, 1, 1e-99999]}}": "error",
    "axes: {x: {range: [0, 1, 1e-999999999]}}": "error",
    "axes: {x: {range: [0, 1e308, 1e-308]}}": "error",
    "axes: {x: {zip: {x: [1, 1]}}}": "error",
    "axes: {x: [1, '1']}": "error",
    "data_root: ~no_such_person/x": "plan",
    "base: circle_of_links.yaml": "error",
    "trainer_: 1": "error",
    f"budget: {{wall: '{'9' * 400}h'}}": "error",
    f"base: {'x' * 5000}.yaml": "error",
    f"{'x' * 5000}: 1": "error",
}


@pytest.mark.parametrize(("text", "ends"), REGRESSIONS.items(), ids=lambda x: x[:40])
def test_what_was_found_is_mended(text, ends, tmp_path):
    (tmp_path / "circle_of_links.yaml").symlink_to(tmp_path / "circle_of_links.yaml")
    head = "name: t\ntrainer: trainers.text_vae:train\nprofiles: {quick: {}}\n"
    if ends == "plan":
        read_and_plan(head + text, tmp_path / "s.yaml", "quick", ())
    else:
        assert outcome(head + text, tmp_path / "s.yaml") == "error"


@pytest.mark.parametrize("item", ["x=\udcff", "\udcff=1", "x=" + "[" * 3000, "x=&a [*a]", "x=\x00"])
def test_on_the_command_line(item):
    text = "name: t\ntrainer: trainers.text_vae:train\nprofiles: {quick: {}}\n"
    assert outcome(text, "s.yaml", overrides=[item]) == "error"


def test_a_config_module_that_breaks(tmp_path, monkeypatch):
    (tmp_path / "breaks_when_imported.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "name: t\ntrainer: {function: a:b, config: breaks_when_imported}\nprofiles: {quick: {}}"
    assert outcome(text, "s.yaml") == "error"
