"""Expressions: what a text means, and what is wrong with one, said with its column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import SpecError
from sweeper.spec.expressions import (
    Binary,
    Items,
    Name,
    Pick,
    Range,
    Unary,
    Value,
    claim,
    condition,
    number,
    walk,
    written,
)

A, B, C, D = (Pick(metric=name) for name in "abcd")


def op(sign, left, right):
    return Binary(op=sign, left=left, right=right)


def value(of):
    return Value(value=of)


CLAIMS = {
    "nll[MaxPool] < nll['W.O.']": op(
        "<", Pick(metric="nll", labels=("MaxPool",)), Pick(metric="nll", labels=("W.O.",))
    ),
    "nll[MaxPool, With]>=-0.5": op(
        ">=", Pick(metric="nll", labels=("MaxPool", "With")), value(-0.5)
    ),
    "a / b in 2.5..3.5": op("in", op("/", A, B), Range(low=value(2.5), high=value(3.5))),
    "a in 2..3": op("in", A, Range(low=value(2), high=value(3))),
    "a in -1.. .5": op("in", A, Range(low=value(-1), high=value(0.5))),
    "a not in 2..3": Unary(op="not", operand=op("in", A, Range(low=value(2), high=value(3)))),
    # or is looser than and, and than not, not than a comparison, + than *; each leans left
    "a < 1 or b < 2 and not c < 3": op(
        "or",
        op("<", A, value(1)),
        op("and", op("<", B, value(2)), Unary(op="not", operand=op("<", C, value(3)))),
    ),
    "(a < 1 or b < 2) and c < 3": op(
        "and", op("or", op("<", A, value(1)), op("<", B, value(2))), op("<", C, value(3))
    ),
    "a - b - c * d < 0": op("<", op("-", op("-", A, B), op("*", C, D)), value(0)),
    "a - (b - c) < 0": op("<", op("-", A, op("-", B, C)), value(0)),
    "-a < 1": op("<", Unary(op="-", operand=A), value(1)),
    "nll[0, 1e-2, not] < 1_000": op(
        "<", Pick(metric="nll", labels=("0", "1e-2", "not")), value(1000)
    ),
    "'nll-bound'[\"it's\", 'it''s'] > test.kl": op(
        ">", Pick(metric="nll-bound", labels=("it's", "it's")), Pick(metric="test.kl")
    ),
    "Größe[Δ] > 1": op(">", Pick(metric="Größe", labels=("Δ",)), value(1)),
}


@pytest.mark.parametrize(("text", "tree"), CLAIMS.items())
def test_a_claim(text, tree):
    assert claim(text) == tree
    assert claim(written(tree)) == tree


CONDITIONS = {
    "kl.schedule == 'linear' and word_dropout > 0": op(
        "and",
        op("==", Name(name="kl.schedule"), value("linear")),
        op(">", Name(name="word_dropout"), value(0)),
    ),
    "valid/kl >= 0.5": op(">=", Name(name="valid/kl"), value(0.5)),
    "pooling not in ['avg', 1, -2.5, true, null]": Unary(
        op="not",
        operand=op(
            "in",
            Name(name="pooling"),
            Items(items=tuple(map(value, ("avg", 1, -2.5, True, None)))),
        ),
    ),
    "not lr-rule != false": Unary(op="not", operand=op("!=", Name(name="lr-rule"), value(False))),
}


@pytest.mark.parametrize(("text", "tree"), CONDITIONS.items())
def test_a_condition(text, tree):
    assert condition(text) == tree
    assert condition(written(tree)) == tree


def test_literals_keep_their_types():
    found = [node.value for node in walk(condition("x in [1, 1.0, true]")) if type(node) is Value]
    assert [type(of) for of in found] == [int, float, bool]


def test_columns_count_from_1():
    found = claim("a < b and c > 10")
    assert [(type(node), node.column) for node in walk(found)] == [
        (Binary, 7), (Binary, 3), (Pick, 1), (Pick, 5), (Binary, 13), (Pick, 11), (Value, 15),
    ]  # fmt: skip


def test_numbers_by_hand():
    side = claim("(a - b) / 2 * -c + 1 < 0").left
    assert number(side, {A: 7.0, B: 1.0, C: 2.0}) == -5.0
    with pytest.raises(ArithmeticError):
        number(claim("a / (b - b) < 0").left, {A: 1.0, B: 2.0})


BAD_CLAIMS = {
    "": "column 1: a metric, a number or '(' is expected, not the end",
    "a <": "column 4: a metric, a number or '(' is expected, not the end",
    "a < b < c": "column 7: one comparison at a time: write 'a < b and b < c'",
    "a = b": "column 3: '=' is not read; write '=='",
    "a < 1 && b < 1": "column 7: '&' is not read; write 'and'",
    "a < 1 | b < 1": "column 7: '|' is not read; write 'or'",
    "!a": "column 1: '!' is not read; write 'not'",
    "exp(a) < 1": "column 4: there are no calls; '(' groups",
    "a.__class__() < 1": "column 12: there are no calls; '(' groups",
    "[a] < 1": "column 1: a metric, a number or '(' is expected, not '['",
    "nll[W.O.] < 1": "column 8: '.' is not read here; quote it if it is part of a label",
    "nll[W.O] < 1": (
        "column 5: a label, a bare word or quoted, is expected, not 'W.O'; quote it"
    ),
    "nll[WAE-RNF] < 1": (
        "column 8: ',' or ']' (a label that is no bare word needs quotes) is expected, not '-'"
    ),
    "nll[] < 1": "column 5: a label, a bare word or quoted, is expected, not ']'",
    "nll[2x] < 1": "column 5: '2x' is no number; quote it if it is a label",
    "nll[a < 1": (
        "column 7: ',' or ']' (a label that is no bare word needs quotes) is expected, not '<'"
    ),
    "nll['a] < 1": "column 5: the quote ' that opens here is not closed",
    "(a < 1": "column 7: ')' is expected, not the end",
    "a < 1)": "column 6: 'and', 'or' or the end is expected, not ')'",
    "a b": "column 3: 'and', 'or' or the end is expected, not 'b'",
    "a in 3": "column 7: a range such as 2.5..3.5 is expected, not the end",
    "a in [1, 2]": "column 6: a metric, a number or '(' is expected, not '['",
    "a not b": "column 7: 'not in' is expected, not 'b'",
    "a..b": "column 2: '..' cannot stand here: no arithmetic, and ranges after 'in' only",
    "a < 1e999": "column 5: '1e999' is too large or too long for a number",
    "a < 1 ; b": "column 7: ';' is not read here; quote it if it is part of a label",
}  # fmt: skip
BAD_CONDITIONS = {
    "a + 1 < 2": "column 3: '+' cannot stand here: no arithmetic, and ranges after 'in' only",
    "a[b] == 1": "column 2: labels in [...] stand right after a metric",
    "a < -b": "column 5: '-' stands before a number only",
    "a in 1..2": "column 6: a list such as ['a', 'b'] is expected, not '1'",
    "a in [b]": "column 7: a list holds numbers, text in quotes, true, false and null",
    "a in []": "column 7: a name, a value or '(' is expected, not ']'",
    "a in ['b'": "column 10: ',' or ']' is expected, not the end",
    "f('rm') == 1": "column 2: there are no calls; '(' groups",
}


@pytest.mark.parametrize(("text", "message"), BAD_CLAIMS.items())
def test_what_is_no_claim(text, message):
    with pytest.raises(SpecError) as caught:
        claim(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "message"), BAD_CONDITIONS.items())
def test_what_is_no_condition(text, message):
    with pytest.raises(SpecError) as caught:
        condition(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * 21 + "a < 1" + ")" * 21, "column 22: nested deeper than 20"),
        ("not " * 21 + "a < 1", "column 85: nested deeper than 20"),
        ("-" * 21 + "a < 1", "column 22: nested deeper than 20"),
        ("a+" * 100 + "a<1", "column 201: an expression has at most 200 names, numbers and signs"),
        ("a" * 1001, "an expression of 1001 characters; at most 1000"),
    ],
    ids=["parentheses", "not", "signs", "tokens", "characters"],
)
def test_budgets(text, message):
    with pytest.raises(SpecError) as caught:
        claim(text)
    assert str(caught.value) == message


def test_the_longest_chain_can_be_walked_written_and_hashed():
    longest = claim("+".join("a" * 99) + "<1")
    assert len(list(walk(longest))) == 2 * 99 - 1 + 2
    assert hash(claim(written(longest))) == hash(longest)
    assert number(longest.left, {A: 1.0}) == 99.0


SIGNS = ["[", "]", "(", ")", "..", ".", "-", "+", "*", "/", "<", "<=", "==", "=", ",", "'", '"']
PIECES = [*SIGNS, "a", "nll", "'x'", "1", "2.5", "1e3", "in", "not", "and", "or", "é", "\n", " "]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_an_expression_or_refused(text):
    for parse in (claim, condition):
        try:
            found = parse(text)
        except SpecError:
            continue
        assert parse(written(found)) == found
