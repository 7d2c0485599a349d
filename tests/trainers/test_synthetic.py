from __future__ import annotations

import hashlib
import itertools
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers import synthetic
from trainers.synthetic import PROCESSES, Process, exact_nll, laws, sentences

CORPORA = sorted(PROCESSES)
TINY = [
    Process(
        seed=3,
        chain=chain,
        attributes=2,
        values=2,
        lemmas=1,
        plain=1,
        closing_words=2,
        body=(1, 3),
        closing=(1, 2),
        noise=0.3,
        letters="rt",
        test=20_000,
    )
    for chain in ("classes", "random")
]


def every_sentence(process: Process) -> list[str]:
    words = laws(process).words
    bodies, closings = words[: -process.closing_words], words[-process.closing_words :]
    strings = {
        part: [
            " ".join(sentence)
            for length in range(low, high + 1)
            for sentence in itertools.product(alphabet, repeat=length)
        ]
        for part, alphabet, (low, high) in (
            ("body", bodies, process.body),
            ("closing", closings, process.closing),
        )
    }
    return [f"{b} {c}" for b, c in itertools.product(strings["body"], strings["closing"])]


def probability_by_enumeration(process: Process, line: str) -> float:
    """sum over every latent of p(a) p(x | a), each a plain loop over the words."""
    law = laws(process)
    parsed = []
    for word in line.split():
        owned = re.fullmatch(r"[rs](\d)l(\d)[tv](\d)", word)
        if owned:
            j, lemma, variant = (int(n) - 1 for n in owned.groups())
            parsed.append((j * process.lemmas + lemma, j, variant))
        elif word[0] == "p":
            state = process.attributes * process.lemmas + int(word[1:]) - 1
            parsed.append((state, None, None))
        else:
            parsed.append((None, None, int(word[1:]) - 1))
    body = [p for p in parsed if p[0] is not None]
    closing = [p[2] for p in parsed if p[0] is None]
    chains = 1.0
    for before, (state, _, _) in zip([(-1, 0, 0), *body], body, strict=False):
        chains *= law.body[before[0], state]
    for before, state in zip([-1, *closing], closing, strict=False):
        chains *= law.closing[before, state]
    lengths = (process.body[1] - process.body[0] + 1) * (
        process.closing[1] - process.closing[0] + 1
    )
    total = 0.0
    for latent in itertools.product(range(process.values), repeat=process.attributes):
        emission = 1.0
        for _, j, variant in body:
            if j is not None:
                right = (1 - process.noise) if variant == latent[j] else 0.0
                emission *= right + process.noise / process.values
        total += emission
    return chains / lengths * total / process.values**process.attributes


@pytest.mark.parametrize("name", CORPORA)
def test_floor_is_the_sum_over_every_latent(name: str) -> None:
    process = replace(PROCESSES[name], test=4)
    lines = sentences(process, "test")
    enumerated = [-math.log(probability_by_enumeration(process, line)) for line in lines]
    np.testing.assert_allclose(exact_nll(process, lines), enumerated, rtol=1e-12)


@pytest.mark.parametrize("process", TINY, ids=lambda p: p.chain)
def test_probabilities_of_all_sentences_sum_to_one(process: Process) -> None:
    assert np.exp(-exact_nll(process, every_sentence(process))).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("process", TINY, ids=lambda p: p.chain)
def test_sentences_come_as_often_as_their_probability_says(process: Process) -> None:
    lines = every_sentence(process)
    probability = np.exp(-exact_nll(process, lines))
    counts = Counter(sentences(process, "test"))
    assert set(counts) <= {line for line, p in zip(lines, probability, strict=True) if p > 0}
    expected = probability * process.test
    often = expected > 20
    deviation = np.array([counts[line] for line in lines])[often] - expected[often]
    assert np.abs(deviation / np.sqrt(expected[often])).max() < 5
    entropy = -(probability[probability > 0] * np.log(probability[probability > 0])).sum()
    nll = exact_nll(process, sentences(process, "test"))
    assert nll.mean() == pytest.approx(entropy, abs=4 * nll.std() / math.sqrt(process.test))


def test_topics_follow_the_stated_class_chain() -> None:
    process = PROCESSES["synthetic_topics"]
    rows = laws(process).body
    assert rows.shape == (4 * 4 + 8 + 1, 4 * 4 + 8)
    to_class = np.stack([rows[:, i : i + 4].sum(1) for i in (0, 4, 8, 12)] + [rows[:, 16:].sum(1)])
    role, plain, start = to_class[:, 4], to_class[:, 16], to_class[:, -1]  # Role 2 of 1..4.
    np.testing.assert_allclose(role, [0.111, 0, 0.5, 0.111, 0.278])
    np.testing.assert_allclose(plain, [0.2125] * 4 + [0.15])
    np.testing.assert_allclose(start, [0.225] * 4 + [0.1])
    np.testing.assert_allclose(to_class[:, 12], [0.5, 0.111, 0.111, 0, 0.278])  # Cyclic.
    np.testing.assert_allclose(rows[4, 8:12] / rows[4, 8], [n**-0.7 for n in (1, 2, 3, 4)])
    np.testing.assert_allclose(rows[:4], rows[[0, 0, 0, 0]])  # A class moves as one.


def test_styles_give_owned_lemmas_three_quarters() -> None:
    process = PROCESSES["synthetic_styles"]
    rows = laws(process).body
    assert rows.shape == (5 * 3 + 8 + 1, 5 * 3 + 8)
    np.testing.assert_allclose(rows[:, :15].sum(1), 0.75)
    np.testing.assert_allclose(rows[:, 15:].sum(1), 0.25)


@pytest.mark.parametrize("name", CORPORA)
def test_closing_is_a_markov_chain_over_twenty_words(name: str) -> None:
    closing = laws(PROCESSES[name]).closing
    assert closing.shape == (21, 20)
    np.testing.assert_allclose(closing.sum(1), 1)
    assert closing.min() > 0


@pytest.mark.parametrize(
    ("name", "types", "nats"), [(CORPORA[0], 88, 10.5), (CORPORA[1], 124, 15.4)]
)
def test_size_and_what_ignoring_the_latent_costs(name: str, types: int, nats: float) -> None:
    """Vocabularies less the four specials, and costs, as the study of these corpora states."""
    process = PROCESSES[name]
    law = laws(process)
    assert len(law.words) == types
    lines = sentences(process, "test")
    assert np.mean([len(line.split()) for line in lines]) == pytest.approx(24.5, abs=0.4)
    ignoring = []
    for line in lines:
        words = [law.words.index(word) for word in line.split()]
        body = [w for w in words if w < types - process.closing_words]
        owner, variant = law.owner[law.lemma_of_word[body]], law.variant_of_word[body]
        uniform = -(owner >= 0).sum() * math.log(process.values)
        ignoring.append(synthetic.variants_log_p(process, variant, owner) - uniform)
    assert np.mean(ignoring) == pytest.approx(nats, abs=0.5)


@pytest.mark.parametrize(
    "line",
    [
        "p01 " * 15 + "c01 c02 c03 c04",  # Body too short.
        "p01 " * 16 + "c01 c02 c03",  # Closing too short.
        "p01 " * 16 + "c01 c02 c03 p01 c04",  # Out of order.
        "p01 " * 14 + "r1l1t1 r1l2t1 " + "c01 c02 c03 c04",  # A role does not follow itself.
        "c01 c02 c03 c04",
    ],
)
def test_impossible_sentences_have_probability_zero(line: str) -> None:
    assert exact_nll(PROCESSES["synthetic_topics"], [line]).tolist() == [math.inf]


def test_splits_are_independent_and_sizes_change_no_sentence_of_another() -> None:
    process = PROCESSES["synthetic_topics"]
    small = replace(process, train=10, valid=7)
    assert sentences(small, "test") == sentences(process, "test")
    assert len(sentences(small, "train")) == 10
    assert not set(sentences(small, "valid")) & set(sentences(process, "test"))
    assert sentences(replace(small, seed=5), "train") != sentences(small, "train")


def test_generated_sentences_are_those_of_this_generator_version() -> None:
    """Not an expected value but an alarm: if it goes off, raise GENERATOR (digests follow)."""
    assert synthetic.GENERATOR == 1
    made = {
        name: hashlib.sha256("\n".join(sentences(PROCESSES[name], "test")).encode()).hexdigest()
        for name in CORPORA
    }
    assert {name: digest[:16] for name, digest in made.items()} == {
        "synthetic_styles": "59d354695632cd84",
        "synthetic_topics": "ab698550253a998e",
    }


def test_digest_tells_names_parameters_and_seeds_apart() -> None:
    process = PROCESSES["synthetic_topics"]
    variants = [
        process.digest("synthetic_topics"),
        process.digest("another"),
        replace(process, seed=21).digest("synthetic_topics"),
        replace(process, noise=0.1).digest("synthetic_topics"),
        replace(process, test=501).digest("synthetic_topics"),
    ]
    assert len(set(variants)) == len(variants)
    assert process.digest("synthetic_topics") == replace(process).digest("synthetic_topics")


def test_seeds_are_not_those_looked_at_while_choosing() -> None:
    assert not {process.seed for process in PROCESSES.values()} & {11, 21}


def test_naming_and_digesting_import_no_numpy() -> None:
    program = (
        "import sys; from trainers import config; "
        "config.corpus_digest({'data': 'synthetic_topics'}, None); config.corpus_names(None); "
        "assert not {'numpy', 'torch'} & set(sys.modules), 'heavy'"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
