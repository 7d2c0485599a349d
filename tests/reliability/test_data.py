"""Corpora that are wrong, each made here: a plan, and so a run, finds it before the first trial,
and says at which file and line."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweeper import run, worker
from sweeper.cli import main
from sweeper.run import Place
from sweeper.spec import read
from trainers import corpora

GOOD = {"train": b"a b c\na b\n", "valid": b"a d\n", "test": b"b e e a\nc\n"}
SWEEP = """\
name: s
trainer: {function: "trainers.text_vae:train", config: trainers.config}
base: {data: corpus%s}
profiles: {quick: {}}
"""
SECONDS = 20.0  # for what takes a fraction of one, on a machine that does much else


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def write(desk: Path, limits: str = "", **changed: bytes) -> Path:
    place = desk / "data" / "corpus"
    place.mkdir(parents=True, exist_ok=True)
    for split, content in (GOOD | changed).items():
        (place / f"{split}.txt").write_bytes(content)
    (desk / "s.yaml").write_text(SWEEP % limits)
    return place


def planned(verb: str = "plan") -> tuple[int, str]:
    began = time.monotonic()
    result = CliRunner().invoke(main, [verb, "s.yaml", "--data", "data", "--store", "runs"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert time.monotonic() - began < SECONDS
    return result.exit_code, result.output


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def unreadable(path: Path) -> None:
    """Root may read everything but what cannot be read."""
    if os.geteuid():
        path.touch(mode=0)
    else:
        path.symlink_to("/proc/self/mem")


CONTENTS = {  # valid.txt -> what is said of it
    "D2": (b"", r"valid\.txt is empty"),
    "D3": (b"\n\n \n", r"valid\.txt:1: a blank line"),
    "D4": (
        b"a\n" + bytes(range(128, 256)) * 99,
        r"valid\.txt:2: not UTF-8 \(byte 1 of the line\): b'\\x80\\x81",
    ),
    "D5": (b"a\nb\nc\0d\n", r"valid\.txt:3: a NUL byte.*: b'c\\x00d\\n'"),
    "D6": (b"a\n" + b"abcd " * 10_000_000, r"valid\.txt:2: a line of more than 1,000,000 bytes"),
    "D7": (b"a\nb caf\xe9 c\n", r"valid\.txt:2: not UTF-8 \(byte 6 of the line\): b'b caf\\xe9 c"),
    "D10": (b"a\nb \xed\xa0\x80\n", r"valid\.txt:2: not UTF-8 \(byte 3"),
    "D11": (b"1\ta\n1\tb\tc\n", r"valid\.txt:2: more than one tab"),
    "D12": (b"1\ta\nb\n", r"valid\.txt:2: has no label, unlike the lines before"),
    "D13": (b"1\ta\n", r"only valid\.txt has labels"),
    "D20": (gzip.compress(b"a b\n"), r"valid\.txt:1: the file is compressed by gzip; unpack it"),
    "D22": ("a b\n".encode("utf-16"), r"valid\.txt:1: the file is UTF-16; save it as UTF-8"),
    "D23": (b"a\nb\rc\n", r"valid\.txt:2: a carriage return"),
    "D24": (b"a\nb </s> c\n", r"valid\.txt:2: contains one of </s>, <pad>, <s>"),
}
MORE = {  # the same faults in other clothes
    "bzip2": (bz2.compress(b"a b\n"), r"valid\.txt:1: the file is compressed by bzip2"),
    "UTF-16, the other end": (
        b"\xfe\xff\0a\0\n",
        r"valid\.txt:1: the file is UTF-16; save it as UTF-8",
    ),
    "UTF-16 without a mark": ("a b\n".encode("utf-16-le"), r"valid\.txt:1: a NUL byte"),
    "an old Mac's line ends": (b"a b\rc d\r", r"valid\.txt:1: a carriage return"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), r"valid\.txt:1: not UTF-8"),
}
IN_PLACE = {  # what stands in the place of valid.txt
    "D1": (lambda path: None, r"valid\.txt is missing; a corpus is a folder with"),
    "D16": (Path.mkdir, r"valid\.txt is no regular file"),
    "D17": (os.mkfifo, r"valid\.txt is no regular file"),
    "D18": (lambda path: path.symlink_to("/dev/zero"), r"valid\.txt is no regular file"),
    "D19": (unreadable, r"valid\.txt cannot be read: (Permission denied|Input/output error)"),
    "D26": (lambda path: path.symlink_to("gone.txt"), r"valid\.txt is missing \(a link to gone"),
}


def marked(cases: dict[str, tuple]) -> list:
    return [
        pytest.param(*case, id=name, marks=pytest.mark.fault(name)) for name, case in cases.items()
    ]


def refused(desk: Path, says: str) -> None:
    code, said = planned()
    assert code in (2, 3), said
    assert re.search(says, said), said
    # The lines of what is shown are short, whatever the file holds.
    assert max(map(len, said.splitlines())) < 300 + len(str(desk)), said
    assert planned("run")[0] == code
    assert not (desk / "runs" / "trials").exists()


@pytest.mark.parametrize(
    ("content", "says"), [*marked(CONTENTS), *(pytest.param(*it, id=n) for n, it in MORE.items())]
)
def test_a_file_with_wrong_content(content: bytes, says: str, desk: Path) -> None:
    write(desk, valid=content)
    refused(desk, says)


@pytest.mark.parametrize(("make", "says"), marked(IN_PLACE))
def test_what_is_no_file(make: Callable, says: str, desk: Path) -> None:
    replaced(write(desk) / "valid.txt", make)
    refused(desk, says)


@pytest.mark.fault("D15")
def test_no_sentence_is_left_under_a_limit(desk: Path) -> None:
    write(desk, ", limits: {train: 0}")
    refused(desk, r"s\.yaml:3:\d+: train must be at least 1; not 0")


@pytest.mark.fault("D25")
def test_a_limit_above_what_there_is(desk: Path) -> None:
    write(desk, ", limits: {train: 99}")
    refused(desk, r"s\.yaml:3:\d+: asks for the first 99 sentences; corpus has 2")


@pytest.mark.fault("D8", "D9")
def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(desk: Path) -> None:
    write(desk, train=b"\xef\xbb\xbfa b c\r\na b\r\n")
    code, said = planned()
    assert code == 0, said
    assert corpora.sentences("corpus", desk / "data")["train"] == ["a b c", "a b"]


@pytest.mark.fault("D14")
def test_sentences_of_train_in_test_are_told(desk: Path) -> None:
    train = "".join(f"sentence {n} of train\n" for n in range(40))
    test = "".join(f"sentence  {n} of train\n" for n in range(30, 50))  # Other white space.
    write(desk, train=train.encode(), test=test.encode(), valid=b"sentence 3 of train\nx\n")
    code, said = planned()
    assert code == 0, said
    assert "corpus corpus: 10 of 20 sentences of test.txt (50.0%) are in train.txt, too" in said
    assert "corpus corpus: 1 of 2 sentences of valid.txt (50.0%) are in train.txt, too" in said
    assert "are in valid.txt" not in said
    write(desk)
    assert "are in train.txt" not in planned()[1]


WRITER = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    while True:
        file.write(b"one sentence more\\n")
"""


@pytest.mark.fault("D21")
def test_a_file_that_changes_while_it_is_read(desk: Path) -> None:
    path = write(desk, train=b"a sentence of some words\n" * 200_000) / "train.txt"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    try:
        deadline = time.monotonic() + 60
        said = ""
        while "train.txt changed while it was read" not in said:
            assert time.monotonic() < deadline, said
            code, said = planned()
        assert code == 3, said
        assert "train.txt changed while it was read" in said
    finally:
        writer.kill()
        writer.wait()


def test_a_file_that_was_replaced_since_it_was_looked_at(desk: Path) -> None:
    path = write(desk) / "train.txt"
    version = corpora.version_of(path.stat())
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)
    with pytest.raises(ValueError, match="changed while it was read"):
        list(corpora.read(path, version))


@pytest.mark.fault("C4")
def test_data_that_changes_between_the_plan_and_a_trial(desk: Path) -> None:
    """Its result would stand under the name of the data that it was not made of."""
    sweep = read(Path("s.yaml"))
    place = Place(store=desk / "runs", data=desk / "data")
    (trial,) = run.look(sweep, place).trials
    write(desk, train=b"quite another\ncorpus it is\n")
    record = worker.execute(trial, worker.Surroundings(store=place.store, data=place.data))
    assert record.state == "failed"
    assert "its data has changed since the run began" in record.error
    (other,) = run.look(sweep, place).trials
    assert other.id != trial.id
