"""Figures: what is plotted against plain computations, what is left out and said, and files
that are what they say they are. No picture is compared with an earlier one."""

from __future__ import annotations

import io
import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sweeper.cli import main
from sweeper.errors import CorruptRecord, SpecError
from sweeper.figures import Cloud, Figure, Line, Panel, compose, draw
from sweeper.figures.courses import common_grid, course_of, mean_and_band
from sweeper.figures.looks import COLOURS, DASHES, look_of
from sweeper.figures.points import cloud_of, on_sphere, principal
from sweeper.record import Measurement, Record
from sweeper.spec import parse
from sweeper.spec.sweep import Curves, Scatter
from sweeper.track.folder import Folder
from sweeper.trial import Trial

# ---- what a file may say

HEAD = """\
name: t
trainer: a:b
profiles: {quick: {}}
axes:
  dataset: {Yahoo: {data: yahoo}, Yelp: {data: yelp}}
  model: {LM: {}, Max: {pooling: max}}
  seed: [0, 1, 2]
metrics: {kl: {from: valid/kl, label: KL, unit: nats}, updates: {from: cost/updates, scale: 1e-3}}
figures:
"""  # the line after it is line 10


def figure_of(text):
    return parse(f"{HEAD}  f: {text}\n", "s.yaml").figures["f"]


def test_curves_with_everything():
    found = figure_of(
        "{kind: curves, x: updates, y: [kl, valid/cosine], series: {axis: model, only: [Max]}, "
        "panels: dataset, over: seed, band: ci95, labels: {Max: MaxPool}, caption: C, "
        "x_label: cost, y_labels: {valid/cosine: cos}, write: pdf}"
    )
    assert (found.name, found.mark.line) == ("f", 10)
    assert (found.x, found.y) == ("updates", ("kl", "valid/cosine"))
    assert (found.series, found.series_only, found.panels) == ("model", ("Max",), "dataset")
    assert (found.over, found.where, found.band) == (("seed",), {}, "ci95")
    assert (found.labels, found.y_labels) == ({"Max": "MaxPool"}, {"valid/cosine": "cos"})
    assert (found.caption, found.x_label, found.write) == ("C", "cost", ("pdf",))


def test_what_curves_need_not_say():
    found = figure_of("{kind: curves, y: kl, series: model, over: [dataset, seed]}")
    assert (found.x, found.band, found.panels) == ("cost/updates", "range", None)
    assert found.write == ("png", "pdf")


def test_scatter_with_everything():
    found = figure_of(
        "{kind: scatter, artifact: some/f.npz, array: features, colour: topic, panels: model, "
        "rows: dataset, where: {seed: 0}}"
    )
    assert isinstance(found, Scatter)
    assert (found.artifact, found.array, found.colour) == ("some/f.npz", "features", "topic")
    assert (found.panels, found.rows, found.where) == ("model", "dataset", {"seed": "0"})


BAD = {
    "3": "10:6: figures.f must be a mapping, not 3",
    "{}": "10:3: figures.f needs 'kind'",
    "{kind: curvs}": (
        "10:13: figures.f.kind must be one of curves, scatter, pareto, importance, history, "
        "slices, parallel, not 'curvs'"
    ),
    "{kind: curves}": "10:3: figures.f needs 'y'\n10:3: figures.f needs 'series'",
    "{kind: curves, y: kl, series: model, over: seed}": (
        "10:3: figures.f does not say what to do with axis 'dataset': "
        "put it in series, panels, where or over"
    ),
    "{kind: curves, y: kl, series: model, panels: dataset, over: seed, where: {seed: 0}}": (
        "10:3: figures.f uses axis 'seed' 2 times"
    ),
    "{kind: curves, y: lk, series: modle, panels: dataset, over: seed}": (
        "10:24: unknown metric or result key 'lk' in figures.f; one of kl, updates\n"
        "10:36: unknown axis 'modle' in figures.f; did you mean 'model'? "
        "one of dataset, model, seed"
    ),
    "{kind: curves, y: kl, series: {axis: model, only: max}, over: [seed, dataset]}": (
        "10:56: unknown series 'max' in figures.f.series; did you mean 'Max'? one of LM, Max"
    ),
    "{kind: curves, y: [], x: [kl], series: model, over: [seed, dataset], band: sdd}": (
        "10:3: figures.f shows nothing: name a metric in y\n"
        "10:31: figures.f.x must be one name, not a list\n"
        "10:81: figures.f.band must be range or ci95 or sd, not 'sdd'"
    ),
    "{kind: curves, y: kl, series: model, over: [seed, dataset], y_labels: {lk: K}, write: svg}": (
        "10:77: unknown value 'lk' in figures.f.y_labels; one of kl\n"
        "10:92: unknown format 'svg' in figures.f; one of pdf, png"
    ),
    "{kind: curves, y: kl, series: model, over: [seed, dataset], labels: {Min: M}}": (
        "10:75: unknown label 'Min' in figures.f.labels; one of LM, Max"
    ),
    "{kind: curves, y: kl, series: model, over: [seed, dataset], array: a}": (
        "10:66: unknown key 'array' in figures.f; one of band, caption, kind, labels, over, "
        "panels, series, where, write, x, x_label, y, y_labels"
    ),
    "{kind: scatter, artifact: ../f.npz, array: f, panels: model, where: {seed: 0}}": (
        "10:3: figures.f does not say what to do with axis 'dataset': "
        "put it in panels, rows or where\n"
        "10:32: figures.f.artifact must be an .npz file among a trial's artifacts, such as "
        "features.npz, not '../f.npz'"
    ),
    "{kind: scatter, array: f, panels: model, where: {seed: 3, dataset: Yelp}}": (
        "10:3: figures.f needs 'artifact'\n"
        "10:61: unknown level of seed '3' in figures.f; one of 0, 1, 2"
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_what_is_refused(text, message):
    with pytest.raises(SpecError) as caught:
        figure_of(text)
    assert [str(p) for p in caught.value.problems] == [f"s.yaml:{s}" for s in message.split("\n")]


def test_figures_are_imported_like_tables(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    line = "  f: {kind: curves, y: kl, series: model, panels: dataset, over: seed}\n"
    (tmp_path / "one.yaml").write_text(HEAD + line)
    text = (
        "name: two\nimport: {from: one.yaml, take: [trainer, profiles, axes, metrics, figures.f]}\n"
        "figures: {f: {band: sd}}\n"
    )
    (tmp_path / "two.yaml").write_text(text)
    found = parse(text, tmp_path / "two.yaml").figures["f"]
    assert isinstance(found, Curves)
    assert (found.series, found.band) == ("model", "sd")


# ---- courses


def measured(*points, key="valid/kl"):
    """(cost, value) pairs as a history."""
    return [Measurement(cost=cost, values={key: value}, at=0.0) for cost, value in points]


def test_a_course_keeps_the_first_value_at_a_cost_and_skips_what_was_not_recorded():
    history = [
        *measured((10, 1.0), (20, 3.0)),
        Measurement(cost=25, values={"train/loss": 9.0}, at=0.0),
        *measured((30, 2.0), (30, 3.0)),  # the result: the best epoch's value once more
    ]
    assert course_of(history, "cost/updates", "valid/kl") == [(10, 1.0), (20, 3.0), (30, 2.0)]
    scaled = course_of(history, "cost/updates", "valid/kl", 0.5, 10.0)
    assert scaled == [(5.0, 10.0), (10.0, 30.0), (15.0, 20.0)]


def test_any_recorded_key_may_be_x():
    history = [
        Measurement(cost=c, values={"cost/epochs": e, "a": a}, at=0.0)
        for c, e, a in [(7, 1.0, 0.5), (9, 2.0, 0.25)]
    ]
    assert course_of(history, "cost/epochs", "a") == [(1.0, 0.5), (2.0, 0.25)]


def test_on_one_grid_the_line_is_the_mean_of_each_column():
    ys = [[1.0, 4.0, 2.0], [3.0, 5.0, 2.0], [8.0, 6.0, 5.0]]
    courses = [list(zip([10, 20, 30], y, strict=True)) for y in ys]
    assert mean_and_band(courses, "range") == (
        [10, 20, 30],
        [4.0, 5.0, 3.0],
        [1.0, 4.0, 2.0],
        [8.0, 6.0, 5.0],
    )


def test_on_grids_of_their_own_courses_keep_their_last_value():
    # Common range 10..40. At 15 the first still has 1, at 30 the second still has 6.
    first = [(0, 9.0), (10, 1.0), (30, 3.0), (40, 5.0)]
    second = [(10, 2.0), (15, 6.0), (40, 7.0), (90, 100.0)]
    xs, means, lows, highs = mean_and_band([first, second], "range")
    assert xs == [10, 15, 30, 40]
    assert means == [1.5, 3.5, 4.5, 6.0]
    assert (lows, highs) == ([1.0, 1.0, 3.0, 5.0], [2.0, 6.0, 6.0, 7.0])


def test_against_a_plain_loop_over_every_x():
    random = np.random.default_rng(0)
    courses = []
    for _ in range(5):
        xs = np.sort(random.choice(200, size=30, replace=False))
        courses.append([(int(x), float(random.normal())) for x in xs])
    xs, means, lows, highs = mean_and_band(courses, "sd")
    first, last = max(c[0][0] for c in courses), min(c[-1][0] for c in courses)
    assert xs == [
        x for x in range(200) if first <= x <= last and any(x in dict(c) for c in courses)
    ]
    for x, mean, low, high in zip(xs, means, lows, highs, strict=True):
        values = []
        for course in courses:
            value = math.nan
            for at, y in course:
                if at <= x:
                    value = y
            values.append(value)
        assert mean == pytest.approx(np.mean(values))
        assert (low + high) / 2 == pytest.approx(mean)
        assert (high - low) / 2 == pytest.approx(np.std(values, ddof=1))


def test_half_a_t_interval():
    # sd = 1, t(2) = 4.303: 4.303 / sqrt(3) = 2.484
    _, means, lows, highs = mean_and_band([[(1, 1.0)], [(1, 2.0)], [(1, 3.0)]], "ci95")
    assert means == [2.0]
    assert (lows[0], highs[0]) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)


def test_one_course_has_no_band_and_courses_apart_no_line():
    assert mean_and_band([[(1, 5.0), (2, 6.0)]], "sd") == ([1, 2], [5.0, 6.0], [], [])
    assert common_grid([[(1, 0.0), (2, 0.0)], [(3, 0.0)]]) == []
    assert mean_and_band([[(1, 0.0)], [(3, 0.0)]], "range") == ([], [], [], [])


# ---- points


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_three_units_are_points_on_the_unit_sphere():
    found = on_sphere(np.array([[3.0, 0.0, 4.0], [0.0, -2.0, 0.0], [0.0, 0.0, 0.0]]))
    assert found.tolist() == [[0.6, 0.0, 0.8], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    random = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    cloud = cloud_of(npz(features=random), "features")
    assert cloud.made == "scaled"
    assert (cloud.points**2).sum(axis=1) == pytest.approx(np.ones(50))
    for point, feature in zip(cloud.points, random, strict=True):
        assert point @ feature == pytest.approx(math.sqrt(feature @ feature))


def test_two_units_are_drawn_as_they_are():
    features = np.array([[3.0, 4.0], [-1.0, 0.5]])
    cloud = cloud_of(npz(features=features, topic=np.array([0, 1])), "features", "topic")
    assert cloud.points.tolist() == features.tolist()
    assert cloud.colours.tolist() == [0.0, 1.0]


def test_more_units_are_projected_as_a_singular_value_decomposition_does():
    features = np.random.default_rng(2).normal(size=(80, 7)) * [5, 1, 0.2, 3, 0.1, 1, 1] + 4
    points, shares = principal(features)
    u, s, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    expected = u[:, :2] * s[:2]
    for axis in range(2):  # up to the sign, which a decomposition leaves open
        sign = np.sign(points[0, axis] * expected[0, axis])
        assert points[:, axis] == pytest.approx(sign * expected[:, axis])
    assert shares == pytest.approx(tuple(s[:2] ** 2 / (s**2).sum()))
    cloud = cloud_of(npz(f=features), "f")
    assert cloud.axes == (f"PC 1 ({shares[0]:.0%})", f"PC 2 ({shares[1]:.0%})")


def test_features_that_are_all_the_same_have_no_direction():
    points, shares = principal(np.ones((4, 5)))
    assert np.abs(points).max() == 0
    assert shares == (0.0, 0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(feature=np.ones((2, 3))), "unknown array 'f'; one of feature"),
        (npz(f=np.ones((2, 1))), r"f is \[2, 1\], not \[N, H\] with H at least 2"),
        (npz(f=np.ones(4)), r"f is \[4\], not"),
        (npz(f=np.full((2, 3), np.nan)), "f is not finite numbers throughout"),
        (npz(f=np.array([["a", "b"]])), "f is not finite numbers throughout"),
        (b"PK and no more", "it is no .npz file"),
        (b"", "it is no .npz file"),
    ],
)
def test_what_cannot_be_drawn_is_said(content, message):
    with pytest.raises(ValueError, match=message):
        cloud_of(content, "f")


# ---- composed


def sweep_with(figure, **changes):
    return parse(f"{HEAD}  f: {figure}\n", "s.yaml", **changes)


CURVES = "{kind: curves, y: [kl, valid/cosine], series: model, panels: dataset, over: seed}"
SCATTER = (
    "{kind: scatter, artifact: f.npz, array: f, panels: model, where: {seed: 1, dataset: Yelp}}"
)


def design(sweep):
    for labels in product(*(axis.labels for axis in sweep.axes)):
        at = dict(zip([axis.name for axis in sweep.axes], labels, strict=True))
        yield Trial(
            trainer=sweep.trainer,
            config={"data": at["dataset"].lower(), "model": at["model"]},
            seed=int(at["seed"]),
            labels=at,
        )


def history_of(trial):
    """kl = seed + update for LM, twice that for Max; no cosine under LM."""
    factor = 1.0 if trial.labels["model"] == "LM" else 2.0
    for update in (100, 200):
        values = {"valid/kl": factor * (trial.seed + update)}
        if factor == 2.0:
            values["valid/cosine"] = 0.5
        yield Measurement(cost=update, values=values, at=0.0)


def composed(sweep, states=(), artifacts=None, histories=history_of):
    """`states` is (model, dataset, seed) -> state; all others are done."""
    trials = tuple(design(sweep))
    named = {
        trial.key: dict(states).get(tuple(trial.labels[a] for a in ("model", "dataset", "seed")))
        for trial in trials
    }
    records = {
        trial.key: Record(
            trial_id=trial.id, evaluation_id=trial.evaluation_id, state=named[trial.key] or "done"
        )
        for trial in trials
        if named[trial.key] in (None, "failed", "diverged")
    }
    known = {key: state or "done" for key, state in named.items()}
    for key, state in named.items():
        if state == "stale":
            records[key] = Record(trial_id=key[0], evaluation_id=key[1], state="done")
    return compose(
        sweep.figures["f"],
        sweep,
        trials,
        records,
        states=known,
        histories=histories,
        artifacts=artifacts,
    )


def test_a_row_for_each_value_a_column_for_each_panel_a_line_for_each_series():
    figure = composed(sweep_with(CURVES))
    assert (figure.kind, figure.columns, figure.rows) == (
        "curves",
        ("Yahoo", "Yelp"),
        ("KL (nats)", "valid/cosine"),
    )
    assert figure.x_label == "parameter updates"
    lm, most = figure.panels[0][1].lines
    assert (lm.label, lm.place, lm.n) == ("LM", 0, 3)
    assert (lm.xs, lm.means) == ((100, 200), (101.0, 201.0))
    assert (lm.lows, lm.highs) == ((100.0, 200.0), (102.0, 202.0))
    assert (most.means, most.stepped) == ((202.0, 402.0), False)
    assert [line.label for line in figure.panels[1][0].lines] == ["Max"]
    assert figure.filled
    assert figure.footer == (
        "line: mean over seed (n=3); band: least and greatest",
        "no valid/cosine recorded: Yahoo · LM seed 0, 1, 2; Yelp · LM seed 0, 1, 2",
        "profile quick; data yahoo, yelp",
    )


def test_what_has_no_result_is_left_out_and_said():
    figure = composed(
        sweep_with(CURVES.replace(", valid/cosine", "")),
        {
            ("Max", "Yelp", "0"): "missing",
            ("Max", "Yelp", "2"): "missing",
            ("LM", "Yahoo", "1"): "failed",
            ("LM", "Yelp", "1"): "running",
            ("LM", "Yelp", "2"): "diverged",
            ("Max", "Yahoo", "0"): "stale",
        },
    )
    assert not figure.filled
    assert figure.footer[1:-1] == (
        "failed: Yahoo · LM seed 1",
        "made by code that has changed since: Yahoo · Max seed 0",
        "running: Yelp · LM seed 1",
        "diverged: Yelp · LM seed 2",
        "missing: Yelp · Max seed 0, 2",
    )
    lm, most = figure.panels[0][1].lines
    assert (lm.n, lm.means, lm.lows) == (1, (100.0, 200.0), ())
    assert (most.n, most.means) == (1, (202.0, 402.0))


def test_an_axis_with_one_level_is_not_told():
    sweep = sweep_with(CURVES)
    axes = tuple(
        a if a.name != "dataset" else type(a)(name=a.name, levels=a.levels[:1]) for a in sweep.axes
    )
    figure = composed(replace(sweep, axes=axes), {("Max", "Yahoo", "2"): "missing"})
    assert "missing: Max seed 2" in figure.footer


def test_nothing_at_all_is_one_note_and_still_a_picture():
    sweep = sweep_with(CURVES)
    states = {
        (t.labels["model"], t.labels["dataset"], t.labels["seed"]): "missing" for t in design(sweep)
    }
    figure = composed(sweep, states)
    assert figure.footer == ("missing: all 12 trials", "profile quick; data yahoo, yelp")
    assert Image.open(io.BytesIO(draw(figure, "png"))).format == "PNG"


def test_courses_without_a_common_range_are_drawn_one_by_one():
    def history(trial):
        return measured((100 + 1000 * trial.seed, 1.0), (200 + 1000 * trial.seed, 2.0))

    sweep = sweep_with(
        CURVES.replace(", valid/cosine", "").replace("model", "{axis: model, only: Max}")
    )
    figure = composed(sweep, histories=history)
    lines = figure.panels[0][0].lines
    assert [line.xs for line in lines] == [(100, 200), (1100, 1200), (2100, 2200)]
    assert {(line.label, line.place, line.n, line.lows) for line in lines} == {("Max", 0, 1, ())}
    said = "no cost/updates in common, so drawn one by one: all 6 trials"
    assert figure.footer[:-1] == (said,)


def test_only_some_series_under_other_names_on_a_scaled_axis():
    figure = composed(
        sweep_with(
            "{kind: curves, x: updates, y: kl, series: {axis: model, only: [Max]}, "
            "over: [dataset, seed], labels: {Max: MaxPool}}"
        )
    )
    assert figure.columns == ("",)
    assert figure.x_label == "updates"
    (line,) = figure.panels[0][0].lines
    assert (line.label, line.n, line.xs) == ("MaxPool", 6, (0.1, 0.2))


def test_points_of_one_trial_a_panel():
    asked = []

    def artifacts(trial, name):
        asked.append((trial.labels["model"], trial.labels["dataset"], trial.seed, name))
        return npz(f=np.eye(3)) if trial.labels["model"] == "Max" else None

    figure = composed(sweep_with(SCATTER), artifacts=artifacts)
    assert asked == [("LM", "Yelp", 1, "f.npz"), ("Max", "Yelp", 1, "f.npz")]
    nothing, something = figure.panels[0]
    assert nothing.cloud is None
    assert something.cloud.points.tolist() == np.eye(3).tolist()
    assert figure.footer[:2] == (
        "points: f, each scaled to length 1",
        "no f.npz: LM seed 1 dataset Yelp",
    )


def test_a_file_that_cannot_be_drawn_is_said():
    figure = composed(sweep_with(SCATTER), artifacts=lambda trial, name: npz(g=np.eye(3)))
    assert figure.footer[0] == "f.npz: unknown array 'f'; one of g: all 2 trials"


def test_overrides_are_in_the_picture():
    sweep = sweep_with(CURVES, overrides=["optim.epochs=4"])
    assert composed(sweep).footer[-1].startswith("profile quick; --set optim.epochs=4; data")


# ---- files


def line(place=0, **changes):
    fields = {
        "xs": (1.0, 2.0),
        "means": (3.0, 4.0),
        "lows": (2.0, 3.5),
        "highs": (4.0, 5.0),
        "n": 3,
    }
    return Line(label=f"system {place}", place=place, **{**fields, **changes})


def curves(rows=1, columns=1, lines=2):
    panel = Panel(lines=tuple(line(i, stepped=bool(i)) for i in range(lines)))
    return Figure(
        name="kl",
        kind="curves",
        columns=("Topics",) * columns,
        rows=("KL (nats)",) * rows,
        panels=((panel,) * columns,) * rows,
        x_label="parameter updates",
        footer=("profile quick",),
    )


def cloud(width, colours=None):
    made = {2: "plain", 3: "scaled"}[width]
    points = np.random.default_rng(0).normal(size=(20, width))
    return Cloud(points=points, made=made, axes=("h₁", "h₂", "h₃")[:width], colours=colours)


def scatter(*clouds, colour=None):
    return Figure(
        name="features",
        kind="scatter",
        columns=tuple(f"$_{i}" for i in range(len(clouds))),
        rows=("Topics",),
        panels=(tuple(Panel(cloud=it) for it in clouds),),
        colour=colour,
        footer=("profile quick",),
    )


PICTURES = {
    "one panel": curves(),
    "many": curves(rows=2, columns=2, lines=12),
    "no data": curves(lines=0),
    "a row without": replace(curves(rows=2), panels=(curves().panels[0], (Panel(),))),
    "one point": Figure(
        name="p", kind="curves", columns=("",), rows=("y",),
        panels=((Panel(lines=(line(xs=(1.0,), means=(2.0,), lows=(), highs=()),)),),),
    ),
    "sphere": scatter(cloud(3), None, cloud(3)),
    "plane": scatter(cloud(2), cloud(2)),
    "colours": scatter(cloud(2, np.arange(20.0)), cloud(2, np.zeros(20)), colour="topic"),
}  # fmt: skip


@pytest.mark.parametrize("figure", PICTURES.values(), ids=PICTURES)
def test_a_png_of_the_width_of_a_column_or_a_page_and_a_pdf(figure):
    picture = Image.open(io.BytesIO(draw(figure, "png")))
    assert picture.format == "PNG"
    assert picture.width == (909 if len(figure.columns) == 1 else 1890)  # 3.03 and 6.30 inches
    assert 400 < picture.height < 1500
    assert draw(figure, "pdf").startswith(b"%PDF-")


@pytest.mark.parametrize("style", ["png", "pdf"])
def test_the_same_figure_is_the_same_file_and_changes_no_setting(style):
    import matplotlib

    before = dict(matplotlib.rcParams)
    once = draw(curves(), style)
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):
        assert draw(curves(), style) == once
    assert dict(matplotlib.rcParams) == before
    assert b"CreationDate" not in once


def test_the_footer_goes_into_the_file_too():
    assert Image.open(io.BytesIO(draw(curves(), "png"))).text["Description"] == "profile quick"


def test_no_two_of_thirty_series_look_alike():
    looks = [str(look_of(place)) for place in range(len(COLOURS) * len(DASHES))]
    assert len(set(looks)) == len(looks) == 35


# ---- the folder, and the verb


def test_an_artifact_is_what_the_trial_left_or_nothing(tmp_path):
    folder, trial = Folder(tmp_path), next(design(sweep_with(CURVES)))
    assert folder.artifact(trial.id, "f.npz") is None
    attempt = folder.start(trial)
    path = attempt.folder / "artifacts" / "f.npz"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    attempt.finish(Record(trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done"))
    assert folder.artifact(trial.id, "f.npz") == b"abc"
    assert folder.artifact(trial.id, "../artifacts/f.npz") is None
    path.write_bytes(b"abd")
    with pytest.raises(CorruptRecord, match=r"f\.npz: the checksum does not match"):
        folder.artifact(trial.id, "f.npz")
    path.unlink()
    assert folder.artifact(trial.id, "f.npz") is None


TOY = """\
name: toy
trainer: a_toy_of_figures:train
axes: {level: {low: {level: 1}, high: {level: 2}}, seed: [0, 1]}
profiles: {quick: {}}
figures:
  loss: {kind: curves, y: valid/loss, series: level, over: seed}
  points: {kind: scatter, artifact: f.npz, array: f, panels: level, where: {seed: 0}, write: png}
"""
TRAINER = """\
import numpy as np

def train(config, run):
    (run.folder / "artifacts").mkdir(exist_ok=True)
    np.savez(run.folder / "artifacts/f.npz", f=np.eye(3) * config["level"])
    for update in (1, 2):
        yield {"cost/updates": update, "valid/loss": config["level"] / update + run.seed}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "a_toy_of_figures.py").write_text(TRAINER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield lambda *words: CliRunner().invoke(main, list(words))
    sys.modules.pop("a_toy_of_figures", None)


def test_the_verb_draws_what_there_is(toy):
    done = toy("figure", "toy.yaml", "loss", "--format", "png")
    assert done.exit_code == 0, done.output
    assert done.stdout == "runs/tables/toy.quick/loss.png\n"
    assert "missing: all 4 trials" in Image.open(done.stdout.strip()).text["Description"]
    wrong = toy("figure", "toy.yaml", "lass")
    assert wrong.exit_code == 2
    assert "toy.yaml: unknown figure 'lass'; did you mean 'loss'? one of loss, points" in (
        wrong.output
    )


@pytest.mark.slow
def test_a_run_draws_and_publishes_its_figures(toy):
    done = toy("run", "toy.yaml", "--dispatch", "inline")
    assert done.exit_code == 0, done.output
    assert "figures are in runs/tables/toy.quick" in done.stderr
    folder = Path("runs/tables/toy.quick")
    assert {path.name for path in folder.iterdir()} == {"loss.png", "loss.pdf", "points.png"}
    assert list(Path("runs/mlartifacts").glob("*/artifacts/figures/points.png"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    drawn = toy("figure", "toy.yaml")
    assert {Path(said) for said in drawn.stdout.split()} == set(before)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
