"""A stated random process in; sentences and their exact negative log-likelihood out.

The process. Attributes a_1..a_J are independent and uniform over R values; they are the
latent variable of a sentence. A sentence is a body of L words and a closing of M words,
L and M uniform over the lengths stated, independent of each other and of a.

Body: a Markov chain of lemmas, l_1 ~ A[start, .], l_t ~ A[l_(t-1), .]. A plain lemma is one
word. A lemma owned by attribute j is written in variant v with probability
e(v | a_j) = (1 - noise) [v = a_j] + noise / R. Closing: a Markov chain G over words of its
own, which knows nothing of a: what an encoder knew of a at the end of the body, its last
state has to remember through the closing.

As attributes are independent given the lemmas, summing over a factorises (S: start, d: closing):

    log p(x) = -log #L - log #M + sum_t log A[l_(t-1), l_t] + sum_t log G[d_(t-1), d_t]
               + sum_j log 1/R sum_v prod_(t: l_t owned by j) e(v_t | a_j = v)

Chain A is one of two kinds.
  classes  A lemma's class is the attribute that owns it, or plain. Attribute j is followed by
           j + 1 (cyclically) .5, plain .278, each other but itself an equal part of .222; plain
           by each attribute an equal part of .85, plain .15; the start is each attribute an
           equal part of .9, plain .1. Within a class lemmas are drawn with weight rank^-0.7.
  random   Rows are Gamma(1) + .001, the owned lemmas scaled to .75 in all, the plain to .25.
G's rows are Gamma(.15) + .002, normalised.

Words read r2l1t4 or s2l1v4 (attribute 2, its lemma 1, variant 4), p03 (plain), c07 (closing).
"""

# numpy is imported where it is first used: a corpus is named, and its digest taken, without it.

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Split = Literal["train", "valid", "test"]

# Raise it whenever other sentences come out for the same parameters: digests change with it.
GENERATOR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """All that decides a corpus. Ranges of length include both ends."""

    seed: int
    chain: Literal["classes", "random"]
    attributes: int
    values: int
    lemmas: int  # Owned by each attribute.
    plain: int = 8
    closing_words: int = 20
    body: tuple[int, int] = (16, 22)
    closing: tuple[int, int] = (4, 7)
    noise: float = 0.05
    letters: str = "at"  # Of an attribute and of a variant, in a word's spelling.
    train: int = 8000
    valid: int = 1000
    test: int = 500

    @property
    def states(self) -> int:
        """Lemmas, owned and plain: what chain A moves over."""
        return self.attributes * self.lemmas + self.plain

    def digest(self, name: str) -> str:
        """SHA-256 of the name, every parameter and the generator's version."""
        stated = json.dumps([name, GENERATOR, asdict(self)], sort_keys=True)
        return hashlib.sha256(stated.encode()).hexdigest()


def sentences(process: Process, split: Split) -> list[str]:
    """The sentences of one split, words joined by spaces. Splits have streams of their
    own: the size of one changes no sentence of another."""
    import numpy as np

    law = laws(process)
    count = getattr(process, split)
    stream = np.random.default_rng([process.seed, 1 + ("train", "valid", "test").index(split)])
    values_NJ = stream.integers(process.values, size=(count, process.attributes))
    body_N = stream.integers(process.body[0], process.body[1], size=count, endpoint=True)
    closing_N = stream.integers(process.closing[0], process.closing[1], size=count, endpoint=True)
    lemmas_NT = walk(stream, law.body, count, process.body[1])
    closing_NT = walk(stream, law.closing, count, process.closing[1])

    owner_NT = law.owner[lemmas_NT]
    true_NT = np.take_along_axis(values_NJ, np.maximum(owner_NT, 0), axis=1)
    noisy_NT = stream.random(lemmas_NT.shape) < process.noise
    any_NT = stream.integers(process.values, size=lemmas_NT.shape)
    variant_NT = np.where(noisy_NT, any_NT, true_NT)
    words_NT = law.first_word[lemmas_NT] + np.where(owner_NT >= 0, variant_NT, 0)
    closing_NT += len(law.words) - process.closing_words

    rows = zip(
        words_NT.tolist(), body_N.tolist(), closing_NT.tolist(), closing_N.tolist(), strict=True
    )
    return [" ".join([law.words[w] for w in b[:nb] + c[:nc]]) for b, nb, c, nc in rows]


def exact_nll(process: Process, lines: Sequence[str]) -> np.ndarray:
    """-log p(x) in nats of each sentence (an array of len(lines)): the formula above, the
    lengths included. On average over the process no model does better. Infinite for words
    in an order that the process cannot say; words that it does not have are a KeyError."""
    import numpy as np

    law = laws(process)
    number = {word: n for n, word in enumerate(law.words)}
    return np.array([-log_p(process, law, [number[w] for w in line.split()]) for line in lines])


def log_p(process: Process, law: Laws, words: list[int]) -> float:
    first_closing = len(law.words) - process.closing_words
    body = [w for w in words if w < first_closing]
    closing = [w - first_closing for w in words[len(body) :]]
    (low, high), (low_closing, high_closing) = process.body, process.closing
    in_order = all(c >= 0 for c in closing)
    if not (in_order and low <= len(body) <= high and low_closing <= len(closing) <= high_closing):
        return -math.inf
    lemmas = law.lemma_of_word[body]
    lengths = -math.log(high - low + 1) - math.log(high_closing - low_closing + 1)
    variants = (law.variant_of_word[body], law.owner[lemmas])
    return (
        lengths
        + path_log_p(law.log_body, lemmas)
        + path_log_p(law.log_closing, closing)
        + variants_log_p(process, *variants)
    )


def path_log_p(log_rows: np.ndarray, states: Sequence[int]) -> float:
    """log p of a walk that begins at the last row."""
    import numpy as np

    states = np.asarray(states)
    return float(log_rows[-1, states[0]] + log_rows[states[:-1], states[1:]].sum())


def variants_log_p(process: Process, variant_T: np.ndarray, owner_T: np.ndarray) -> float:
    """sum_j log 1/R sum_v prod_t e(variant_t | a_j = v), over the words that j owns."""
    import numpy as np

    shape = (process.attributes, process.values)
    owned = owner_T >= 0
    matching_JR = np.zeros(shape)
    np.add.at(matching_JR, (owner_T[owned], variant_T[owned]), 1)
    others_JR = matching_JR.sum(1, keepdims=True) - matching_JR
    hit = 1 - process.noise + process.noise / process.values
    miss = process.noise / process.values
    log_JR = matching_JR * math.log(hit) + others_JR * math.log(miss)
    return float(np.logaddexp.reduce(log_JR, axis=1).sum()) - shape[0] * math.log(shape[1])


def walk(stream: np.random.Generator, rows: np.ndarray, count: int, steps: int) -> np.ndarray:
    """`count` walks of `steps` states each, begun at the last of the transition rows."""
    import numpy as np

    bounds = np.cumsum(rows, axis=1)[:, :-1]  # Without the last: a rounded sum below 1 is harmless.
    states_NT = np.empty((count, steps), dtype=np.int64)
    state_N = np.full(count, len(rows) - 1)
    for t in range(steps):
        state_N = (bounds[state_N] <= stream.random((count, 1))).sum(1)
        states_NT[:, t] = state_N
    return states_NT


@dataclass(frozen=True, slots=True, kw_only=True)
class Laws:
    """What a process's parameters and seed fix: its words and its two chains. The start is
    the last row of a chain. Words are numbered owned, plain, closing; `owner` is -1 where
    a lemma is plain."""

    words: tuple[str, ...]
    body: np.ndarray
    closing: np.ndarray
    log_body: np.ndarray
    log_closing: np.ndarray
    owner: np.ndarray  # Of a lemma.
    first_word: np.ndarray  # Of a lemma: its variant 0.
    lemma_of_word: np.ndarray  # Closing words are not in it.
    variant_of_word: np.ndarray


@lru_cache(maxsize=8)
def laws(process: Process) -> Laws:
    import numpy as np

    stream = np.random.default_rng([process.seed, 0])
    body = {"classes": class_chain, "random": random_chain}[process.chain](process, stream)
    shape = (process.closing_words + 1, process.closing_words)
    closing = normalised(stream.gamma(0.15, size=shape) + 0.002)
    lemmas = np.arange(process.states)
    owned = process.attributes * process.lemmas
    owner = np.where(lemmas < owned, lemmas // process.lemmas, -1)
    variants = np.where(owner >= 0, process.values, 1)
    first_word = np.cumsum(variants) - variants
    lemma_of_word = np.repeat(lemmas, variants)
    with np.errstate(divide="ignore"):  # Chain classes has transitions that cannot be.
        log_body, log_closing = np.log(body), np.log(closing)
    return Laws(
        words=word_names(process),
        body=body,
        closing=closing,
        log_body=log_body,
        log_closing=log_closing,
        owner=owner,
        first_word=first_word,
        lemma_of_word=lemma_of_word,
        variant_of_word=np.arange(len(lemma_of_word)) - first_word[lemma_of_word],
    )


def class_chain(process: Process, stream: np.random.Generator) -> np.ndarray:
    """Rows lemmas and start, columns lemmas. Needs no random numbers."""
    import numpy as np

    classes = process.attributes
    to_class = np.full((classes + 2, classes + 1), 0.222 / max(classes - 2, 1))
    for j in range(classes):
        to_class[j, j] = 0.0
        to_class[j, (j + 1) % classes] = 0.5
        to_class[j, classes] = 0.278
    to_class[classes] = [*[0.85 / classes] * classes, 0.15]
    to_class[classes + 1] = [*[0.9 / classes] * classes, 0.1]
    sizes = [process.lemmas] * classes + [process.plain]
    within = np.concatenate([normalised(np.arange(1, n + 1.0) ** -0.7) for n in sizes])
    class_of = np.repeat(np.arange(classes + 1), sizes)
    rows = normalised(to_class)[:, class_of] * within
    return rows[[*class_of, classes + 1]]


def random_chain(process: Process, stream: np.random.Generator) -> np.ndarray:
    import numpy as np

    rows = normalised(stream.gamma(1.0, size=(process.states + 1, process.states)) + 0.001)
    owned = process.attributes * process.lemmas
    return np.hstack([0.75 * normalised(rows[:, :owned]), 0.25 * normalised(rows[:, owned:])])


def normalised(rows: np.ndarray) -> np.ndarray:
    return rows / rows.sum(-1, keepdims=True)


def word_names(process: Process) -> tuple[str, ...]:
    attribute, variant = process.letters
    owned = (
        f"{attribute}{j + 1}l{k + 1}{variant}{v + 1}"
        for j in range(process.attributes)
        for k in range(process.lemmas)
        for v in range(process.values)
    )
    plain = (f"p{n + 1:02}" for n in range(process.plain))
    closing = (f"c{n + 1:02}" for n in range(process.closing_words))
    return (*owned, *plain, *closing)


# Chosen so that quick runs show posterior collapse and what prevents it. The seeds are not
# those that were looked at while choosing; "synthetic_topics@7" is the same with seed 7.
PROCESSES = {
    "synthetic_styles": Process(
        seed=2027, chain="random", attributes=5, values=4, lemmas=3, letters="sv"
    ),
    "synthetic_topics": Process(
        seed=2026, chain="classes", attributes=4, values=6, lemmas=4, letters="rt"
    ),
}
