"""YAML with its edges off: what is read, what is refused, and where."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import Mark, SpecError
from sweeper.spec import loader
from sweeper.spec.loader import load, plain

SCALARS = {
    "true": True,
    "false": False,
    "yes": "yes",
    "no": "no",
    "on": "on",
    "y": "y",
    "null": None,
    "~": None,
    "": None,
    "0": 0,
    "7": 7,
    "-3": -3,
    "+3": 3,
    "1_000": 1000,
    "20_000_000": 20_000_000,
    "1e-3": 0.001,
    "1E5": 100000.0,
    "1.0e-3": 0.001,
    ".5": 0.5,
    "5.": 5.0,
    "1_000.5": 1000.5,
    "-0.0": 0.0,
    "'010'": "010",
    '"1e-3"': "1e-3",
    "'true'": "true",
    "12h": "12h",
    "1e": "1e",
    "_1": "_1",
    "1__0": "1__0",
    "٣": "٣",
    "nan": "nan",
    "=": "=",
    "a b": "a b",
}


@pytest.mark.parametrize(("written", "value"), SCALARS.items())
def test_scalars(written, value):
    found = plain(load(f"a: {written}\n", "f"))["a"]
    assert (type(found), found) == (type(value), value)


def test_keys_are_text_whatever_they_look_like():
    text = "on: 1\nyes: 2\n1: 3\ntrue: 4\n1e3: 5\nnull: 6\n010: 7\n2020-01-01: 8\n"
    assert list(plain(load(text.replace("010", "'010'").replace("2020-01-01", "'d'"), "f"))) == [
        "on", "yes", "1", "true", "1e3", "null", "010", "d",
    ]  # fmt: skip


def test_every_node_knows_its_place():
    root = load("a:\n  b: [x, {c: 1}]\n", "f")
    b = root.value["a"].value["b"]
    assert (b.key, b.mark) == (Mark("f", 2, 3), Mark("f", 2, 6))
    assert b.value[0].mark == Mark("f", 2, 7)
    assert b.value[1].value["c"].place == Mark("f", 2, 11)


def test_byte_order_mark_and_line_ends_do_not_matter():
    assert plain(load(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f")) == {"a": 1, "b": 2}


def test_composed_and_decomposed_letters_are_one_key():
    with pytest.raises(SpecError, match="a second time; the first is at line 1"):
        load("e\u0301: 1\n\u00e9: 2\n", "f")


BAD = {
    "": "f:1:1: the file is empty; a mapping of keys is expected",
    "# nothing\n": "f:1:1: the file is empty; a mapping of keys is expected",
    "word": "f:1:1: a mapping of keys is expected, not 'word'",
    "3": "f:1:1: a mapping of keys is expected, not 3",
    "- a\n- b\n": "f:1:1: a mapping of keys is expected, not a list",
    "a: 1\n---\nb: 2\n": "f:2:1: a second document starts here; one is read",
    "a: 1\na: 2\n": "f:2:1: key 'a' is here a second time; the first is at line 1",
    "x: {a: 1, 'a': 2}": "f:1:11: key 'a' is here a second time; the first is at line 1",
    "1: a\n'1': b\n": "f:2:1: key '1' is here a second time; the first is at line 1",
    "? [a]\n: 1\n": "f:1:3: a key must be text",
    "'': 1": "f:1:1: a key is missing before ':'",
    "<<: {a: 1}": "f:1:1: merge keys (<<) are not read; use import, base or profiles",
    "a: &x 1": "f:1:4: anchors (&) and aliases (*) are not read; use import, base or profiles",
    "a: *x": "f:1:4: anchors (&) and aliases (*) are not read; use import, base or profiles",
    "a: !!str 1": "f:1:4: tags (!!str) are not read",
    "a: !!python/object/apply:os.system [ls]": (
        "f:1:4: tags (!!python/object/apply:os.system) are not read"
    ),
    "a: !mine 1": "f:1:4: tags (!mine) are not read",
    "%YAML 1.2\n---\na: 1\n": "f:1:1: directives (%...) are not read; remove them",
    "a: 010": (
        "f:1:4: '010' starts with 0: octal in some YAML, decimal in other; "
        "write it without the 0, or quote it"
    ),
    "a: 0o17": "f:1:4: '0o17' is not decimal; write it in decimal, or quote it",
    "a: 0xFF": "f:1:4: '0xFF' is not decimal; write it in decimal, or quote it",
    "a: 12:30:45": (
        "f:1:4: '12:30:45' is a number to base 60 in YAML 1.1; quote it, or write one unit"
    ),
    "a: 2026-01-31": "f:1:4: '2026-01-31' is a date in YAML 1.1; quote it",
    "a: 2026-13-45": "f:1:4: '2026-13-45' is a date in YAML 1.1; quote it",
    "a: .nan": "f:1:4: '.nan' is not a finite number",
    "a: -.inf": "f:1:4: '-.inf' is not a finite number",
    "a: 1e400": "f:1:4: '1e400' is too large for a number",
    "a: 9223372036854775808": "f:1:4: '9223372036854775808' has too many digits",
    "a: " + "9" * 5000: "f:1:4: '" + "9" * 75 + "...' has too many digits",
    "a: True": (
        "f:1:4: 'True' is not read as a constant; write it in lower case, or quote it"
    ),
    "a:\n\tb: 1\n": "f:2:1: tabs cannot indent; use spaces",
    "a: 1\n\tb: 2\n": "f:2:1: tabs cannot indent; use spaces",
    "a: 'x\n": "f:1:4: the quote that opens here is not closed",
    "a: [1, 2\n": "f:1:4: the list that opens here lacks a ',' or its ']'",
    "a: {b: 1\n": "f:1:4: the mapping that opens here lacks a ',' or its '}'",
    "a: b: c": (
        "f:1:5: a second ':' in one line, or an indentation that fits no line above; "
        "text that holds ': ' needs quotes"
    ),
    "a: @x": "f:1:4: text cannot start with this character; quote it",
    "a: ]": "f:1:4: a value is missing here",
    "a: 1\nb\n": "f:2:1: this line has no ':'",
    "key: - a": "f:1:6: a list cannot start on the line of its key; use [...]",
    "a: {mean} x": "f:1:11: a key was expected here: wrong indentation or an unquoted value",
    'a: "\\q"': "f:1:4: unknown \\ escape in \"...\"; use '...' or \\\\",
    "a: 1\n...\nb: 2\n": "f:3:1: the document has ended before this",
    "a: x\0y": "f:1:5: character U+0000 cannot stand in a sweep file",
    "b: 1\na: x\x1b[1m": "f:2:5: character U+001B cannot stand in a sweep file",
    'a: "\\0"': "f:1:4: character U+0000 cannot stand in a sweep file",
    "a: " + "[" * 40 + "]" * 40: "f:1:35: nested deeper than 32",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=[repr(t[:20]) for t in BAD])
def test_what_is_refused(text, message):
    with pytest.raises(SpecError) as caught:
        load(text, "f")
    assert str(caught.value) == message


BAD_BYTES = {
    b"a: 1\nb: caf\xe9\n": "f:2:7: byte 0xe9 is not UTF-8; save the file as UTF-8",
    "a: 1\n".encode("utf-16"): "f:1:1: the file is UTF-16; save it as UTF-8",
    b"a: " + b"x" * 1_000_000: "f:1:1: the file is larger than 1,000,000 bytes",
}


@pytest.mark.parametrize(("content", "message"), BAD_BYTES.items(), ids=["latin", "utf16", "big"])
def test_which_bytes_are_refused(content, message):
    with pytest.raises(SpecError) as caught:
        load(content, "f")
    assert str(caught.value) == message


def test_billion_laughs_end_at_the_first():
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    with pytest.raises(SpecError, match=r"f:1:5: anchors") as caught:
        load("\n".join(lines), "f")
    assert len(caught.value.problems) == 1 + 29 * 3


def test_everything_wrong_is_said_at_once():
    with pytest.raises(SpecError) as caught:
        load("a: 010\nb: .nan\na: !x 1\n", "f")
    assert [problem.mark.line for problem in caught.value.problems] == [1, 2, 3, 3]


def test_more_problems_than_anyone_reads_are_cut():
    with pytest.raises(SpecError, match="there are more than 100 problems"):
        load("a: 1\n" * 5000, "f")


@pytest.mark.parametrize("yaml_loader", [yaml.SafeLoader, loader.Loader])
@given(content=st.one_of(st.binary(), st.text(alphabet="ab:-[]{},'\"#&*!|>%@` \n\t01.\\x?<~")))
@settings(max_examples=300, deadline=None)
def test_nothing_else_is_ever_raised(yaml_loader, content):
    with pytest.MonkeyPatch.context() as patch:  # Both of the library's parsers, C and Python.
        patch.setattr(loader, "Loader", yaml_loader)
        try:
            plain(load(content, "f"))
        except SpecError as error:
            unplaced = [p.message for p in error.problems if p.mark is None]
            if unplaced and unplaced != ["there are more than 100 problems"]:
                raise
