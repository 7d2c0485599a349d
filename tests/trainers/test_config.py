from __future__ import annotations

import itertools
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from trainers import config
from trainers.config import ConfigError, effective, typed
from trainers.corpora import CorpusError


def problems(**settings: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        effective({"data": "d"} | settings)
    return caught.value.problems


def test_defaults_are_those_of_he_et_al() -> None:
    """Batches, rates and sizes as released by He et al. (2019), recipe of the paper."""
    found = effective({"data": "yahoo"})
    assert found["size"] == {"embedding": 512, "encoder": 1024, "decoder": 1024, "latent": 32}
    assert found["kl"] == {
        "schedule": "linear",
        "start": 0.1,
        "end": 1.0,
        "warmup_epochs": 10.0,
        "delay_epochs": 0.0,
    }
    assert found["init"] == {"scheme": "uniform", "scale": 0.01, "embedding": 0.1}
    assert found["optim"] == {
        "algorithm": "sgd",
        "lr": 1.0,
        "clip": 5.0,
        "batch": 32,
        "epochs": 100,
        "rule": "plateau",
        "decay": 0.5,
        "patience": 2,
        "first_decay_epoch": 15,
        "decays": 5,
    }
    assert found["evaluate"] == {"samples": 500, "active_threshold": 0.01}


def test_keys_that_change_nothing_are_dropped() -> None:
    model = effective({"data": "d", "model": "language_model", "pooling": "max"})
    assert set(model) == {
        *("data", "limits", "model", "word_dropout", "dropout", "size", "init", "optim"),
        "precision",
    }
    assert set(model["size"]) == {"embedding", "decoder"}
    assert effective({"data": "d", "kl": {"schedule": "constant", "start": 0.5}})["kl"] == {
        "schedule": "constant",
        "weight": 1.0,
    }
    assert "aggressive" not in effective({"data": "d", "aggressive": {"window": 10}})
    aggressive = effective({"data": "d", "scheme": "aggressive", "aggressive": {"window": 10}})
    assert aggressive["aggressive"]["window"] == 10
    own = effective({"data": "d", "scheme": "my_pkg.parts:mine", "aggressive": {"window": 10}})
    assert own["aggressive"] == aggressive["aggressive"]
    assert effective({"data": "d", "init": {"scheme": "default"}})["init"] == {"scheme": "default"}
    optim = effective({"data": "d", "optim": {"rule": "milestones", "decays": 9}})["optim"]
    assert "decays" not in optim
    assert optim["milestones"] == [0.6, 0.75, 0.9]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kl": {"schedule": "none"}}, {"kl": {"schedule": "constant", "weight": 1}}),
        ({"kl": {"schedule": "none", "weight": 0.5}}, {"kl": {"schedule": "constant"}}),
        ({"optim": {"lr": 1}}, {"optim": {"lr": 1.0}}),
        ({"data": "synthetic_topics@2026"}, {"data": "synthetic_topics"}),
        ({"model": "language_model", "kl": {"schedule": "none"}}, {"model": "language_model"}),
        ({}, {"optim": {}, "limits": {"train": None}}),
    ],
)
def test_spellings_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert effective({"data": "d"} | one) == effective({"data": "d"} | other)


def test_effective_is_effective_already() -> None:
    choices = itertools.product(
        ("language_model", "seq_vae"),
        ("joint", "aggressive"),
        ("constant", "linear", "none"),
        ("milestones", "plateau"),
        ("uniform", "default"),
    )
    for model, scheme, schedule, rule, init in choices:
        once = effective(
            {
                "data": "synthetic_styles@2027",
                "model": model,
                "scheme": scheme,
                "kl": {"schedule": schedule},
                "optim": {"rule": rule, "milestones": [0.5]},
                "init": {"scheme": init},
            }
        )
        assert effective(once) == once
        settled = typed(once)
        assert (settled.model, settled.optim.rule, settled.init.scheme) == (model, rule, init)


def test_every_key_that_may_be_dropped_exists() -> None:
    whole = typed({"data": "d"}).model_dump()
    for section, leaf in config.MATTERS:
        assert leaf in (whole if section is None else whole[section])


def test_all_faults_are_told_at_once_each_with_its_key() -> None:
    found = problems(
        poling="max",
        pooling="mx",
        model="seqvae",
        size={"encoder": 1.5, "hidden": 3},
        optim={"lr": "1e-3", "milestones": [0.5, 2], "batch": 0},
        kl=3,
    )
    assert dict(found) == {
        "poling": (
            "unknown key 'poling'; did you mean 'pooling'? known: data, limits, model, pooling, "
            "decoder, posterior, objective, scheme, word_dropout, cosine, dropout, size, init, kl, "
            "optim, aggressive, critic, flow, wasserstein, precision, evaluate"
        ),
        "pooling": (
            "unknown pooling 'mx'; did you mean 'max'? one of abs, attention, avg, last, max, "
            "or a module:name"
        ),
        "model": ("unknown model 'seqvae'; did you mean 'seq_vae'? one of language_model, seq_vae"),
        "size.encoder": "encoder must be a whole number; not 1.5",
        "size.hidden": (
            "unknown key 'hidden' in size; did you mean 'critic.hidden'? "
            "known: embedding, encoder, decoder, latent"
        ),
        "optim.lr": "lr must be a number; not '1e-3' (text; write 0.001)",
        "optim.milestones": "milestones (item 2) must be at most 1; not 2",
        "optim.batch": "batch must be at least 1; not 0",
        "kl": (
            "kl must be a mapping with keys among schedule, weight, start, end, warmup_epochs, "
            "delay_epochs, cycles, ratio, span_epochs; not 3"
        ),
    }


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"lr": 3}, "lr", "did you mean 'optim.lr'?"),
        ({"data": ""}, "data", "must be some text"),
        ({"data": 5}, "data", "must be text; not 5"),
        ({"dropout": 1.0}, "dropout", "below 1; not 1.0"),
        ({"dropout": True}, "dropout", "must be a number; not true"),
        ({"size": {"latent": True}}, "size.latent", "must be a whole number; not true"),
        ({"size": {"latent": "64"}}, "size.latent", "(text; write 64)"),
        ({"size": {"latent": None}}, "size.latent", "must be a whole number; not null"),
        ({"optim": {"clip": float("inf")}}, "optim.clip", "must be a finite number; not inf"),
        ({"optim": {"clip": 0}}, "optim.clip", "must be above 0; not 0"),
        ({"kl": {"weight": float("nan")}}, "kl.weight", "must be a finite number; not nan"),
        ({"kl": {"start": -0.1}}, "kl.start", "must be at least 0"),
        ({"optim": {"milestones": 0.5}}, "optim.milestones", "must be a list; not 0.5"),
        ({"optim": {"milestones": {0.5}}}, "optim.milestones", "must be a list"),
        ({"optim": {"rule": "milestone"}}, "optim.rule", "did you mean 'milestones'?"),
        ({"optim": {"rule": ["plateau"]}}, "optim.rule", "rule must be text; not ['plateau']"),
        ({"kl": {"schedule": "linaer"}}, "kl.schedule", "did you mean 'linear'?"),
        (
            {"kl": {"schedule": "x"}},
            "kl.schedule",
            "one of constant, cyclical, linear, none, or a module",
        ),
        ({"init": None}, "init", "must be a mapping with keys among scheme, scale, embedding"),
        ({"pooling": "my-pkg:thing"}, "pooling", "or a module:name"),
        ({"pooling": "x" * 900}, "pooling", "unknown pooling"),
        ({3: 4}, "3", "the key 3 must be text"),
    ],
)
def test_faults_in_plain_words(settings: dict[Any, Any], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        effective({"data": "d"} | settings)
    ((found, message),) = caught.value.problems
    assert found == key
    assert words in message


def test_a_configuration_needs_data_and_to_be_a_mapping() -> None:
    with pytest.raises(ConfigError) as caught:
        effective({})
    assert caught.value.problems == [
        ("data", "data is missing; name a corpus, for example synthetic_topics")
    ]
    with pytest.raises(ConfigError, match="the configuration must be a mapping"):
        effective([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("part", sorted(config.NAMES))
def test_a_part_may_be_anybody_s(part: str) -> None:
    section = {"schedule": "kl", "rule": "optim"}.get(part)
    for name in (*config.NAMES[part], "my_pkg.parts:mine"):
        together = name in ("adversarial", "dual")  # Neither is anything without the other.
        chosen = {"objective": "dual", "scheme": "adversarial"} if together else {part: name}
        found = effective({"data": "d"} | ({section: chosen} if section else chosen))
        assert (found[section] if section else found)[part] == name


def test_a_part_of_ones_own_may_read_every_key_beside_it() -> None:
    own = effective(
        {"data": "d", "kl": {"schedule": "my_pkg:mine"}, "optim": {"rule": "my_pkg:mine"}}
    )
    assert set(own["kl"]) == set(config.Kl.model_fields)
    assert set(own["optim"]) == set(config.Optim.model_fields)
    assert effective(own) == own


def test_lists_stand_for_tuples_and_whole_numbers_for_numbers() -> None:
    found = typed({"data": "d", "optim": {"milestones": [0, 0.5, 1], "lr": 2}})
    assert found.optim.milestones == (0.0, 0.5, 1.0)
    assert isinstance(found.optim.lr, float)


def test_any_mapping_will_do() -> None:
    frozen = MappingProxyType({"data": "d", "kl": MappingProxyType({"start": 0.5})})
    assert effective(frozen) == effective({"data": "d", "kl": {"start": 0.5}})


def test_corpus_functions_know_built_in_corpora_and_limits(tmp_path: Path) -> None:
    settings = effective({"data": "synthetic_topics"})
    assert len(config.corpus_digest(settings, None)) == 64
    assert config.corpus_names(tmp_path) == ["synthetic_styles", "synthetic_topics"]
    assert config.describe_corpus("synthetic_styles", None)["name"] == "synthetic_styles"
    with pytest.raises(CorpusError) as caught:
        config.corpus_digest(effective({"data": "synthetic_topics", "limits": {"test": 501}}), None)
    assert caught.value.problems[0][0] == "limits.test"
    with pytest.raises(CorpusError):
        config.corpus_digest({"data": "absent"}, tmp_path)
