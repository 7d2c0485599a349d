"""A decoder and latent codes in (none for a language model); sentences out, as arrays of ids,
and how likely the decoder finds each, in nats.

A sentence is an array `<s> w1 .. wn </s>`, as in text.py, or without `</s>` where it came to
`longest` words, `</s>` counted, before it ended. These outcomes exclude each other and are
all there are. `<pad>` and `<s>` are never said: what the decoder gives them is lost. A
log-probability is the decoder's own, log p(x|z) as `reconstruction` has it (of the words that
stand, where `</s>` does not), whatever the way the words were chosen.

A decoder is anything with `start` and `step` (see decoders.py). Nothing here touches a global
generator, and the decoder is left in the mode it was in.

Shapes: N sentences, K sentences in a beam, V words, T places; R rows that are decoded in
parallel; small letters for those that have not come to their end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.metrics import evaluating
from trainers.text import BOS, EOS, PAD

Sentences = tuple[list[np.ndarray], np.ndarray]  # Ids of each, and log p(x|z) of each, float64.


def greedy(
    decoder: Any, codes_NZ: Tensor | None, *, longest: int, count: int | None = None
) -> Sentences:
    """The likeliest word after each word. Without codes `count` sentences, all the same."""
    return sentences(*said(decoder, codes_NZ, count, longest, likeliest))


def sampled(
    decoder: Any,
    codes_NZ: Tensor | None,
    *,
    longest: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    count: int | None = None,
) -> Sentences:
    """Each word drawn after those before it, in proportion to p^(1 / temperature). At a
    temperature of 1 a sentence is drawn from p(x|z). Without codes `count` sentences."""
    assert temperature > 0, temperature

    def drawn(log_p_NV: Tensor) -> Tensor:
        p_NV = (log_p_NV / temperature).softmax(1)
        return torch.multinomial(p_NV, 1, generator=generator).squeeze(1)

    return sentences(*said(decoder, codes_NZ, count, longest, drawn))


def beam(
    decoder: Any,
    codes_NZ: Tensor | None,
    *,
    width: int,
    longest: int,
    count: int | None = None,
    normalised: bool = False,
) -> Sentences:
    """The likeliest sentence that a beam search comes upon: after each word the `width`
    likeliest of all continuations of the beam are kept; those that end there leave it and the
    best of them is remembered (Sutskever et al. 2014). Sentences are compared by the sum of
    their log-probabilities, in which length counts as it does in p(x|z); with `normalised` by
    the mean over words, `</s>` counted.

    What `greedy` says is a candidate from the start: a beam can lose it on the way, and so
    the result is never worse. Once nothing in a beam can overtake the best, its search is
    over; as no word adds more than 0, that changes no result."""
    assert width >= 1, width
    best_NT, log_p_N = said(decoder, codes_NZ, count, longest, likeliest)
    best_N = log_p_N / lengths(best_NT) if normalised else log_p_N.clone()
    with evaluating(decoder):
        state, words_N = begun(decoder, codes_NZ, count)
        places_n = torch.arange(len(words_N), device=words_N.device)
        # A beam begins with one sentence, `<s>`, and places that nothing comes of.
        state = state.of(places_n.repeat_interleave(width))
        beam_nKT = best_NT.new_full((len(words_N), width, longest + 1), PAD)
        beam_nKT[:, :, 0] = BOS
        sums_nK = log_p_N.new_full((len(words_N), width), -math.inf)
        sums_nK[:, 0] = 0
        for place in range(1, longest + 1):
            log_p_RV, state = decoder.step(beam_nKT[:, :, place - 1].flatten(), state)
            sums_nK, parents_nK, words_nK = continued(sums_nK, sayable(log_p_RV))
            beam_nKT = beam_nKT.flatten(0, 1)[parents_nK]
            beam_nKT[:, :, place] = words_nK
            ended_nK = (words_nK == EOS) | (place == longest)
            sum_n, slot_n = sums_nK.masked_fill(~ended_nK, -math.inf).max(1)
            score_n = sum_n / place if normalised else sum_n
            better = (score_n > best_N[places_n]).nonzero().squeeze(1)
            rows = places_n[better]
            best_N[rows], log_p_N[rows] = score_n[better], sum_n[better]
            best_NT[rows] = beam_nKT[better, slot_n[better]]
            sums_nK = sums_nK.masked_fill(ended_nK, -math.inf)
            hope_n = sums_nK.amax(1) / (longest if normalised else 1)
            going = (hope_n > best_N[places_n]).nonzero().squeeze(1)
            if not len(going):
                break
            state = state.of(parents_nK[going].flatten())
            places_n, sums_nK, beam_nKT = places_n[going], sums_nK[going], beam_nKT[going]
    return sentences(best_NT, log_p_N)


def said(
    decoder: Any,
    codes_NZ: Tensor | None,
    count: int | None,
    longest: int,
    choose: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """A sentence for each code, word by word as `choose` takes them by their log p: tokens
    [N, T], <pad> after the end, and log p of each."""
    with evaluating(decoder):
        state, words_n = begun(decoder, codes_NZ, count)
        places_n = torch.arange(len(words_n), device=words_n.device)
        tokens_NT = words_n.new_full((len(words_n), longest + 1), PAD)
        tokens_NT[:, 0] = words_n
        log_p_N = torch.zeros(len(words_n), dtype=torch.float64, device=words_n.device)
        for place in range(1, longest + 1):
            log_p_nV, state = decoder.step(words_n, state)
            words_n = choose(sayable(log_p_nV))
            tokens_NT[places_n, place] = words_n
            log_p_N[places_n] += log_p_nV.gather(1, words_n.unsqueeze(1)).squeeze(1)
            going = (words_n != EOS).nonzero().squeeze(1)
            if not len(going):
                break
            if len(going) < len(words_n):
                places_n, words_n, state = places_n[going], words_n[going], state.of(going)
    return tokens_NT, log_p_N


def likeliest(log_p_NV: Tensor) -> Tensor:
    return log_p_NV.argmax(1)


def continued(sums_nK: Tensor, log_p_RV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The K likeliest continuations of each beam by one word: their sums of log-probabilities,
    the rows (R = n K) that they go on from, and their words, each [n, K]. They are among the K
    likeliest of each sentence of the beam."""
    beams, width = sums_nK.shape
    most = min(width, log_p_RV.shape[1])
    log_p_RM, words_RM = log_p_RV.topk(most)
    sums_nC = (sums_nK.unsqueeze(2) + log_p_RM.view(beams, width, most)).flatten(1)
    sums_nK, places_nK = sums_nC.topk(width)
    first_n1 = width * torch.arange(beams, device=sums_nK.device).unsqueeze(1)
    parents_nK = first_n1 + places_nK.div(most, rounding_mode="floor")
    return sums_nK, parents_nK, words_RM.view(beams, -1).gather(1, places_nK)


def begun(decoder: Any, codes_NZ: Tensor | None, count: int | None) -> tuple[Any, Tensor]:
    """The state before the first word, and `<s>` for each sentence."""
    assert (codes_NZ is None) != (count is None), "one sentence a code, or so many without"
    rows = count if codes_NZ is None else len(codes_NZ)
    device = next(decoder.parameters()).device
    return decoder.start(codes_NZ, rows), torch.full((rows,), BOS, device=device)


def sayable(log_p_NV: Tensor) -> Tensor:
    """log p with what is never said ruled out."""
    never = torch.tensor([PAD, BOS], device=log_p_NV.device)
    return log_p_NV.index_fill(1, never, -math.inf)


def lengths(tokens_NT: Tensor) -> Tensor:
    """Words of each sentence, `</s>` counted and `<s>` not."""
    return (tokens_NT != PAD).sum(1) - 1


def sentences(tokens_NT: Tensor, log_p_N: Tensor) -> Sentences:
    """Rows without the <pad> at their ends, on the CPU."""
    arrays = [tokens_T[tokens_T != PAD] for tokens_T in tokens_NT.cpu().numpy()]
    return arrays, log_p_N.cpu().numpy()
