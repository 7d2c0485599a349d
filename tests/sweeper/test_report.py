"""The report: read back by a parser, and opened in Chromium. What it says is held against the
records it was made of; what people wrote in it comes back as text and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweeper import run
from sweeper.cli import main
from sweeper.figures import Line
from sweeper.record import Record
from sweeper.render.layout import plain
from sweeper.report import drawing, runs
from sweeper.report.contents import (
    MOST_CHARACTERS,
    Spot,
    _spots,
    on_front,
    places_of,
    told_apart,
)
from sweeper.spec import parse

TOYS = Path(__file__).parent
ROOT = TOYS.parents[1]

HOSTILE = [
    "<script>hacked=1</script>",
    "</script><script>hacked=1</script>",
    "</style><img src=x onerror=hacked=1>",
    "\"><svg onload='hacked=1'>",
    "' onmouseover='hacked=1' autofocus onfocus='hacked=1",
    "</pre></title><base href=//example.org><iframe src=javascript:hacked=1>",
    "&lt;b&gt; &amp;amp; ${x} {{x}}",
    "عربي " + "long" * 40,
]
ODD = "\x1b[31m nul\x00 right \u202eto left"  # which no file may say, but an error may
SWEEP = """\
name: toy
description: %(free)s
trainer: {function: "toy_trainers:countdown"}
base: {steps: 4}
axes:
  corpus: {One: {corpus: 1}, Two: {corpus: 2}}
  system:
%(systems)s
  seed: {range: [0, 2]}
metrics:
  loss: {from: test/loss, goal: min, format: ".2f", label: %(free)s, note: %(free)s}
  course: {from: loss, format: ".2f"}
  updates: {from: cost/updates, format: ",.0f"}
profiles: {quick: {}, whole: {}}
tables:
  losses:
    {caption: %(free)s, rows: system, columns: [corpus], values: [loss, updates], over: seed,
     cell: "{mean} ± {sd}"}
  steps: {rows: system, values: [loss], over: [seed], where: {corpus: One}}
figures:
  course: {kind: curves, y: loss, series: system, panels: corpus, over: seed, caption: %(free)s}
claims:
  better:
    say: %(free)s
    test: loss[A] < loss[B]
    each: corpus
"""
SHA = re.compile(r"'(sha256-[^']+)'")


def text_of(free="Words.", systems=("A", "B")):
    lines = [
        f"    {json.dumps(label)}: {{set: {{level: {n}.0}}, note: {json.dumps(free)}}}"
        for n, label in enumerate(systems, 1)
    ]
    return SWEEP % {"free": json.dumps(free), "systems": "\n".join(lines)}


def result_of(trial):
    """(cost, test/loss) of a trial, by its labels: what the tests reckon with."""
    level, corpus = trial.config["level"], trial.config["corpus"]
    return 400.0 * level, 10 * corpus + level + trial.seed / 8


def fill(sweep, place, how=lambda trial: "done", *, error="it broke", sample=None):
    """Records of the sweep's trials as `how` says: done, failed or missing; each is four
    measurements long."""
    code = run.code_digest(sweep.trainer)
    for trial in {t.key: t for t in run.expand(sweep, None)}.values():
        if how(trial) == "missing":
            continue
        attempt = place.folder.start(trial, code)
        cost, final = result_of(trial)
        for n in (1, 2, 3, 4):
            values = {"cost/updates": cost * n / 4, "loss": final + 4 - n + trial.seed}
            attempt.measure(cost * n / 4, {**values, "cost/updates_joint": cost * n / 8})
        if sample is not None:
            (attempt.folder / "artifacts").mkdir()
            (attempt.folder / "artifacts" / "said.txt").write_text(sample, encoding="utf-8")
        done = how(trial) == "done"
        result = {**values, "cost/updates_joint": cost / 2, "test/loss": final} if done else {}
        provenance = {"commit": "c0ffee" * 6, "dirty": True, "code_digest": code, "host": "desk"}
        attempt.finish(
            Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done" if done else "failed",
                result=result,
                seconds=90.0,
                error=None if done else error,
                provenance={**provenance, "device": "cpu", "peak_memory_bytes": 5 * 10**8},
            )
        )


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS))


@pytest.fixture
def place(tmp_path):
    return run.Place(store=tmp_path / "runs")


def report(sweep, place):
    plan = run.look(sweep, place)
    said = {"again": "sweeper run toy.yaml", "retry": "run again {}".format, "repair": "mend it"}
    return run.report(sweep, plan, place, **said)


def made(place, how=lambda trial: "done", profile="quick", **more):
    sweep = parse(text_of(**more.pop("words", {})), "toy.yaml", profile=profile)
    fill(sweep, place, how, **more)
    return report(sweep, place)


# ---- what it is made of


def sha(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def check_policy(page):
    """Nothing from outside, nothing that runs but the one script that the policy names."""
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert SHA.findall(rules["style-src"]) == [sha(page.one("style").text)]
    assert SHA.findall(rules["script-src"]) == [sha(page.one("script").text)]
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy
    for element in page.walk():
        for name, value in element.attributes.items():
            assert not name.startswith("on"), (name, value)
            assert name not in ("style", "action", "srcdoc", "autofocus")
            if name in ("href", "src"):
                assert value.startswith("#" if name == "href" else "data:image/png;base64,")
    for address in ("http:", "https:", "url(", "@import", "//"):
        assert address not in page.one("style").text + page.one("script").text
    ids = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in page.walk():
        for name in ("popovertarget", "aria-labelledby"):
            assert element.attributes.get(name, ids[0]) in ids
        if element.name == "a":
            assert element.attributes["href"][1:] in ids


def test_it_says_what_there_is(place, read):
    page = read(made(place))
    check_policy(page)
    titles = [e.text for e in page.all("h2")]
    assert titles == [
        *("State", "Tables", "Claims", "Words. against updates", "Curves", "Figures", "Cost"),
        "Provenance",
    ]
    assert [e.text for e in page.one("nav").all("a")] == titles
    assert "12 of 12 trials done." in page.called("state").text
    assert "Profile quick." in page.one("header").text
    assert "reproduce nothing that was published" in page.one("header").text
    facts = page.called("provenance").text
    for fact in ("c0ffeec0ffee with changes", "desk", "cpu"):
        assert fact in facts


def test_another_profile_is_called_by_its_name(place, read):
    said = read(made(place, profile="whole")).one("header").text
    assert "Profile whole." in said
    assert "quick" not in said


def test_a_card_has_the_runs_behind_its_number(place, read):
    sweep = parse(text_of(), "toy.yaml")
    page = read(made(place))
    trials = [t for t in run.expand(sweep, None) if t.labels["corpus"] == "Two"]
    trials = [t for t in trials if t.labels["system"] == "B"]
    _, row = page.called("table-losses").all("table")[0].rows()
    assert row[0].text == "B†"
    button = row[3].one("button")  # One: loss, updates; Two: loss
    assert button.text == "22.12 ± 0.12"  # 22 + (0 + 1 + 2) / 8 / 3, sd of 0 1/8 2/8
    card = page.called(button.attributes["popovertarget"])
    lines = [[td.text for td in tr.all("td")] for tr in card.one("tbody").all("tr")]
    assert lines == [
        [f"seed {t.seed}", f"{22 + t.seed / 8:.6g}", "800", "1:30", t.id] for t in trials
    ]
    for said in ("B · Two · Words.", "3 of 3 runs", "commit c0ffeec0ffee", "code "):
        assert said in card.text


SCORED = """\
name: toy
trainer: {function: "toy_trainers:keeps", config: toy_config}
axes:
  corpus: {One: {lr: 1}, Two: {lr: 2}}
  decoder: {Greedy: {evaluate.samples: 1}, Beam: {evaluate.samples: 2}}
  size: {10: {kl.start: 1}, 20: {kl.start: 2}}
  seed: [0, 1, 2]
metrics:
  loss: {from: test/loss, goal: min, format: ".1f"}
profiles: {quick: {}}
tables:
  losses: {rows: size, columns: [corpus], values: [loss], over: [seed, decoder], %s}
"""


def fill_scored(sweep, place, how=lambda trial: "done"):
    """Of a training: 100 corpus + size + seed by Greedy, 1 more by Beam, at 40 or 80 updates."""
    code = run.code_digest(sweep.trainer)
    for trial in run.expand(sweep, None):
        if how(trial) == "missing":
            continue
        at = trial.labels
        loss = {"One": 100, "Two": 200}[at["corpus"]] + int(at["size"]) + trial.seed
        loss += at["decoder"] == "Beam"
        values = {"cost/updates": 4.0 * int(at["size"]), "test/loss": float(loss)}
        attempt = place.folder.start(trial, code)
        attempt.measure(values["cost/updates"], values)
        attempt.finish(
            Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done",
                result=values,
                seconds=1.0,
                provenance={"code_digest": code},
            )
        )


@pytest.mark.parametrize("at", ['cell: "{mean}"', "at: {updates: 100}"])
def test_each_run_of_a_card_has_its_own_reading(at, place, read):
    sweep = parse(SCORED % at, "toy.yaml")
    fill_scored(sweep, place)
    page = read(report(sweep, place))
    button = page.called("table-losses").all("table")[0].rows()[0][1].one("button")
    assert button.text.startswith("111.5")  # 110 + 0, 1, 2, and half of Beam's 1
    card = page.called(button.attributes["popovertarget"])
    lines = [[td.text for td in tr.all("td")] for tr in card.one("tbody").all("tr")]
    assert sorted((line[0], line[1]) for line in lines) == [
        (f"seed {seed}, decoder {decoder}", str(110 + seed + more))
        for seed in (0, 1, 2)
        for decoder, more in (("Beam", 1), ("Greedy", 0))
    ]


def test_a_front_is_of_whole_points_of_one_combination_of_columns(place):
    text = SCORED.replace("columns: [corpus]", "columns: [corpus, half]")
    text = text.replace("  size:", "  half: {L: {kl.epochs: 1}, R: {kl.epochs: 2}}\n  size:")
    sweep = parse(text % 'cell: "{mean}"', "toy.yaml")
    lost = {"corpus": "One", "half": "L", "size": "10"}

    def how(trial):
        short = lost.items() <= trial.labels.items() and trial.seed > 0
        return "missing" if short else "done"

    fill_scored(sweep, place, how)
    _, spots = _spots(sweep, run.look(sweep, place), places_of(sweep), ("10", "20"))
    found = {(s.column, s.system): (s.values, s.points, s.cost, s.front) for s in spots}
    assert len(found) == 2 * 2 * 2
    assert found["One · L", "10"] == ((110.5,), 3, 40.0, False)  # one of three trainings
    assert found["One · L", "20"] == ((120.5, 121.5, 122.5), 3, 80.0, True)
    assert found["One · R", "10"] == ((110.5, 111.5, 112.5), 3, 40.0, True)
    assert found["One · R", "20"] == ((120.5, 121.5, 122.5), 3, 80.0, False)
    assert found["Two · L", "10"][3]  # worse than all of the others' plots
    page = report(sweep, place)
    assert "110.5 at 40 updates (n=1 of 3)" in page
    assert "n=k of more: short of runs" in page


PINNED = """\
name: toy
trainer: {function: "toy_trainers:countdown"}
axes:
  corpus: {One: {corpus: 1}, Two: {corpus: 2}}
  kind: {Plain: {kind: 0}, Latent: {kind: 1}}
  annealing: {W.O.: {ann: 0}, With: {ann: 1}}
  cycles: {values: [2, 4], when: kind == 'Latent'}
  seed: [0, 1]
metrics: {loss: {from: test/loss, goal: min, format: ".0f"}}
profiles: {quick: {}}
tables:
  main:
    {rows: kind, columns: [corpus], where: {annealing: With, cycles: 4}, values: [loss],
     over: seed}
  other:
    {rows: annealing, columns: [kind], where: {corpus: One, cycles: 4}, values: [loss],
     over: seed}
"""


def test_what_a_where_pins_is_on_a_front_of_its_own(place, read):
    """Plain, for which there are no cycles, is beside either number of them."""
    sweep = parse(PINNED, "toy.yaml")
    places = places_of(sweep)
    assert told_apart(sweep, places) == ("corpus", "annealing", "cycles")  # kind: the systems
    code = run.code_digest(sweep.trainer)
    for trial in run.expand(sweep, None):
        at = trial.labels
        loss = 100.0 if at["kind"] == "Plain" else {"2": 50.0, "4": 70.0}[at["cycles"]]
        loss -= 40 * (at["annealing"] == "W.O.")
        attempt = place.folder.start(trial, code)
        attempt.finish(
            Record(
                trial_id=trial.id,
                evaluation_id=trial.evaluation_id,
                state="done",
                result={"cost/updates": 10.0 if at["kind"] == "Plain" else 20.0, "test/loss": loss},
                seconds=1.0,
                provenance={"code_digest": code},
            )
        )
    _, spots = _spots(sweep, run.look(sweep, place), places, ("Plain", "Latent"))
    found = {(s.column, s.system): (s.values, s.front) for s in spots}
    assert len(found) == len(spots) == 2 * 2 * 2 * 2
    for corpus in ("One", "Two"):
        for annealing, less in (("With", 0.0), ("W.O.", 40.0)):
            for cycles, loss in (("2", 50.0), ("4", 70.0)):
                column = f"{corpus} · {annealing} · cycles {cycles}"
                assert found[column, "Plain"] == ((100.0 - less,) * 2, True)
                assert found[column, "Latent"] == ((loss - less,) * 2, True)
    # What the first table shows comes first.
    order = list(dict.fromkeys(spot.column for spot in spots))
    assert order[:2] == ["One · With · cycles 4", "Two · With · cycles 4"]
    page = read(report(sweep, place)).called("pareto")
    assert "for each combination of corpus, annealing, cycles" in page.text
    assert "what has no cycles is in the plot of each" in page.text
    assert "2 plots more, of other levels" in page.one("details").one("summary").text
    titles = [f.one("figcaption").text for f in page.all("figure")]
    assert titles == order


def test_a_claim_has_its_verdict_and_numbers(place, read):
    claim = read(made(place)).one("article", of="claim")
    assert claim.one("span", of="verdict").text == "undecided"  # always 1 apart: no test of it
    assert "Words." in claim.one("h3").text
    assert [e.text for e in claim.one("tbody").all("th")] == ["One", "Two"]
    assert "loss[A] 11.12 − loss[B] 12.12 = −1.00" in claim.text


def test_cost_is_that_of_the_records(place, read):
    rows = read(made(place)).called("cost").one("tbody").all("tr")
    found = {row.one("th").text: [td.text for td in row.all("td")][:4] for row in rows}
    # 6 trials of 400 updates, 6 of 800, half of them joint, 90 s of each.
    assert found["A"][:3] == ["6 of 6", "2,400", "1,200"]
    assert found["B"][:3] == ["6 of 6", "4,800", "2,400"]
    assert found["all"][:3] == ["12 of 12", "7,200", "3,600"]


def test_nothing_recorded_yet(place, read):
    page = read(report(parse(text_of(), "toy.yaml"), place))
    check_policy(page)
    state = page.called("state").text
    assert "0 of 12 trials done." in state
    assert "filled by sweeper run toy.yaml" in state
    assert "no curve yet" in page.called("curves").text
    assert "Nothing was spent yet." in page.called("cost").text
    rows = page.called("table-losses").all("table")[0].rows()
    assert {cell.all("button")[0].text for row in rows for cell in row[1:]} == {"missing"}


def test_what_failed_is_said_with_its_reason(place, read):
    how = {"0": "failed", "1": "missing", "2": "done"}
    page = read(made(place, lambda t: how[t.labels["seed"]], error="no <memory> left"))
    state = page.called("state")
    assert "4 of 12 trials done." in state.text
    assert "What is failed is run again by run again failed." in state.text
    lines = [tuple(td.text for td in tr.all("td")[:2]) for tr in state.one("tbody").all("tr")]
    assert lines == [("failed", "no <memory> left")] * 4 + [("missing", "not run yet")] * 4
    card = page.called(page.called("table-losses").all("button")[0].attributes["popovertarget"])
    values = [tr.all("td")[1].text for tr in card.one("tbody").all("tr")]
    assert values == ["failed", "missing", "11.25"]
    assert "1 of 3 runs; 1 failed; 1 missing" in card.text


def test_samples_are_of_the_least_seed_and_cut(place, read):
    text = "first  line\n\t<b>second</b>\n" + "x" * MOST_CHARACTERS
    samples = read(made(place, sample=text)).called("samples")
    shown = samples.all("details")
    assert [d.one("summary").text for d in shown] == [
        "A One · A · seed 0 · said.txt",
        "B One · B · seed 0 · said.txt",
    ]
    assert shown[0].one("pre").text == "\n" + text[:MOST_CHARACTERS]
    assert f"{len(text) - MOST_CHARACTERS} characters more" in shown[0].text


def test_a_damaged_text_costs_its_own_place(place, read):
    sweep = parse(text_of(), "toy.yaml")
    fill(sweep, place, sample="fine")
    first = run.expand(sweep, None)[0]
    (place.folder.path(first.id) / "artifacts" / "said.txt").write_text("changed")
    page = read(report(sweep, place))
    assert [e.text for e in page.called("samples").all("pre")] == ["\nfine"]
    notes = page.called("provenance").text
    assert f"could not be read: trials/{first.id}/artifacts/said.txt" in notes
    assert str(place.store) not in notes


@pytest.mark.parametrize("free", HOSTILE, ids=ascii)
def test_what_people_wrote_comes_back_as_text(free, place, read):
    words = {"free": free, "systems": ("A", "B", free)}
    how = {"0": "done", "1": "failed", "2": "done"}
    odd = free + ODD
    whole = made(
        place, lambda t: how[t.labels["seed"]], words=words, error=odd, sample=f"{odd}\nnext"
    )
    page = read(whole)
    check_policy(page)
    said = plain(free)
    assert page.one("p", of="lead").text == said
    assert plain(odd) in [e.text for e in page.called("state").all("td", of="text")]
    assert page.one("article", of="claim").one("h3").text.endswith(said)
    heads = [e.text.rstrip("†‡§¶‖#") for e in page.called("table-losses").all("th")]
    assert heads.count(said) >= 3  # a row, and the metric over two columns
    assert said in [e.text for e in page.called("curves").one("fieldset").all("span")]
    caption = page.called("figure-course").all("figcaption")[0]
    assert caption.text == plain(f"course: {free}")
    shown = page.called("samples").all("pre")[0].text
    assert shown == f"\n{free}␛[31m nul␀ right [U+202E]to left\nnext"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", whole)


def test_it_knows_no_metric_by_name():
    for path in (ROOT / "sweeper" / "report").glob("*.py"):
        assert not re.search(r"nll|valid/|test/|perplexity", path.read_text(), re.IGNORECASE), path


def test_it_is_the_same_each_time(place):
    sweep = parse(text_of(), "toy.yaml")
    fill(sweep, place)
    assert report(sweep, place) == report(sweep, place)


@pytest.mark.slow
def test_a_thousand_trials(place, read):
    systems = [f"S{n}" for n in range(168)]
    sweep = parse(text_of(systems=("A", "B", *systems)), "toy.yaml")
    fill(
        sweep, place, lambda t: "failed" if t.seed == 1 and t.labels["corpus"] == "Two" else "done"
    )
    began = time.monotonic()
    whole = report(sweep, place)
    took = time.monotonic() - began
    page = read(whole)
    assert "850 of 1,020 trials done." in page.called("state").text
    assert "the first 40 of 170" in page.called("state").text
    assert "The first 400 of 1020 runs" in page.called("provenance").text
    assert len(whole) < 6_000_000
    assert took < 60


# ---- drawings


def test_a_front_is_what_nothing_beats():
    draws = random.Random(0)
    for sign in (1.0, -1.0):
        spots = [
            Spot(
                column=draws.choice("ab"),
                system="s",
                place=0,
                labels=str(n),
                cost=float(draws.randrange(6)),
                values=(float(draws.randrange(6)),),
                points=draws.choice([1, 1, 2]),
            )
            for n in range(60)
        ]
        for spot in spots:
            beaten = spot.points == 2  # with one value
            for other in [s for s in spots if s.points == 1]:
                better = sign * other.mean < sign * spot.mean
                as_good = sign * other.mean <= sign * spot.mean
                cheaper, as_cheap = other.cost < spot.cost, other.cost <= spot.cost
                if other.column == spot.column and as_good and as_cheap and (better or cheaper):
                    beaten = True
            assert on_front(spot, spots, sign) == (not beaten)


def test_ticks():
    assert drawing.steps(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert drawing.steps(-0.13, 0.13, 5) == pytest.approx([-0.1, 0, 0.1])
    assert drawing.decades(80, 12_000) == pytest.approx(
        [100, 200, 500, 1000, 2000, 5000, 10_000][::3]
    )
    assert drawing.decades(3, 300) == pytest.approx([5, 10, 20, 50, 100, 200])
    assert drawing.written([0, 50_000, 100_000]) == ["0", "50k", "100k"]
    assert drawing.written([-0.5, 0, 0.5]) == ["−0.5", "0.0", "0.5"]
    assert drawing.written([2000, 4000]) == ["2,000", "4,000"]
    assert drawing.written([0.0, 2e-5]) == ["0.0e+00", "2.0e−05"]
    for _ in range(200):
        low, width = random.uniform(-1e6, 1e6), 10 ** random.uniform(-6, 6)
        ticks = drawing.steps(low, low + width, 5)
        assert 2 <= len(ticks) <= 6
        assert all(low - width / 1e6 <= tick <= low + width * 1.000001 for tick in ticks)


def test_a_curve_is_where_its_numbers_are(read):
    line = Line(
        label="a",
        place=1,
        xs=(0.0, 100.0),
        means=(1.0, 3.0),
        lows=(0.0, 2.0),
        highs=(2.0, 9.0),
        n=3,
    )
    svg = read(drawing.curves([line], "updates", "clip-1"))
    # 0..100 over the width between the margins; 1..3 and a twentieth more on both sides.
    top, bottom = drawing.TOP, drawing.HEIGHT - drawing.BOTTOM
    left, right = drawing.LEFT, drawing.WIDTH - drawing.RIGHT

    def height(value):
        return bottom - (value - 0.9) / (3.1 - 0.9) * (bottom - top)

    (path,) = svg.all("path", of="line")
    numbers = [float(n) for n in re.findall(r"[\d.]+", path.attributes["d"])]
    assert numbers == pytest.approx([left, height(1), right, height(3)], abs=0.06)
    (band,) = svg.all("path", of="band")
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", band.attributes["d"])]
    edges = [left, height(2), right, height(9), right, height(2), left, height(0)]
    assert numbers == pytest.approx(edges, abs=0.06)
    assert path.one("title").text == "a"
    assert path.classes == {"line", "s", "s1", "c1"}


def test_a_stepped_curve_keeps_its_value_until_the_next():
    assert drawing.through([(0, 5), (10, 3), (20, 4)], stepped=True) == "M0 5H10V3H20V4"
    # The same corners on the way back: at 10 the height changes, not at 20.
    back = drawing.through([(20, 4), (10, 3), (0, 5)], stepped=True, backward=True)
    assert back == "M20 4V3H10V5H0"


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    points = [(float(n), float(n)) for n in range(10_000)]
    thin = drawing.thinned(points)
    assert (len(thin), thin[0], thin[-1]) == (drawing.MOST_POINTS, points[0], points[-1])
    assert thin == sorted(set(thin))


def test_points_are_drawn_apart_and_named_on_the_front(read):
    marks = [
        drawing.Mark(
            label=f"m{n}", place=n, x=x, y=y, low=y - 1, high=y + 1, says=f"m{n}!", front=f
        )
        for n, (x, y, f) in enumerate([(10, 5, True), (1000, 3, True), (1000, 9, False)])
    ]
    svg = read(drawing.pareto(marks, "updates"))
    dots = svg.all("circle")
    assert len(dots) == 3
    assert len({float(d.attributes["cx"]) for d in dots}) == 2
    assert [t.text for t in svg.all("text", of="name")] == ["m0", "m1"]
    assert {g.one("title").text for g in svg.all("g")} == {"m0!", "m1!", "m2!"}
    assert len(svg.all("path", of="front")) == 1


@pytest.mark.parametrize("seconds", [0.0, 8.94, 59.9, 60, 3599, 3600, 36_000])
def test_times(seconds):
    said = {0.0: "0.0 s", 8.94: "8.9 s", 59.9: "59.9 s", 60: "1:00", 3599: "59:59"}
    assert runs.clock(seconds) == (said | {3600: "1:00:00", 36_000: "10:00:00"})[seconds]


# ---- as a person opens it

OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def hostile_page(place, tmp_path):
    """Everything at once: hostile words, failures, samples, curves."""
    free = " ".join(HOSTILE)
    how = {"0": "done", "1": "failed", "2": "done"}
    systems = ("A", "B", *HOSTILE)
    text = made(
        place,
        lambda t: how[t.labels["seed"]],
        words={"free": free, "systems": systems},
        error=free + ODD,
        sample=free * 3 + ODD,
    )
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_it_opens_without_an_error_and_fits(width, hostile_page, browser):
    browser.open(hostile_page, width)
    for details in ("false", "true"):
        browser.value(f"document.querySelectorAll('details').forEach(d => d.open = {details})")
        assert browser.value(OVER) == 0
    assert browser.value("typeof hacked") == "undefined"
    assert browser.said == []
    # The script runs, and no other would.
    script = "Object.assign(document.createElement('script'), {text: 'hacked = 1'})"
    browser.value(f"document.body.append({script})")
    assert browser.value("typeof hacked") == "undefined"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_cards_open_by_pointing_by_the_keyboard_and_by_a_press(width, place, tmp_path, browser):
    path = tmp_path / "report.html"
    path.write_text(made(place), encoding="utf-8")
    opened = "document.querySelectorAll('.card:popover-open').length"
    button = "document.querySelector('button.behind')"
    inside = (
        "(() => { const r = document.querySelector('.card:popover-open').getBoundingClientRect();"
        " return r.left >= 0 && r.top >= 0 && r.right <= innerWidth && r.bottom <= innerHeight;"
        " })()"
    )

    def middle():
        box = f"{button}.getBoundingClientRect()"
        return browser.value(f"[{box}.x + {box}.width / 2, {box}.y + {box}.height / 2]")

    browser.open(path, width)
    browser.value(f"{button}.scrollIntoView({{block: 'center'}})")
    browser.point(*middle())
    browser.until(f"{opened} === 1")
    assert browser.value(inside)
    browser.point(2, 2)
    browser.until(f"{opened} === 0")
    browser.value("document.querySelector('#table-losses .scroll').focus()")
    browser.press("Tab")
    browser.until(f"{opened} === 1")
    browser.press("Escape")
    browser.until(f"{opened} === 0")
    assert browser.said == []
    # And where scripts are off, by a press.
    browser.open(path, width, scripts=False)
    browser.value(f"{button}.scrollIntoView({{block: 'center'}})")
    browser.point(*middle(), click=True)
    browser.until(f"{opened} === 1")
    assert browser.value(inside)
    browser.press("Escape")
    browser.until(f"{opened} === 0")
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.slow
def test_a_choice_brings_a_series_forward(place, tmp_path, browser):
    path = tmp_path / "report.html"
    path.write_text(made(place), encoding="utf-8")
    browser.open(path, 1280)
    shown = (
        "[0, 1].map(n => getComputedStyle("
        "document.querySelector(`#curves .plot .line.s${n}`)).opacity)"
    )
    assert browser.value(shown) == ["1", "1"]
    browser.value("document.querySelector('#curves input.p1').click()")
    assert browser.value(shown) == ["0.1", "1"]


# ---- the verb


def test_the_verb_writes_it_beside_the_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(text_of())
    store = tmp_path / "runs"
    fill(parse(text_of(), "toy.yaml"), run.Place(store=store))
    done = CliRunner().invoke(main, ["report", "toy.yaml"])
    assert (done.exit_code, done.output) == (0, "runs/tables/toy.quick/report.html\n")
    text = (store / "tables/toy.quick/report.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    done = CliRunner().invoke(main, ["report", "toy.yaml", "--out", "sent/it.html"])
    assert (done.exit_code, done.output) == (0, "sent/it.html\n")
    assert Path("sent/it.html").read_text(encoding="utf-8") == text


def test_a_table_as_html(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(text_of())
    done = CliRunner().invoke(main, ["table", "toy.yaml", "losses", "--format", "html"])
    assert done.exit_code == 0, done.output
    assert read(done.output).one("figure").attributes["id"] == "table-losses"


def test_a_damaged_record_is_said_and_is_no_number(place, tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(text_of())
    sweep = parse(text_of(), "toy.yaml")
    fill(sweep, place)
    first = run.expand(sweep, None)[0]
    (path,) = place.folder.path(first.id).glob("result-*.json")
    path.write_text(path.read_text().replace('"seconds":90.0', '"seconds":91.0'))
    done = CliRunner().invoke(main, ["report", "toy.yaml", "--store", str(place.store)])
    assert done.exit_code == 6
    page = read((place.tables(sweep) / "report.html").read_text(encoding="utf-8"))
    check_policy(page)
    state = page.called("state").text
    assert "11 of 12 trials done." in state
    assert "1 corrupt" in state
    assert "goes by sweeper gc --corrupt --delete" in state
    assert path.name in state
    assert str(place.store / "trials") not in state
    card = page.called(page.called("table-losses").all("button")[0].attributes["popovertarget"])
    assert [row[1].text for row in card.one("table").rows()] == ["corrupt", "11.125", "11.25"]


def test_planning_does_not_load_it():
    code = (
        "import sys; import sweeper.cli, sweeper.run, sweeper.render; "
        "print([m for m in sys.modules if m.startswith(('sweeper.report.', 'matplotlib'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
