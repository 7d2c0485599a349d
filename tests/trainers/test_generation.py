"""On a decoder that is a table of probabilities, against the enumeration of all sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.decoders import DECODERS
from trainers.generation import Sentences, beam, greedy, sampled
from trainers.text import BOS, EOS, PAD

WORDS, LONGEST = 6, 4  # The specials and two words; sentences of at most four.
SAYABLE = range(EOS, WORDS)

Outcome = tuple[int, ...]


@dataclass(frozen=True)
class Before:
    """The word before the last of each row, and its code."""

    words_N: Tensor
    codes_N1: Tensor

    def of(self, rows_M: Tensor) -> Before:
        return Before(self.words_N[rows_M], self.codes_N1[rows_M])


class Toy(nn.Module):
    """The next word depends on the two before it and on a code of one dimension."""

    def __init__(self, seed: int, spread: float = 1.5) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(spread * torch.randn(WORDS, WORDS, WORDS, generator=draw))
        self.tilt = nn.Parameter(torch.randn(WORDS, generator=draw))

    def start(self, codes_N1: Tensor | None, rows: int | None = None) -> Before:
        codes_N1 = torch.zeros(rows, 1) if codes_N1 is None else codes_N1
        return Before(torch.full((len(codes_N1),), PAD), codes_N1)

    def step(self, words_N: Tensor, state: Before) -> tuple[Tensor, Before]:
        logits_NV = self.table[state.words_N, words_N] + state.codes_N1 * self.tilt
        return logits_NV.log_softmax(1), Before(words_N, state.codes_N1)


def log_p_next(toy: Toy, said: Outcome, code: float) -> list[float]:
    """The same of one prefix, in floats."""
    before = said[-2] if len(said) > 1 else PAD
    logits = toy.table[before, said[-1]].tolist()
    logits = [logit + code * tilt for logit, tilt in zip(logits, toy.tilt.tolist(), strict=True)]
    total = math.log(sum(map(math.exp, logits)))
    return [logit - total for logit in logits]


def enumerated(
    toy: Toy, code: float, temperature: float = 1.0, said: Outcome = (BOS,)
) -> dict[Outcome, tuple[float, float]]:
    """Each outcome's log-probability and with what probability it is drawn."""
    if said[-1] == EOS or len(said) == LONGEST + 1:
        return {said: (0.0, 1.0)}
    log_p = log_p_next(toy, said, code)
    total = sum(math.exp(log_p[word] / temperature) for word in SAYABLE)
    outcomes = {}
    for word in SAYABLE:
        share = math.exp(log_p[word] / temperature) / total
        rest = enumerated(toy, code, temperature, (*said, word))
        outcomes |= {it: (log_p[word] + nats, share * drawn) for it, (nats, drawn) in rest.items()}
    return outcomes


def greedily(toy: Toy, code: float) -> tuple[Outcome, float]:
    said, nats = (BOS,), 0.0
    while said[-1] != EOS and len(said) <= LONGEST:
        log_p = log_p_next(toy, said, code)
        word = max(SAYABLE, key=lambda it: log_p[it])
        said, nats = (*said, word), nats + log_p[word]
    return said, nats


def by_plain_beam(
    toy: Toy, code: float, width: int, normalised: bool, *, from_greedy: bool = True
) -> tuple[Outcome, float]:
    """To the longest sentence, without stopping before."""

    def score(it: tuple[Outcome, float]) -> float:
        return it[1] / (len(it[0]) - 1 if normalised else 1)

    going, ended = [((BOS,), 0.0)], [greedily(toy, code)] if from_greedy else []
    for _ in range(LONGEST):
        continued = [
            ((*said, word), nats + log_p[word])
            for said, nats in going
            for log_p in [log_p_next(toy, said, code)]
            for word in SAYABLE
        ]
        kept = sorted(continued, key=lambda it: -it[1])[:width]
        ended += [it for it in kept if it[0][-1] == EOS]
        going = [it for it in kept if it[0][-1] != EOS]
    return max(ended + going, key=score)


def agrees(found: Sentences, expected: list[tuple[Outcome, float]]) -> None:
    assert [tuple(tokens) for tokens in found[0]] == [said for said, _ in expected]
    np.testing.assert_allclose(found[1], [nats for _, nats in expected], rtol=1e-5)


CODES = torch.linspace(-2, 2, 40).unsqueeze(1)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_a_plain_loop(seed: int) -> None:
    toy = Toy(seed)
    found = greedy(toy, CODES, longest=LONGEST)
    agrees(found, [greedily(toy, code) for code in CODES.flatten().tolist()])
    lengths = {len(tokens) for tokens in found[0]}
    assert len(lengths) > 1  # Rows that end sooner than others are among them.
    assert all(it.dtype == np.int64 for it in found[0])
    assert found[1].dtype == np.float64


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    toy = Toy(seed)
    expected = greedy(toy, CODES, longest=LONGEST)
    for normalised in (False, True):
        found = beam(toy, CODES, width=1, longest=LONGEST, normalised=normalised)
        agrees(found, [(tuple(it), nats) for it, nats in zip(*expected, strict=True)])


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_holds_all_sentences_finds_the_best(seed: int, normalised: bool) -> None:
    toy, codes = Toy(seed), CODES[::8]
    expected = []
    for code in codes.flatten().tolist():
        nats = {said: nats for said, (nats, _) in enumerated(toy, code).items()}
        scores = {said: nats[said] / (len(said) - 1 if normalised else 1) for said in nats}
        best = max(scores, key=scores.get)
        expected.append((best, nats[best]))
    width = len(SAYABLE) ** LONGEST
    agrees(beam(toy, codes, width=width, longest=LONGEST, normalised=normalised), expected)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_beam_is_a_plain_beam_that_never_stops_early(width: int, normalised: bool) -> None:
    for seed in range(3):
        toy = Toy(seed)
        expected = [
            by_plain_beam(toy, code, width, normalised) for code in CODES.flatten().tolist()
        ]
        found = beam(toy, CODES, width=width, longest=LONGEST, normalised=normalised)
        agrees(found, expected)


def test_a_beam_is_never_worse_than_greedy() -> None:
    """As a beam of two would now and then be by itself."""
    lost = 0
    for seed in range(20):
        toy = Toy(seed, spread=2.5)
        found = beam(toy, CODES, width=2, longest=LONGEST)
        assert (found[1] >= greedy(toy, CODES, longest=LONGEST)[1]).all()
        for code in CODES[::8].flatten().tolist():
            alone = by_plain_beam(toy, code, 2, False, from_greedy=False)
            lost += alone[1] < greedily(toy, code)[1]
    assert lost > 0


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sentences_are_drawn_as_often_as_they_are_likely(temperature: float) -> None:
    toy, count = Toy(1, spread=1.0), 20_000
    expected = enumerated(toy, 0.7, temperature)
    assert sum(drawn for _, drawn in expected.values()) == pytest.approx(1)
    sentences, log_p_N = sampled(
        toy,
        torch.full((count, 1), 0.7),
        longest=LONGEST,
        generator=torch.Generator().manual_seed(5),
        temperature=temperature,
    )
    counts = dict.fromkeys(expected, 0)
    for tokens, nats in zip(sentences, log_p_N, strict=True):
        counts[tuple(tokens)] += 1
        assert nats == pytest.approx(expected[tuple(tokens)][0], rel=1e-5)
    for said, (_, drawn) in expected.items():
        error = math.sqrt(count * drawn * (1 - drawn))
        assert abs(counts[said] - count * drawn) < 4 * error + 1, said
    # Chi-square over what is expected five times or more: mean k, standard deviation sqrt 2k.
    often = {said: count * drawn for said, (_, drawn) in expected.items() if count * drawn >= 5}
    chi = sum((counts[said] - mean) ** 2 / mean for said, mean in often.items())
    assert abs(chi - len(often)) < 4 * math.sqrt(2 * len(often))


def test_pad_and_s_are_never_said() -> None:
    """However likely they are."""
    toy = Toy(0)
    with torch.no_grad():
        toy.table[:, :, [PAD, BOS]] = 20
    draw = torch.Generator().manual_seed(1)
    for sentences, log_p_N in (
        greedy(toy, CODES, longest=LONGEST),
        beam(toy, CODES, width=3, longest=LONGEST),
        sampled(toy, CODES, longest=LONGEST, generator=draw),
    ):
        assert all(set(tokens[1:]) <= set(SAYABLE) for tokens in sentences)
        assert (log_p_N < -15).all()  # What they would have been is lost.


@pytest.mark.parametrize("name", [*DECODERS, None])
def test_log_probabilities_are_those_of_reconstruction(name: str | None) -> None:
    """Of trained-looking decoders, whose dropout must not count; None: a language model."""
    latent = 3 if name else 0
    decoder = DECODERS[name or "lstm"](words=9, embedding=5, hidden=8, latent=latent, dropout=0.5)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.uniform_(-1.5, 1.5, generator=draw)
    codes = torch.randn(6, 3, generator=draw) if name else None
    count = None if name else 6
    before = torch.random.get_rng_state()
    ways = [
        greedy(decoder, codes, longest=7, count=count),
        sampled(decoder, codes, longest=7, generator=draw, temperature=0.7, count=count),
        beam(decoder, codes, width=4, longest=7, count=count),
        beam(decoder, codes, width=4, longest=7, normalised=True, count=count),
    ]
    assert decoder.training
    assert torch.equal(torch.random.get_rng_state(), before)
    decoder.eval()
    for sentences, log_p_N in ways:
        assert len(sentences) == len(log_p_N) == 6
        for row, (tokens, log_p) in enumerate(zip(sentences, log_p_N, strict=True)):
            assert tokens[0] == BOS
            assert tokens[-1] == EOS or len(tokens) == 8
            code_1Z = codes[[row]] if name else None
            _, nll_1 = decoder.reconstruction(torch.as_tensor(tokens)[None], code_1Z)
            assert log_p == pytest.approx(-nll_1.item(), rel=1e-5)


def test_a_language_model_says_one_thing_greedily_and_many_by_chance() -> None:
    toy = Toy(2)
    agrees(greedy(toy, None, longest=LONGEST, count=2), [greedily(toy, 0.0)] * 2)
    draw = torch.Generator().manual_seed(3)
    drawn, _ = sampled(toy, None, longest=LONGEST, generator=draw, count=30)
    assert len({tuple(tokens) for tokens in drawn}) > 5
    again = torch.Generator().manual_seed(3)
    same, _ = sampled(toy, None, longest=LONGEST, generator=again, count=30)
    assert [it.tolist() for it in drawn] == [it.tolist() for it in same]
