"""The shipped sweeps: every file under every profile, and what they share."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.design import expand
from sweeper.errors import EnvironmentFault
from sweeper.spec import parse, read
from sweeper.trial import TrainerRef
from trainers import config as trainer_config

SWEEPS = Path(__file__).parents[2] / "sweeps"
FILES = sorted(set(SWEEPS.glob("*.yaml")) - {SWEEPS / "paper.yaml", SWEEPS / "own_trainer.yaml"})
PROFILES = ["paper", "quick", "small"]
POINTS = {"table1": 11 * 2 * 3, "table2": 2 * 2 * 3, "table3": 3 * 2 * 2 * 3}
POINTS |= {"pooling": 5 * 2 * 3, "dispersion": 5 * 2 * 3, "figure2": 3 * 3, "figure3": 3 * 3}
POINTS |= {"figure4": 4 * 2 * 3, "figure5": 3 * 3}
# 2 corpora x (none, linear, 3 x cyclical) x 2 learning rates x 3 seeds, of last and max (joint
# with and without word dropout, aggressive without) and of avg and abs (joint with and without).
GRID = 2 * (1 + 1 + 3) * 2 * 3 * (2 * 3 + 2 * 2)


def sweep(name, profile="quick"):
    return read(SWEEPS / f"{name}.yaml", profile=profile)


def ids(name):
    return {trial.id for trial in expand(sweep(name), None)}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_reads_under_every_profile(path, profile):
    found = read(path, profile=profile)
    assert found.name == path.stem
    assert found.profile == profile
    assert {*found.tables, *found.figures} >= {path.stem}
    assert found.trainer.config == "trainers.config"


@pytest.mark.parametrize(("name", "count"), POINTS.items())
def test_how_many_trials_there_are(name, count):
    assert len(expand(sweep(name), None)) == len(ids(name)) == count


def test_the_full_grid_leaves_out_what_nobody_asked_about():
    assert GRID == 600
    assert len(expand(sweep("grid_full"), None)) == len(ids("grid_full")) == GRID
    for profile, count in {"quick": GRID, "small": GRID, "paper": GRID + 3}.items():
        found = expand(replace(sweep("grid_full", profile), trainer=untyped), None)
        assert len({trial.id for trial in found}) == len(found) == count
    labels = [trial.labels for trial in expand(sweep("grid_full"), None)]
    assert all(("kl.cycles" in at) == (at["kl.schedule"] == "cyclical") for at in labels)
    aggressive = [at for at in labels if at["scheme"] == "aggressive"]
    assert {(at["pooling"], at["word_dropout"]) for at in aggressive} == {
        ("last", "0.0"),
        ("max", "0.0"),
    }


def test_of_the_poolings_only_attention_is_new():
    new = [t for t in expand(sweep("pooling"), None) if t.id not in ids("table1")]
    assert {trial.labels["pooling"] for trial in new} == {"attention"}


def test_systems_of_other_papers_are_trained_as_there_under_the_papers_profile():
    """Fang et al. (2019): Adam at 8e-4, 40 epochs. Wang & Wang (2019): Adam at 1e-3; the KL
    weight grows by 1/40,000 a step after 6,000, an epoch of ours being 3,125 batches of 32."""
    levels = {level.label: level.set for level in sweep("table1", "paper").axis("model").levels}
    assert levels["iVAE"]["optim.lr"].value == 8e-4
    assert levels["iVAE"]["optim.epochs"].value == 40
    rnf = {key: setting.value for key, setting in levels["WAE-RNF"].items()}
    assert rnf["kl.delay_epochs"] * 3125 == 6000
    assert rnf["kl.end"] / (rnf["kl.warmup_epochs"] * 3125) == pytest.approx(1 / 40_000)
    halved = [int(share * rnf["optim.epochs"]) for share in rnf["optim.milestones"]]
    assert halved == [15 * 2000 // 3125, 35 * 2000 // 3125]
    assert "optim.lr" not in levels["MaxPool"]


def test_table_2_trains_nothing_of_its_own_and_table_3_half():
    assert ids("table2") <= ids("table1")
    assert len(ids("table3") & ids("table1")) == 18
    with_annealing = [t for t in expand(sweep("table3"), None) if t.labels["annealing"] == "With"]
    assert {trial.id for trial in with_annealing} <= ids("table1")


def test_figures_4_and_5_train_nothing_of_their_own_and_figure_3_what_figure_2_does():
    assert ids("figure4") | ids("figure5") <= ids("table1")
    assert ids("figure3") == ids("figure2")
    assert not ids("figure2") & ids("table1")


@pytest.mark.parametrize(
    ("profile", "corpus"), [("paper", "Yahoo"), ("quick", "Topics"), ("small", "Yahoo20k")]
)
def test_figures_2_and_5_have_one_corpus_and_figure_2_three_units(profile, corpus):
    for name in ("figure2", "figure3", "figure5"):
        assert sweep(name, profile).axis("dataset").labels == (corpus,)
    for name in ("figure2", "figure3"):
        base = sweep(name, profile).base
        assert (base["size.encoder"].value, base["size.latent"].value) == (3, 3)


def test_paper_profile_asks_for_the_corpora_of_the_paper(tmp_path):
    with pytest.raises(EnvironmentFault) as caught:
        expand(sweep("table1", "paper"), tmp_path)
    *problems, last = caught.value.problems
    assert last.message == "all else is right; trials of this sweep: 66"
    lines = {problem.mark.line for problem in problems}
    assert len(problems) == 2
    assert lines == {sweep("table1", "paper").axis("dataset").mark.line}


@pytest.mark.parametrize("name", POINTS)
def test_profiles_share_no_trial(name):
    """As written, without corpora: what was made under one profile never passes for another."""
    made = [
        {trial.id for trial in expand(replace(sweep(name, profile), trainer=untyped), None)}
        for profile in PROFILES
    ]
    assert [len(found) for found in made] == [POINTS[name]] * 3
    assert len(set.union(*made)) == 3 * POINTS[name]


untyped = TrainerRef(function="trainers.text_vae:train")


def test_the_papers_setting_is_the_trainers_default():
    """bases/lstm_1024.yaml says what the defaults say; it is there to be read."""
    base = {key: setting.value for key, setting in sweep("table1", "paper").base.items()}
    nested: dict = {"data": "synthetic_topics"}
    for key, value in base.items():
        section, dot, leaf = key.partition(".")
        (nested.setdefault(section, {}) if dot else nested)[leaf if dot else key] = value
    assert trainer_config.effective(nested) == trainer_config.effective(
        {"data": "synthetic_topics"}
    )


@pytest.mark.parametrize("profile", ["quick", "small"])
def test_small_profiles_need_one_core_and_no_gpu(profile):
    found = sweep("table1", profile).resources
    assert (found.cpus, found.gpus) == (1, 0)


def test_corpora_cut_short_say_so():
    for level in sweep("table1", "small").axis("dataset").levels:
        assert "4,000 most frequent words, the rest _UNK" in level.note


@pytest.mark.real_data
@pytest.mark.parametrize("name", POINTS)
def test_small_profile_finds_its_corpora(name):
    root = Path(os.environ.get("SWEEPER_DATA", SWEEPS.parents[1] / "shared/data"))
    if not root.is_dir():
        pytest.skip(
            "needs the corpora yahoo20k and yelp_short under SWEEPER_DATA or ../shared/data"
        )
    assert len(expand(sweep(name, "small"), root)) == POINTS[name]


def test_the_example_in_the_readme():
    text = (SWEEPS / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert len(expand(parse(text, SWEEPS / "example.yaml"), None)) == 2 * 2 * 3
