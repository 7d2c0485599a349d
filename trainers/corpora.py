"""A corpus's name and a data root in; its sentences, digest or description out.

A corpus is built in (see synthetic) or a folder under the data root with train.txt,
valid.txt and test.txt: UTF-8, a sentence a line, words split on white space, and before
each sentence, if the corpus has labels, a label and one tab. A byte order mark and
Windows line ends are read as such and belong to no word. Whatever else is odd is refused
with its file and line, in every file, before anything trains; nothing is skipped or mended.
"""

# Imports no numpy: `sweeper plan` names corpora and takes their digests.

from __future__ import annotations

import difflib
import hashlib
import os
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainers import synthetic

SPLITS = ("train", "valid", "test")
MARKS = frozenset({"<pad>", "<s>", "</s>"})  # The model's own; <unk> may stand in a text.
LINE_BYTES = 1_000_000  # A longer line is no sentence.
SHOWN_CHARACTERS = 80  # of a line that is wrong
OTHER_FORMATS = {
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}
FILES_WANTED = "with " + ", ".join(f"{split}.txt" for split in SPLITS)
ROOT_HINT = "give a data root with --data, SWEEPER_DATA or data_root: in the sweep file"


class CorpusError(ValueError):
    """A corpus is missing or bad. `problems` holds (key, message) pairs, all that were found."""

    def __init__(self, problems: Sequence[tuple[str, str]]):
        self.problems = list(problems)
        super().__init__("\n".join(message for _, message in self.problems))


def names(root: Path | None) -> list[str]:
    """The corpora that can be named: those built in and the folders under `root`."""
    return sorted({*synthetic.PROCESSES, *folders(root)})


def canonical(name: str) -> str:
    """One spelling a corpus: synthetic_topics@2026 is synthetic_topics. Others unchanged."""
    base, _, seed = name.partition("@")
    if base not in synthetic.PROCESSES or not is_seed(seed):
        return name
    own = synthetic.PROCESSES[base].seed == int(seed)
    return base if own else f"{base}@{int(seed)}"


def digest(name: str, root: Path | None) -> str:
    """SHA-256 (hex) of what the corpus is: of the bytes of its files, which are checked to
    the last line; of the parameters of a built-in one. Raises CorpusError."""
    process = built_in(name)
    if process is not None:
        return process.digest(name.partition("@")[0])
    files = checked(folder(name, root))
    stated = "\n".join(f"{split} {files[split].sha256}" for split in SPLITS)
    return hashlib.sha256(stated.encode()).hexdigest()


def sizes(name: str, root: Path | None) -> dict[str, int]:
    """Sentences in each split. Raises CorpusError."""
    process = built_in(name)
    if process is not None:
        return {split: getattr(process, split) for split in SPLITS}
    return {split: file.sentences for split, file in checked(folder(name, root)).items()}


def check_limits(name: str, limits: Mapping[str, int | None], root: Path | None) -> None:
    """Raises CorpusError if more sentences of a split are asked for than there are."""
    problems = [
        (f"limits.{split}", f"asks for the first {limits[split]:,} sentences; {name} has {count:,}")
        for split, count in sizes(name, root).items()
        if limits.get(split) is not None and limits[split] > count
    ]
    if problems:
        raise CorpusError(problems)


def remarks(name: str, root: Path | None) -> list[str]:
    """What is no error and seldom meant: sentences of one split that are in another, too.
    Of a folder only. Raises CorpusError."""
    if built_in(name) is not None:
        return []
    files = checked(folder(name, root))
    said = []
    for pair, found in overlaps({split: files[split].hashes for split in SPLITS}).items():
        split, _, other = pair.partition(" in ")
        if found["sentences"]:
            of = f"{found['sentences']:,} of {files[split].sentences:,} sentences of {split}.txt"
            said.append(f"corpus {name}: {of} ({found['share']:.1%}) are in {other}.txt, too")
    return said


def sentences(name: str, root: Path | None) -> dict[str, list[str]]:
    """The sentences of each split, without labels. Raises CorpusError."""
    return {split: [text for _, text in pairs] for split, pairs in labelled(name, root).items()}


def labelled(name: str, root: Path | None) -> dict[str, list[tuple[str | None, str]]]:
    """(label or None, sentence) of each split. Raises CorpusError."""
    process = built_in(name)
    if process is not None:
        return {s: [(None, line) for line in synthetic.sentences(process, s)] for s in SPLITS}
    place = folder(name, root)
    checked(place)
    return {split: list(read(split_file(place, split))) for split in SPLITS}


def describe(name: str, root: Path | None) -> dict[str, Any]:
    """What to know of a corpus before training on it. Raises CorpusError.

    Keys: name, kind, place, digest, splits (each: sentences, words_mean, words_mean_with_eos,
    words_min, words_max, targets; valid and test also unknown_words and unknown_share, of their
    words that are not in train), vocabulary (types in train), unk_share (of train's words that
    read `_UNK`), overlap ("valid in train" and so on: identical sentences, and their share),
    labels (counts in train), floor_nats (built-in ones: mean exact -log p of the test split),
    paper (how it compares with the two of the paper, and where those are to be had)."""
    process = built_in(name)
    pairs = labelled(name, root)
    words = {split: [text.split() for _, text in pairs[split]] for split in SPLITS}
    train_words = Counter(word for sentence in words["train"] for word in sentence)
    splits = {split: measured(words[split]) for split in SPLITS}
    for split in ("valid", "test"):
        splits[split] |= unknown_to(train_words, words[split])
    described = {
        "name": name,
        "kind": "folder" if process is None else "built in",
        "place": str(folder(name, root)) if process is None else f"trainers.synthetic: {process}",
        "digest": digest(name, root),
        "splits": splits,
        "vocabulary": len(train_words),
        "unk_share": train_words["_UNK"] / train_words.total(),
        "overlap": overlaps({s: [" ".join(sentence) for sentence in words[s]] for s in SPLITS}),
        "labels": dict(sorted(Counter(label for label, _ in pairs["train"] if label).items())),
        "paper": compared(splits, len(train_words)),
    }
    if process is not None:
        test = [text for _, text in pairs["test"]]
        described["floor_nats"] = float(synthetic.exact_nll(process, test).mean())
    return described


def measured(sentences: list[list[str]]) -> dict[str, float]:
    lengths = [len(sentence) for sentence in sentences]
    return {
        "sentences": len(lengths),
        "words_mean": sum(lengths) / len(lengths),
        "words_mean_with_eos": sum(lengths) / len(lengths) + 1,
        "words_min": min(lengths),
        "words_max": max(lengths),
        "targets": sum(lengths) + len(lengths),
    }


def unknown_to(known: Counter[str], sentences: list[list[str]]) -> dict[str, float]:
    unknown = sum(word not in known for sentence in sentences for word in sentence)
    return {"unknown_words": unknown, "unknown_share": unknown / sum(map(len, sentences))}


def overlaps(lines: Mapping[str, Sequence[Hashable]]) -> dict[str, dict[str, float]]:
    found = {}
    for split, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        seen = set(lines[other])
        same = sum(line in seen for line in lines[split])
        found[f"{split} in {other}"] = {"sentences": same, "share": same / len(lines[split])}
    return found


def compared(splits: dict[str, dict[str, float]], vocabulary: int) -> dict[str, Any]:
    """Which of the paper's two corpora is nearer in length, and in what this one differs."""
    count = sum(splits[split]["sentences"] for split in SPLITS)
    mean = sum(splits[split]["sentences"] * splits[split]["words_mean"] for split in SPLITS) / count
    nearer = min(PAPER_WORDS_MEAN, key=lambda name: abs(PAPER_WORDS_MEAN[name] - mean))
    theirs = PAPER_WORDS_MEAN[nearer]
    differences = []
    for split in SPLITS:
        if splits[split]["sentences"] != PAPER_SENTENCES[split]:
            ours = splits[split]["sentences"]
            differences.append(f"{split}: {ours:,} sentences, not {PAPER_SENTENCES[split]:,}")
    if abs(mean - theirs) > 0.5:
        differences.append(f"mean {mean:.2f} words a sentence, not {theirs}")
    if abs(vocabulary - PAPER_VOCABULARY) > 100:
        differences.append(f"{vocabulary:,} word types in train, not about {PAPER_VOCABULARY:,}")
    return {"nearer": nearer, "differences": differences, "where": PAPER_WHERE}


# Section 5.1 of the paper: sentences of each split, and mean words (which split is not said).
PAPER_SENTENCES = {"train": 100_000, "valid": 10_000, "test": 10_000}
PAPER_WORDS_MEAN = {"Yahoo": 78.76, "Yelp": 96.01}
PAPER_VOCABULARY = 20_000
PAPER_NAMES = ("yahoo", "yelp")  # as the sweeps call them
PAPER_WHERE = (
    "Yahoo and Yelp are of Yang et al. (2017), Improved Variational Autoencoders for Text "
    "Modeling using Dilated Convolutions. The copies of He et al. (2019), those of their "
    "code (jxhe/vae-lagging-encoder), are on Google Drive: Yahoo "
    "13azGlTuGdzWLCmgDmQPmvb_jcexVWX7i, Yelp 1FT49oLNV8syhmGXEgiK6XTjEfMNqqEJJ (with labels). "
    "Unpack each into a folder of its own under the data root."
)


def built_in(name: str) -> synthetic.Process | None:
    """The process that `name` names; None if it can only be a folder. "name@7": seed 7."""
    base, at, seed = name.partition("@")
    process = synthetic.PROCESSES.get(base)
    if process is None or not at:
        return process
    if not is_seed(seed):
        raise CorpusError([("data", f"{name!r}: after {base}@ stands a seed, as in {base}@7")])
    return replace(process, seed=int(seed))


def is_seed(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def folders(root: Path | None) -> list[str]:
    """Names of the folders under `root` that hold at least one split."""
    if root is None or not root.is_dir():
        return []
    places = (place for place in root.iterdir() if not place.name.startswith("."))
    return sorted(p.name for p in places if any(split_file(p, s).exists() for s in SPLITS))


def folder(name: str, root: Path | None) -> Path:
    """Where the corpus lies. Raises CorpusError that says what there is instead."""
    try:
        named = name == Path(name).name != ".."
        if root is not None and named and (root / name).is_dir():
            return root / name
        if root is None:
            what = f"unknown corpus {name!r}, and no data root is known: {ROOT_HINT}"
        elif not root.is_dir():
            what = f"unknown corpus {name!r}, and the data root {root} is no folder: {ROOT_HINT}"
        elif named and (root / name).exists():
            what = f"{root / name} is no folder; a corpus is one, {FILES_WANTED}"
        else:
            what = f"unknown corpus {name!r}: no folder of that name in {root} ({ROOT_HINT})"
        known = names(root)
    except (OSError, ValueError) as error:  # No permission, a name too long or with a NUL.
        raise CorpusError([("data", f"corpus {name!r} cannot be looked up: {error}")]) from None
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    papers = f". {PAPER_WHERE}" if name in PAPER_NAMES else ""
    raise CorpusError([("data", f"{what}; {hint}known: {', '.join(known)}{papers}")])


def split_file(place: Path, split: str) -> Path:
    return place / f"{split}.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """`hashes` is one number for each sentence, the same for the same words."""

    sha256: str
    sentences: int
    labels: bool
    hashes: array[int]


def checked(place: Path) -> dict[str, CheckedFile]:
    """The three files, each read to its end. Raises CorpusError with every file's first fault."""
    files, problems = {}, []
    for split in SPLITS:
        path = split_file(place, split)
        try:
            found = os.stat(path)
            regular = stat.S_ISREG(found.st_mode)
            files[split] = checked_file(path, regular, version_of(found))
        except FileNotFoundError:
            link = f" (a link to {os.readlink(path)})" if path.is_symlink() else ""
            problems.append(f"{path} is missing{link}; a corpus is a folder {FILES_WANTED}")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except ValueError as error:
            problems.append(str(error))
    if len({file.labels for file in files.values()}) > 1:
        with_labels = ", ".join(f"{s}.txt" for s, file in files.items() if file.labels)
        problems.append(f"{place}: only {with_labels} has labels; all three files or none must")
    if problems:
        raise CorpusError([("data", problem) for problem in problems])
    return files


@lru_cache(maxsize=1024)
def checked_file(path: Path, regular: bool, version: tuple[int, ...]) -> CheckedFile:
    """Raises ValueError with the first fault. `version` only tells one state of a file from
    another: a file that was checked is not read again until it changes."""
    if not regular:
        raise ValueError(f"{path} is no regular file; each split of a corpus is a text file")
    hashes, labels, digest = array("q"), False, hashlib.sha256()
    for label, text in read(path, version, digest.update):
        hashes.append(hash(" ".join(text.split()) if "  " in text else text.strip()))
        labels = label is not None
    if not hashes:
        raise ValueError(f"{path} is empty; it needs one sentence a line")
    return CheckedFile(
        sha256=digest.hexdigest(), sentences=len(hashes), labels=labels, hashes=hashes
    )


def version_of(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns


def read(
    path: Path,
    version: tuple[int, ...] | None = None,
    note: Callable[[bytes], object] = lambda line: None,
) -> Iterator[tuple[str | None, str]]:
    """(label or None, sentence) of each line, which `note` is told as it is. Raises ValueError
    at the first that is wrong, or where the file is not the `version` that was asked for from
    the first line to the last: a tuple that begins with its size."""
    with path.open("rb") as file:
        labels, size = None, 0
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES + 1), b""), start=1):
            note(line)
            size += len(line)
            if version is not None and size > version[0]:  # It may grow without end.
                break
            try:
                if number == 1:
                    refuse_other_formats(line)
                if len(line) > LINE_BYTES:
                    raise ValueError(f"a line of more than {LINE_BYTES:,} bytes: {shown(line)}")
                label, text = parsed(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                if labels not in (None, label is not None):
                    without = "has no label" if labels else "has a label"
                    raise ValueError(f"{without}, unlike the lines before; all must, or none")
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            labels = label is not None
            yield label, text
        if version is not None and version != version_of(os.fstat(file.fileno())):
            raise ValueError(f"{path} changed while it was read")


def refuse_other_formats(line: bytes) -> None:
    for beginning, what in OTHER_FORMATS.items():
        if line.startswith(beginning):
            raise ValueError(f"the file is {what}")


def shown(line: bytes) -> str:
    said = repr(line[:SHOWN_CHARACTERS])
    cut = len(said) > SHOWN_CHARACTERS or len(line) > SHOWN_CHARACTERS
    return f"{said[: SHOWN_CHARACTERS - 3]}..." if cut else said


def parsed(line: bytes) -> tuple[str | None, str]:
    """b"label\\ttext\\n" -> ("label", "text"); without a tab the label is None."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        near = shown(line[max(0, error.start - 8) :])
        raise ValueError(f"not UTF-8 (byte {error.start + 1} of the line): {near}") from None
    if "\0" in text:
        near = shown(line[max(0, line.index(b"\0") - 8) :])
        raise ValueError(f"a NUL byte; this is not a text file, or not in UTF-8: {near}")
    text = text.removesuffix("\n").removesuffix("\r")
    if "\r" in text:
        raise ValueError("a carriage return inside the line; lines must end in \\n or \\r\\n")
    label, tab, sentence = text.rpartition("\t")
    if "\t" in label:
        raise ValueError("more than one tab; one may stand between a label and its sentence")
    if tab and not label.strip():
        raise ValueError("an empty label before the tab")
    if not sentence or sentence.isspace():
        raise ValueError("a label without a sentence" if tab else "a blank line")
    if "<" in sentence and not MARKS.isdisjoint(sentence.split()):
        raise ValueError(f"contains one of {', '.join(sorted(MARKS))}; these are added in reading")
    return (label if tab else None), sentence
