"""What changed between the design of a run and that of now: expected words are written down
by hand from the two designs, which are small enough to be counted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from sweeper.changes import Changes
from sweeper.comparing import compare
from sweeper.errors import CorruptRecord
from sweeper.sharing import share
from sweeper.snapshot import Snapshot
from sweeper.track import snapshots
from sweeper.trial import Key

MODELS = {"Last": "last", "Max": "max", "iVAE": "implicit"}


def design(
    models: Mapping[str, str] | None = None,
    seeds: tuple[str, ...] = ("0", "1"),
    *,
    evaluation: str = "e",
    base: str = "",
    name: str = "model",
    at: float = 0.0,
    first: str = "model",
    source: str = "/home/me/s.yaml",
) -> Snapshot:
    """Every model (label -> what it is) at every seed; a trial is what it is, not its label."""
    models = MODELS if models is None else models
    axes = {name: tuple(models), "seed": seeds}
    if first == "seed":
        axes = {"seed": seeds, name: tuple(models)}
    points = []
    for choice in product(*axes.values()):
        at_axis = dict(zip(axes, choice, strict=True))
        key = Key(f"{base}{models[at_axis[name]]}-{at_axis['seed']}", evaluation)
        points.append((choice, key))
    return Snapshot(
        sweep="s", variant="quick", source=source, at=at, axes=axes, points=tuple(points)
    )


def said(then: Snapshot, now: Snapshot) -> list[str]:
    return compare(then, now).parts()


def without(*labels: str) -> dict[str, str]:
    return {label: what for label, what in MODELS.items() if label not in labels}


RENAMED = {"Last": "last", "MaxPool": "max", "iVAE": "implicit"}
SWAPPED = {"Last": "max", "Max": "last", "iVAE": "implicit"}
ORDERED = {"Max": "max", "Last": "last", "iVAE": "implicit"}
THE_SAME_WITH_MORE = {**MODELS, "Top": "max"}

CASES = {
    "nothing": (design(), []),
    "a seed more": (design(seeds=("0", "1", "2")), ["3 new (seed=2)"]),
    "a seed less": (design(seeds=("0",)), ["3 removed (seed=1; their records stay until a gc)"]),
    "a level less": (
        design(without("iVAE")),
        ["2 removed (model=iVAE; their records stay until a gc)"],
    ),
    "another level": (
        design(without("iVAE") | {"WAE": "wae"}),
        ["2 new (model=WAE)", "2 removed (model=iVAE; their records stay until a gc)"],
    ),
    "a label renamed": (design(RENAMED), ["2 renamed (model: Max -> MaxPool)"]),
    "labels swapped": (
        design(SWAPPED),
        ["4 renamed (model: Last -> Max, model: Max -> Last)", "order of model changed"],
    ),
    "a label renamed and given to another": (
        design(RENAMED | {"Max": "abs"}),
        ["2 new (model=Max)", "2 renamed (model: Max -> MaxPool)"],
    ),
    "levels in another order": (design(ORDERED), ["order of model changed"]),
    "axes in another order": (design(first="seed"), ["order of axes changed"]),
    "another evaluation": (
        design(evaluation="f"),
        ["6 scored in another way (all there are)"],
    ),
    "another evaluation, and a label renamed": (
        design(RENAMED, evaluation="f"),
        ["6 scored in another way (all there are)", "2 renamed (model: Max -> MaxPool)"],
    ),
    "another evaluation, and a seed more": (
        design(seeds=("0", "1", "2"), evaluation="f"),
        ["3 new (seed=2)", "6 scored in another way (all there are)"],
    ),
    "another base": (
        design(base="b"),
        ["6 changed (all there are; other trials under these labels)"],
    ),
    "another base, and a seed more": (
        design(base="b", seeds=("0", "1", "2")),
        ["3 new (seed=2)", "6 changed (all there are; other trials under these labels)"],
    ),
    "a level's configuration": (
        design(MODELS | {"Max": "abs"}),
        ["2 changed (model=Max; other trials under these labels)"],
    ),
    "an axis renamed": (design(name="system"), ["axis model renamed to system"]),
    "an axis renamed, and one of its labels": (
        design(RENAMED, name="system"),
        ["axis model renamed to system", "2 renamed (system: Max -> MaxPool)"],
    ),
    "a further label of a level": (
        design(THE_SAME_WITH_MORE),
        ["2 under one more label (model=Top)"],
    ),
}


@pytest.mark.parametrize(("now", "expected"), CASES.values(), ids=CASES)
def test_a_difference_is_said_as_what_explains_it(now: Snapshot, expected: list[str]) -> None:
    assert said(design(), now) == expected


def test_what_had_two_labels_has_one() -> None:
    assert said(design(THE_SAME_WITH_MORE), design()) == ["2 under one label less (model=Top)"]


def rows(axes: Mapping[str, tuple[str, ...]], *points: str) -> Snapshot:
    """Points as "label label ... trial", `-` where a point is without the axis."""
    split = [point.split() for point in points]
    return Snapshot(
        sweep="s",
        variant="quick",
        source="/home/me/s.yaml",
        axes=axes,
        points=tuple(
            (tuple(None if x == "-" else x for x in labels), Key(id, "e")) for *labels, id in split
        ),
    )


PLAIN = rows({"model": ("VAE", "LM")}, "VAE v", "LM l")
POOLED = rows(
    {"model": ("VAE", "LM"), "pooling": ("last", "max")},
    *("VAE last v", "VAE max vm", "LM last l", "LM max l"),
)
CONDITIONAL = rows(
    {"model": ("VAE", "LM"), "pooling": ("last", "max")}, "VAE last v", "VAE max vm", "LM - l"
)


def test_an_axis_added_or_removed_at_one_level_of_which_all_was() -> None:
    """LM's trial is one whatever its pooling: only VAE's at max is new."""
    assert said(PLAIN, POOLED) == [
        "axis pooling added (what there was is at pooling=last)",
        "1 new (pooling=max)",
    ]
    assert said(POOLED, PLAIN) == [
        "axis pooling removed (what is left is at pooling=last)",
        "1 removed (pooling=max; their records stay until a gc)",
    ]


def test_an_axis_that_some_points_are_without() -> None:
    assert said(PLAIN, CONDITIONAL) == ["axis pooling added", "1 new (pooling=max)"]
    assert said(CONDITIONAL, CONDITIONAL) == []


def test_single_points_are_listed_where_no_level_explains_them() -> None:
    axes = {"a": ("1", "2", "3"), "b": ("1", "2", "3")}
    then = rows(axes, *(f"{i} {j} t{i}{j}" for i in "123" for j in "123"))
    some = {("1", "1"), ("1", "2"), ("2", "2"), ("3", "1")}
    now = rows(axes, *(f"{i} {j} t{i}{j}" for i in "123" for j in "123" if (i, j) not in some))
    listed = "a=1 b=1, a=1 b=2, a=2 b=2 and 1 more"
    assert said(then, now) == [f"4 removed ({listed}; their records stay until a gc)"]
    assert said(now, then) == [f"4 new ({listed})"]


def test_a_trial_that_went_to_labels_of_its_own() -> None:
    axes = {"a": ("1", "2"), "b": ("1", "2")}
    then = rows(axes, "1 1 p", "1 2 q", "2 1 r")
    now = rows(axes, "1 1 p", "1 2 q", "2 2 r")
    assert said(then, now) == ["1 under other labels (a=2 b=1 -> a=2 b=2)"]


def test_a_level_without_a_trial_of_its_own() -> None:
    now = rows({"model": ("VAE", "LM", "None")}, "VAE v", "LM l")
    assert said(PLAIN, now) == ["level model=None added, without a trial"]
    assert said(now, PLAIN) == ["level model=None removed, which had no trial"]


def test_a_further_evaluation_of_what_is_trained() -> None:
    def scored(*samples: str) -> Snapshot:
        points = tuple(((m, s), Key(m, s)) for m in ("A", "B") for s in samples)
        axes = {"model": ("A", "B"), "samples": samples}
        return Snapshot(sweep="s", variant="quick", axes=axes, points=points)

    more = compare(scored("S1"), scored("S1", "S5"))
    assert more.parts() == ["2 new (samples=S5), to be scored only"]
    assert compare(scored("S1", "S5"), scored("S1")).parts() == [
        "2 removed (samples=S5; their records stay until a gc)"
    ]
    assert compare(scored("S1", "S5"), scored("S1", "S9")).parts() == [
        "2 new (samples=S9), to be scored only",
        "2 removed (samples=S5; their records stay until a gc)",
    ]


def test_one_line_where_it_fits_and_a_line_each_where_not(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    at = 1_000_000_000.0  # 2001-09-09 01:46:40 UTC
    then = design(at=at)
    assert compare(then, design(at=at + 9)).lines() == [
        "the same as in the run of 2001-09-09 01:46"
    ]
    assert compare(then, design(seeds=("0", "1", "2"))).lines() == [
        "since the run of 2001-09-09 01:46: 3 new (seed=2)"
    ]
    many = design(RENAMED | {"WAE": "wae"}, seeds=("1", "2"), first="seed")
    assert compare(then, many).lines() == [
        "since the run of 2001-09-09 01:46:",
        "  5 new (seed=2, model=WAE)",
        "  3 removed (seed=0; their records stay until a gc)",
        "  1 renamed (model: Max -> MaxPool)",
        "  order of axes changed",
    ]


def test_programs_are_told_the_same() -> None:
    then = design(at=1_000_000_000.0)
    told = compare(then, design(RENAMED, seeds=("0", "1", "2"))).as_json()
    assert json.loads(json.dumps(told)) == told
    assert (told["since"], told["same"]) == ("2001-09-09T01:46:40+00:00", False)
    assert told["new"] == {"count": 3, "of": ["seed=2"], "more": 0, "trained": 0}
    assert told["renamed"]["count"] == 2
    assert told["levels"]["model"]["renamed"] == {"Max": "MaxPool"}
    assert told["levels"]["seed"]["added"] == ["2"]
    assert compare(then, design()).as_json()["same"] is True


def test_it_is_false_where_nothing_changed() -> None:
    assert not compare(design(), design())
    assert isinstance(compare(design(), design(ORDERED)), Changes)
    assert compare(design(), design(ORDERED))


# ---- the file of the last run


def kept(root: Path, file: str = "/home/me/s.yaml", variant: str = "quick") -> Snapshot | None:
    return snapshots.kept(root, "s", variant, file)


def test_a_snapshot_is_kept_and_read_back(tmp_path) -> None:
    assert kept(tmp_path) is None
    for one in (design(at=1.5), CONDITIONAL):
        snapshots.keep(tmp_path, one)
        assert kept(tmp_path) == one
    (path,) = (tmp_path / "sweeps").iterdir()
    assert re.fullmatch(r"s\.quick\.[0-9a-f]{8}\.json", path.name)


def test_two_files_of_one_name_have_designs_of_their_own(tmp_path) -> None:
    files = [tmp_path / name for name in ("one.yaml", "copy.yaml")]
    root = tmp_path / "runs"
    for number, file in enumerate(files):
        file.touch()
        snapshots.keep(root, design(source=str(file), at=number, base=file.stem))
    for file in files:
        assert kept(root, str(file)).source == str(file)
    assert snapshots.namesakes(root, "s", str(files[0])) == [str(files[1])]
    assert snapshots.namesakes(root, "other", str(files[0])) == []
    assert kept(root, str(tmp_path / "third.yaml")) is None


def test_the_design_of_a_file_that_was_moved_is_found(tmp_path) -> None:
    file, root = tmp_path / "project/s.yaml", tmp_path / "project/runs"
    file.parent.mkdir()
    file.touch()
    snapshots.keep(root, design(source=str(file)))
    (tmp_path / "project").rename(tmp_path / "moved")  # With its store.
    root, file = tmp_path / "moved/runs", tmp_path / "moved/s.yaml"
    assert kept(root, str(file)).keys == design().keys
    assert snapshots.namesakes(root, "s", str(file)) == []
    file.rename(file.with_name("new.yaml"))
    assert kept(root, str(file.with_name("new.yaml"))).keys == design().keys


def test_what_was_begun_is_no_run_and_a_run_takes_its_place(tmp_path) -> None:
    begun = replace(design(), begun=True)
    snapshots.keep(tmp_path, begun)
    assert kept(tmp_path) is None
    assert snapshots.all_kept(tmp_path) == ([begun], [])
    snapshots.keep(tmp_path, design(seeds=("0",)))
    assert snapshots.all_kept(tmp_path) == ([design(seeds=("0",))], [])


def test_what_cannot_be_believed_is_refused(tmp_path) -> None:
    snapshots.keep(tmp_path, design())
    (path,) = (tmp_path / "sweeps").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Max", b"Min"))
    with pytest.raises(CorruptRecord, match="the checksum does not match"):
        kept(tmp_path)
    assert snapshots.damage(tmp_path) == {path: "the checksum does not match"}
    path.write_bytes(snapshots.seal(design().as_json() | {"format": 3}))
    with pytest.raises(CorruptRecord, match="newer version"):
        kept(tmp_path)
    assert snapshots.damage(tmp_path) == {}
    path.write_bytes(snapshots.seal({"format": 1}))
    with pytest.raises(CorruptRecord):
        kept(tmp_path)
    path.with_name(path.name.replace("quick", "paper")).write_bytes(whole)
    with pytest.raises(CorruptRecord, match="the snapshot of s · quick"):
        kept(tmp_path, variant="paper")


# ---- what sweeps share


def test_trials_of_another_sweep_are_counted_by_their_ids() -> None:
    mine = [Key(f"t{n}", "e") for n in range(6)]
    theirs = [Key("t0", "e"), Key("t1", "e"), Key("t2", "f"), Key("x", "e")]
    assert str(share(mine, theirs, "table1")) == (
        "3 of 6 trials are also table1's, 1 of them scored in another way; 3 are its own"
    )
    assert str(share(mine, mine, "table1")) == "all 6 trials are also table1's"
    assert str(share(mine, theirs[3:], "table1")) == "none of 6 trials is table1's"
    assert str(share(mine[2:4], theirs, "t")) == (
        "1 of 2 trials are also t's, scored in another way; 1 is its own"
    )
    assert share(mine, theirs, "table1").as_json() == {
        "other": "table1",
        "total": 6,
        "shared": 3,
        "rescored": 1,
        "own": 3,
        "run": None,
    }
