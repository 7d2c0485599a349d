"""A typed configuration in; encoded sentences, same-length batches and baselines out.

A sentence is an array <s> w_1 .. w_T </s>. A decoder reads all but the last, and its targets
are all but the first: T + 1 of them, as in He et al. (2019). Imports no torch.
"""

# Legend: B sentences of a batch, T tokens of a sentence.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainers import corpora, synthetic

if TYPE_CHECKING:
    from trainers.config import TextVaeConfig

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
RARE = "_UNK"  # How the corpora of Yang et al. (2017) write a rare word: a word as any other.


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Word <-> id. Ids 0..3 are the specials. A word that it does not have is `_UNK` where
    that is one of its words, else <unk>; He et al. give all of them to <unk>, which is then
    untrained."""

    words: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)
    unknown: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.words[: len(SPECIALS)] == SPECIALS, self.words[: len(SPECIALS)]
        ids = {word: number for number, word in enumerate(self.words)}
        assert len(ids) == len(self.words), "a word stands in the vocabulary twice"
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "unknown", ids.get(RARE, UNK))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of the words alone, without <s> and </s>."""
        find, unknown = self.ids.get, self.unknown
        return [find(word, unknown) for word in words]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """A corpus as a model reads it. `train`, `valid`, `test`: int64 arrays <s> w.. </s>.
    `unigram_nats`: -log p of each test sentence under `unigram`. `floor_nats`: the exact
    -log p of each test sentence where the corpus's process is known, else None."""

    vocabulary: Vocabulary
    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]
    unigram_nats: np.ndarray
    floor_nats: np.ndarray | None

    def targets(self, split: synthetic.Split) -> int:
        """Predicted tokens of a split: words and one </s> a sentence. A perplexity is
        exp(total nats / this)."""
        return sum(len(sentence) - 1 for sentence in getattr(self, split))


def load_text(config: TextVaeConfig, root: Path | None) -> Text:
    """The corpus that `config.data` names, within `config.limits`. Raises CorpusError.

    The vocabulary is that of the (limited) training split. A built-in corpus has all the words
    of its process, so that each of its sentences is read as it was said; with limits.words
    it is not, and has no floor."""
    corpora.check_limits(config.data, config.limits.model_dump(), root)
    lines = corpora.sentences(config.data, root)
    kept = {split: lines[split][: getattr(config.limits, split)] for split in corpora.SPLITS}
    process = corpora.built_in(config.data)
    words = synthetic.word_names(process) if process else ()
    vocabulary = words_of(kept["train"], most=config.limits.words, more=words)
    train, valid, test = (encoded(kept[split], vocabulary) for split in corpora.SPLITS)
    known = process is not None and config.limits.words is None
    return Text(
        vocabulary=vocabulary,
        train=train,
        valid=valid,
        test=test,
        unigram_nats=sentence_nats(unigram(train, len(vocabulary)), test),
        floor_nats=synthetic.exact_nll(process, kept["test"]) if known else None,
    )


def words_of(lines: Sequence[str], *, most: int | None, more: Iterable[str] = ()) -> Vocabulary:
    """Words in order of first appearance (He et al.), those of `more` that are new at the end.
    With `most`, the `most` frequent of the lines are kept, ties by first appearance, beside
    `_UNK`, which stands where the first of the others, or itself, appears."""
    counts = Counter(chain.from_iterable(line.split() for line in lines))  # First appearance first.
    if most is None:
        return Vocabulary(words=tuple(dict.fromkeys((*SPECIALS, *counts, *more))))
    ordinary = [word for word, _ in counts.most_common() if word not in (RARE, *SPECIALS)]
    kept = {*ordinary[:most], *SPECIALS}
    limited = (word if word in kept else RARE for word in counts)
    return Vocabulary(words=tuple(dict.fromkeys((*SPECIALS, *limited))))


def encoded(lines: Sequence[str], vocabulary: Vocabulary) -> list[np.ndarray]:
    """<s> w.. </s> of each line; the arrays are views of one."""
    flat: list[int] = []
    ends = [0]
    for line in lines:
        flat += (BOS, *vocabulary.encode(line.split()), EOS)
        ends.append(len(flat))
    tokens = np.array(flat, dtype=np.int64)
    return [tokens[start:end] for start, end in pairwise(ends)]


def unigram(sentences: Sequence[np.ndarray], words: int) -> np.ndarray:
    """log p of each id as a target, in nats: counts over the sentences' targets, </s> among
    them, plus one (Laplace). <pad> and <s> are never targets: -inf."""
    targets = np.concatenate([sentence[1:] for sentence in sentences])
    counts = np.bincount(targets, minlength=words) + 1.0
    counts[[PAD, BOS]] = 0
    with np.errstate(divide="ignore"):
        return np.log(counts) - np.log(counts.sum())


def sentence_nats(log_p: np.ndarray, sentences: Sequence[np.ndarray]) -> np.ndarray:
    """-log p in nats of each sentence, summed over its targets, words drawn independently."""
    return np.array([-log_p[sentence[1:]].sum() for sentence in sentences])


def same_length_batches(
    sentences: Sequence[np.ndarray], size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(tokens_BT, indices_B into `sentences`): as He et al., a stable sort by length, each
    group of one length cut into batches of `size`, the last of a group being what is left.
    No padding; shortest first; the composition never changes, the order is the caller's."""
    assert size >= 1, size
    lengths = np.array([len(sentence) for sentence in sentences])
    by_length = np.argsort(lengths, kind="stable")
    starts = np.flatnonzero(np.diff(lengths[by_length], prepend=-1))
    batches = []
    for group in np.split(by_length, starts[1:]):
        for start in range(0, len(group), size):
            indices_B = group[start : start + size]
            batches.append((np.stack([sentences[i] for i in indices_B]), indices_B))
    return batches


def padded_batch(sentences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens_BT padded at the end with <pad>, mask_BT true at real tokens)."""
    lengths = np.array([len(sentence) for sentence in sentences])
    mask_BT = np.arange(lengths.max()) < lengths[:, None]
    tokens_BT = np.full(mask_BT.shape, PAD, dtype=np.int64)
    tokens_BT[mask_BT] = np.concatenate(sentences)
    return tokens_BT, mask_BT
