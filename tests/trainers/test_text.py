from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trainers import synthetic
from trainers.config import typed
from trainers.corpora import CorpusError
from trainers.text import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    Vocabulary,
    load_text,
    padded_batch,
    same_length_batches,
    words_of,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "train.txt").write_text("b a b\na c\nb\n")
    (place / "valid.txt").write_text("c new\n")
    (place / "test.txt").write_text("a b\nnew c b\n")
    return tmp_path


def load(name: str, root: Path | None = None, **limits: int):
    return load_text(typed({"data": name, "limits": limits}), root)


def test_vocabulary_is_in_order_of_first_appearance_in_train(root: Path) -> None:
    text = load("tiny", root)
    assert text.vocabulary.words == ("<pad>", "<s>", "</s>", "<unk>", "b", "a", "c")
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert [s.tolist() for s in text.train] == [[1, 4, 5, 4, 2], [1, 5, 6, 2], [1, 4, 2]]
    assert [s.tolist() for s in text.test] == [[1, 5, 4, 2], [1, UNK, 6, 4, 2]]
    assert text.train[0].dtype == np.int64
    assert [text.targets(s) for s in ("train", "valid", "test")] == [9, 3, 7]
    assert text.floor_nats is None


def test_a_word_that_train_lacks_is_the_corpus_own_unk_where_it_has_one() -> None:
    assert words_of(["a _UNK", "b"], most=None).encode(["b", "x"]) == [6, 5]
    assert words_of(["a", "<unk> b"], most=None).encode(["x", "<unk>", "b"]) == [3, 3, 5]


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (1, ("b", "_UNK")),
        (2, ("b", "a", "_UNK")),  # a before c: both come twice, a first.
        (3, ("b", "a", "c", "_UNK")),
        (4, ("b", "a", "c", "d")),
        (9, ("b", "a", "c", "d")),
    ],
)
def test_the_most_frequent_words_are_kept(most: int, words: tuple[str, ...]) -> None:
    vocabulary = words_of(["b a b", "a c", "b c d"], most=most)
    assert vocabulary.words == SPECIALS + words
    unknown = vocabulary.words.index("_UNK") if "_UNK" in words else UNK
    assert vocabulary.encode(["never"]) == [unknown]


def test_unk_of_the_corpus_is_beside_the_limit() -> None:
    vocabulary = words_of(["x _UNK a a _UNK _UNK b"], most=1)
    assert vocabulary.words == (*SPECIALS, "_UNK", "a")  # Where x, cut, stands first.
    assert vocabulary.encode(["x", "a", "_UNK"]) == [4, 5, 4]


def test_limits_take_the_first_sentences_and_their_words(root: Path) -> None:
    text = load("tiny", root, train=1, test=1)
    assert (len(text.train), len(text.valid), len(text.test)) == (1, 1, 1)
    assert text.vocabulary.words[4:] == ("b", "a")
    assert len(text.unigram_nats) == 1
    with pytest.raises(CorpusError, match="asks for the first 4 sentences; tiny has 3"):
        load("tiny", root, train=4)


def test_unigram_model_by_hand(root: Path) -> None:
    """Train's targets: b 3, a 2, c 1, </s> 3, of 9; plus one for each and for <unk>: 14."""
    p = {"b": 4 / 14, "a": 3 / 14, "c": 2 / 14, "</s>": 4 / 14, "<unk>": 1 / 14}
    assert sum(p.values()) == pytest.approx(1)
    expected = [
        -math.log(p["a"] * p["b"] * p["</s>"]),
        -math.log(p["<unk>"] * p["c"] * p["b"] * p["</s>"]),
    ]
    np.testing.assert_allclose(load("tiny", root).unigram_nats, expected)


@pytest.mark.parametrize("name", sorted(synthetic.PROCESSES))
def test_built_in_corpora_have_every_word_and_a_floor_below_the_unigram_model(name: str) -> None:
    text = load(name, train=5, test=40)
    words = synthetic.word_names(synthetic.PROCESSES[name])
    assert set(text.vocabulary.words) == {*SPECIALS, *words}
    assert all(UNK not in sentence for sentence in text.test)
    lines = synthetic.sentences(synthetic.PROCESSES[name], "test")[:40]
    np.testing.assert_array_equal(
        text.floor_nats, synthetic.exact_nll(synthetic.PROCESSES[name], lines)
    )
    spelled = [" ".join(text.vocabulary.words[i] for i in s[1:-1]) for s in text.test]
    assert spelled == lines
    assert text.floor_nats.mean() < text.unigram_nats.mean()


def test_no_floor_where_words_are_merged() -> None:
    assert load("synthetic_topics", train=50, test=5, words=20).floor_nats is None


def test_quick_corpora_make_255_batches_of_at_most_32() -> None:
    """Updates per epoch as the study of these corpora counted them."""
    assert len(same_length_batches(load("synthetic_styles").train, 32)) == 255


def test_batches_have_one_length_and_hold_each_sentence_once() -> None:
    stream = np.random.default_rng(0)
    lengths = stream.integers(3, 9, size=100)
    sentences = [np.array([1, *stream.integers(4, 9, size=n - 2), 2]) for n in lengths]
    batches = same_length_batches(sentences, 8)
    for tokens_BT, indices_B in batches:
        assert tokens_BT.dtype == np.int64
        assert 1 <= len(indices_B) <= 8
        assert (np.diff(indices_B) > 0).all()  # The sort is stable.
        for tokens, index in zip(tokens_BT, indices_B, strict=True):
            np.testing.assert_array_equal(tokens, sentences[index])
    assert sorted(i for _, indices in batches for i in indices) == list(range(100))
    counts = Counter(lengths.tolist())
    expected = [(n, min(8, counts[n] - k)) for n in sorted(counts) for k in range(0, counts[n], 8)]
    assert [(t.shape[1], t.shape[0]) for t, _ in batches] == expected


def test_padded_batch_masks_what_it_adds() -> None:
    tokens_BT, mask_BT = padded_batch(
        [np.array([1, 4, 2]), np.array([1, 2]), np.array([1, 5, 6, 2])]
    )
    assert tokens_BT.tolist() == [[1, 4, 2, 0], [1, 2, 0, 0], [1, 5, 6, 2]]
    assert mask_BT.tolist() == [[True] * 3 + [False], [True] * 2 + [False] * 2, [True] * 4]


def test_vocabulary_refuses_other_specials_and_doubles() -> None:
    with pytest.raises(AssertionError):
        Vocabulary(words=("a", "b", "c", "d"))
    with pytest.raises(AssertionError, match="twice"):
        Vocabulary(words=(*SPECIALS, "a", "a"))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "types", "targets"), [("yahoo20k", 18_410, 163_395), ("yelp_short", 9_093, 105_405)]
)
def test_real_corpora(name: str, types: int, targets: int) -> None:
    """Test targets are `wc`: its words and one </s> for each of its lines."""
    root = Path(os.environ.get("SWEEPER_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (root / name).is_dir():
        pytest.skip(f"needs {name} under SWEEPER_DATA or {root}")
    text = load(name, root)
    assert len(text.vocabulary) == types + len(SPECIALS)
    assert text.targets("test") == targets
    has_own_unk = "_UNK" in text.vocabulary.ids
    assert has_own_unk == (name == "yahoo20k")
    assert any(UNK in s for s in text.test) == (not has_own_unk)
