from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from trainers import corpora
from trainers.corpora import CorpusError

GOOD = {"train": b"a b c\na b\n", "valid": b"a d\n", "test": b"b e e a\na b\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "good")
    return tmp_path


def write(root: Path, name: str, **changed: bytes) -> Path:
    place = root / name
    place.mkdir()
    for split, content in (GOOD | changed).items():
        (place / f"{split}.txt").write_bytes(content)
    return place


def problems(name: str, root: Path | None) -> list[str]:
    with pytest.raises(CorpusError) as caught:
        corpora.digest(name, root)
    assert {key for key, _ in caught.value.problems} == {"data"}
    return [message for _, message in caught.value.problems]


def real_root() -> Path:
    root = Path(os.environ.get("SWEEPER_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (root / "yahoo20k").is_dir() or not (root / "yelp_short").is_dir():
        pytest.skip(f"needs yahoo20k and yelp_short under SWEEPER_DATA or {root}")
    return root


def test_names_are_those_built_in_and_the_folders_with_a_split(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "file.txt").write_text("no corpus")
    (root / "half").mkdir()
    (root / "half" / "train.txt").write_text("a\n")
    built_in = ["synthetic_styles", "synthetic_topics"]
    assert corpora.names(root) == ["good", "half", *built_in]
    assert corpora.names(None) == corpora.names(root / "absent") == built_in


def test_sentences_are_read_without_labels_marks_or_line_ends(root: Path) -> None:
    write(
        root,
        "windows",
        train=b"\xef\xbb\xbf1\tthe caf\xc3\xa9 \r\n2\tno end",
        valid=b"1\ta\r\n",
        test=b"1\t<unk> a\n",
    )
    read = corpora.sentences("windows", root)
    assert [s.split() for s in read["train"]] == [["the", "café"], ["no", "end"]]
    assert read["test"] == ["<unk> a"]
    assert corpora.labelled("windows", root)["train"][0][0] == "1"
    assert corpora.labelled("good", root)["valid"] == [(None, "a d")]
    assert corpora.sizes("windows", root) == {"train": 2, "valid": 1, "test": 1}


def test_digest_follows_the_bytes_and_nothing_else(root: Path) -> None:
    before = corpora.digest("good", root)
    write(root, "same")
    write(root, "moved", train=GOOD["train"] + GOOD["valid"], valid=GOOD["test"])
    assert corpora.digest("same", root) == before != corpora.digest("moved", root)
    per_file = [f"{s} {hashlib.sha256(GOOD[s]).hexdigest()}" for s in ("train", "valid", "test")]
    assert before == hashlib.sha256("\n".join(per_file).encode()).hexdigest()
    (root / "good" / "test.txt").write_bytes(b"another sentence\n")
    assert corpora.digest("good", root) != before


def test_a_file_that_breaks_after_it_was_checked_is_checked_again(root: Path) -> None:
    corpora.digest("good", root)
    (root / "good" / "test.txt").write_bytes(b"fine\n\n")
    assert problems("good", root)[0].endswith("test.txt:2: a blank line")


def test_built_in_digests_tell_seeds_apart_and_know_their_own() -> None:
    plain = corpora.digest("synthetic_topics", None)
    assert corpora.digest("synthetic_topics@2026", None) == plain
    assert corpora.digest("synthetic_topics@21", None) != plain
    assert corpora.digest("synthetic_styles@2026", None) != plain
    assert len(corpora.sentences("synthetic_topics@21", None)["valid"]) == 1000
    assert corpora.sentences("synthetic_topics@2026", None) == corpora.sentences(
        "synthetic_topics", None
    )


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("synthetic_topics@2026", "synthetic_topics"),
        ("synthetic_topics@007", "synthetic_topics@7"),
        ("synthetic_styles@2026", "synthetic_styles@2026"),
        ("synthetic_styles@x", "synthetic_styles@x"),
        ("mine@2026", "mine@2026"),
    ],
)
def test_one_spelling_a_corpus(name: str, spelling: str) -> None:
    assert corpora.canonical(name) == spelling


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "a blank line"),
        (b" \t \n", "an empty label before the tab"),
        (b"  \n", "a blank line"),
        (b"a\0b\n", "a NUL byte"),
        (b"ab\xff\n", "not UTF-8 (byte 3 of the line)"),
        (b"a\rb\n", "a carriage return inside the line"),
        (b"1\ta\tb\n", "more than one tab"),
        (b"\ta b\n", "an empty label before the tab"),
        (b"1\t\n", "a label without a sentence"),
        (b"1\ta b\n", "has a label, unlike the lines before; all must, or none"),
        (b"a </s> b\n", "contains one of </s>, <pad>, <s>"),
    ],
)
def test_a_bad_line_is_named(root: Path, line: bytes, message: str) -> None:
    place = write(root, "bad", valid=b"a b\n" + line + b"a\n")
    (found,) = problems("bad", root)
    assert found.startswith(f"{place / 'valid.txt'}:2: {message}")


def test_a_line_that_lost_its_label_is_named(root: Path) -> None:
    labels = dict.fromkeys(GOOD, b"1\ta\n")
    write(root, "bad", **labels | {"test": b"1\ta\nb\n"})
    assert problems("bad", root) == [
        f"{root / 'bad' / 'test.txt'}:2: has no label, unlike the lines before; all must, or none"
    ]


def test_a_file_without_labels_among_files_with_is_named(root: Path) -> None:
    write(root, "bad", test=b"1\ta\n")
    assert problems("bad", root) == [
        f"{root / 'bad'}: only test.txt has labels; all three files or none must"
    ]


def test_the_faults_of_all_files_are_found_at_once(root: Path) -> None:
    place = write(root, "bad", train=b"", valid=b"ok\n\xff\n")
    (place / "test.txt").unlink()
    train, valid, test = problems("bad", root)
    assert train == f"{place / 'train.txt'} is empty; it needs one sentence a line"
    assert valid.startswith(f"{place / 'valid.txt'}:2: not UTF-8")
    assert test.startswith(f"{place / 'test.txt'} is missing")


def test_only_regular_files_are_opened(root: Path) -> None:
    place = write(root, "odd")
    for split in ("train", "valid", "test"):
        (place / f"{split}.txt").unlink()
    os.mkfifo(place / "train.txt")  # Opening it would wait for ever.
    (place / "valid.txt").mkdir()
    (place / "test.txt").symlink_to("/dev/null")
    assert [message.split(" ", 1)[1] for message in problems("odd", root)] == [
        "is no regular file; each split of a corpus is a text file"
    ] * 3


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_a_file_that_may_not_be_read_is_named(root: Path) -> None:
    (root / "good" / "test.txt").chmod(0)
    assert problems("good", root)[0].endswith("cannot be read: Permission denied")


def test_links_to_files_are_followed(root: Path) -> None:
    place = write(root, "linked")
    (place / "test.txt").unlink()
    (place / "test.txt").symlink_to(root / "good" / "test.txt")
    assert corpora.digest("linked", root) == corpora.digest("good", root)


def test_a_missing_corpus_gets_what_there_is_and_how_to_give_a_root(root: Path) -> None:
    (message,) = problems("god", root)
    assert "did you mean 'good'?" in message
    assert "known: good, synthetic_styles, synthetic_topics" in message
    for way in ("--data", "SWEEPER_DATA", "data_root:"):
        assert way in message
    assert "no data root is known" in problems("good", None)[0]
    assert "is no folder" in problems("good", root / "absent")[0]
    (root / "file").write_text("a\n")
    assert "is no folder; a corpus is one" in problems("file", root)[0]


@pytest.mark.parametrize("name", ["", ".", "..", "../good", "good/", "x\0y", "x" * 5000])
def test_names_do_not_leave_the_data_root(root: Path, name: str) -> None:
    assert problems(name, root)


@pytest.mark.parametrize("name", ["synthetic_topics@", "synthetic_topics@-1", "synthetic_topics@²"])
def test_a_seed_must_be_a_number(name: str) -> None:
    assert "after synthetic_topics@ stands a seed" in problems(name, None)[0]


def test_limits_beyond_the_corpus_are_refused(root: Path) -> None:
    corpora.check_limits("good", {"train": 2, "valid": None, "test": 2, "words": 9999}, root)
    with pytest.raises(CorpusError) as caught:
        corpora.check_limits("good", {"train": 3, "valid": 2, "test": 1}, root)
    assert caught.value.problems == [
        ("limits.train", "asks for the first 3 sentences; good has 2"),
        ("limits.valid", "asks for the first 2 sentences; good has 1"),
    ]


def test_description_of_a_folder(root: Path) -> None:
    found = corpora.describe("good", root)
    assert found["splits"]["train"] == {
        "sentences": 2,
        "words_mean": 2.5,
        "words_mean_with_eos": 3.5,
        "words_min": 2,
        "words_max": 3,
        "targets": 7,
    }
    assert found["splits"]["test"]["unknown_words"] == 2  # e twice, of 6 words.
    assert found["splits"]["test"]["unknown_share"] == pytest.approx(1 / 3)
    assert found["splits"]["valid"]["unknown_share"] == 0.5
    assert found["vocabulary"] == 3
    assert found["overlap"] == {
        "valid in train": {"sentences": 0, "share": 0},
        "test in train": {"sentences": 1, "share": 0.5},
        "test in valid": {"sentences": 0, "share": 0},
    }
    assert (found["labels"], found["kind"]) == ({}, "folder")
    assert "floor_nats" not in found
    assert found["paper"]["nearer"] == "Yahoo"
    assert found["paper"]["differences"] == [
        "train: 2 sentences, not 100,000",
        "valid: 1 sentences, not 10,000",
        "test: 2 sentences, not 10,000",
        "mean 2.60 words a sentence, not 78.76",
        "3 word types in train, not about 20,000",
    ]
    assert "Yang et al. (2017)" in found["paper"]["where"]


def test_description_counts_labels_and_rare_words(root: Path) -> None:
    split = b"1\t_UNK a\n0\ta _UNK\n1\ta b\n"
    write(root, "stars", train=split, valid=split, test=split)
    found = corpora.describe("stars", root)
    assert found["labels"] == {"0": 1, "1": 2}
    assert found["unk_share"] == pytest.approx(2 / 6)


def test_description_of_a_built_in_corpus_has_its_floor() -> None:
    found = corpora.describe("synthetic_topics@7", None)
    assert found["kind"] == "built in"
    assert "seed=7" in found["place"]
    assert [found["splits"][s]["sentences"] for s in corpora.SPLITS] == [8000, 1000, 500]
    assert found["vocabulary"] == 124
    assert 70 < found["floor_nats"] < 85


@pytest.mark.real_data
def test_yahoo20k_and_yelp_short_are_what_their_notes_say() -> None:
    """Counts, lengths, types and shares are those of the corpora's own notes."""
    root = real_root()
    yahoo = corpora.describe("yahoo20k", root)
    assert [yahoo["splits"][s]["sentences"] for s in corpora.SPLITS] == [16_000, 2_000, 2_000]
    assert (yahoo["splits"]["train"]["words_min"], yahoo["splits"]["train"]["words_max"]) == (
        20,
        200,
    )
    assert yahoo["vocabulary"] == 18_410
    assert yahoo["unk_share"] == pytest.approx(0.042, abs=5e-4)
    assert yahoo["splits"]["valid"]["unknown_share"] == pytest.approx(0.0024, abs=5e-5)
    assert yahoo["splits"]["test"]["unknown_share"] == pytest.approx(0.0027, abs=5e-5)
    assert yahoo["paper"]["nearer"] == "Yahoo"
    yelp = corpora.describe("yelp_short", root)
    assert [yelp["splits"][s]["sentences"] for s in corpora.SPLITS] == [100_000, 10_000, 10_000]
    assert yelp["splits"]["train"]["words_mean"] == pytest.approx(9.5, abs=0.05)
    assert yelp["vocabulary"] == 9_093
    assert yelp["overlap"]["test in train"]["sentences"] == 0
