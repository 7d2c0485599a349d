"""The text of an expression in; its tree out. Parsed here and never given to Python.

condition   kl.schedule == 'linear' and word_dropout > 0       over configuration keys
claim       nll[MaxPool] < nll['W.O.'] - 0.5                   over metrics and labels
claim       updates[A] / updates[B] in 2.5..3.5 and not kl > 1

Both have literals, comparisons, `in`, `and`, `or`, `not` and parentheses. A condition has
names, which may hold . / : and -, and lists. A claim has metrics with labels in brackets,
arithmetic and ranges. Text is in single or double quotes, a quote within it doubled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sweeper.errors import SpecError, quoted

MAX_LENGTH = 1000
MAX_TOKENS = 200  # and with them the depth of a chain such as a + b + c
MAX_DEPTH = 20  # of parentheses, `not` and signs

ORDERED = ("<", "<=", ">", ">=")
COMPARED = (*ORDERED, "==", "!=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    name: str
    column: int = field(default=1, compare=False)  # in the text, from 1; so in all of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    value: str | int | float | bool | None
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What `in` looks through in a condition: [a, b]."""

    items: tuple[Value, ...]
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A metric at some levels: nll[MaxPool, With]. Labels are text, as they were written."""

    metric: str
    labels: tuple[str, ...] = ()
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    low: Expression
    high: Expression
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary:
    """`op` is not or -. `a not in b` is `not a in b`."""

    op: str
    operand: Expression
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """`op` is one of and, or, in, == != < <= > >= and + - * /."""

    op: str
    left: Expression
    right: Expression
    column: int = field(default=1, compare=False)  # of the operator


Expression = Name | Value | Items | Pick | Range | Unary | Binary


def condition(text: str) -> Expression:
    """Raises a SpecError that says the column within the text and what would be right."""
    return Parser(text, claim=False).whole()


def claim(text: str) -> Expression:
    return Parser(text, claim=True).whole()


def walk(node: Expression) -> Iterator[Expression]:
    """The node and all below it, in reading order."""
    yield node
    for child in children(node):
        yield from walk(child)


def leaves(node: Expression) -> Iterator[Expression]:
    """What `and`, `or` and `not` join."""
    match node:
        case Binary(op="and" | "or"):
            yield from leaves(node.left)
            yield from leaves(node.right)
        case Unary(op="not"):
            yield from leaves(node.operand)
        case _:
            yield node


def children(node: Expression) -> tuple[Expression, ...]:
    match node:
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case Range():
            return (node.low, node.high)
        case Items():
            return node.items
    return ()


def number(node: Expression, values: Mapping[Pick, float]) -> float:
    """What arithmetic over numbers and the `values` of metrics comes to. Raises an
    ArithmeticError where it comes to nothing (1 / 0)."""
    match node:
        case Pick():
            return values[node]
        case Value():
            return float(node.value)
        case Unary(op="-"):
            return -number(node.operand, values)
        case Binary():
            return ARITHMETIC[node.op](number(node.left, values), number(node.right, values))
    raise AssertionError(node)


ARITHMETIC = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


def written(node: Expression) -> str:
    """The expression as a person would write it."""
    match node:
        case Name():
            return node.name
        case Value():
            return value_written(node.value)
        case Pick():
            labels = ", ".join(map(label_written, node.labels))
            name = label_written(node.metric, dotted=True)
            return f"{name}[{labels}]" if labels else name
        case Items():
            return f"[{', '.join(map(written, node.items))}]"
        case Range():
            return f"{within(node, node.low)}..{within(node, node.high)}"
        case Unary(op="not"):
            return f"not {within(node, node.operand)}"
        case Unary():
            return f"-{within(node, node.operand)}"
    right = within(node, node.right, after=True)
    return f"{within(node, node.left)} {node.op} {right}"


def within(node: Expression, child: Expression, *, after: bool = False) -> str:
    """A child, in parentheses where it would else be read otherwise."""
    loose = STRENGTH.get(getattr(child, "op", ""), 9) < STRENGTH.get(getattr(node, "op", ""), 4)
    equal = after and STRENGTH.get(getattr(child, "op", ""), 9) == STRENGTH[node.op]
    return f"({written(child)})" if loose or equal else written(child)


STRENGTH = {"or": 1, "and": 2, "not": 3, "in": 4, "+": 5, "-": 5, "*": 6, "/": 6}
STRENGTH |= dict.fromkeys(COMPARED, 4)


def value_written(value: str | int | float | bool | None) -> str:
    constants = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return constants[value]
    return text_written(value) if isinstance(value, str) else str(value)


def label_written(label: str, *, dotted: bool = False) -> str:
    form = CLAIM_NAME if dotted else rf"{BARE}|{NUMBER}"
    return label if re.fullmatch(form, label) else text_written(label)


def text_written(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ---- text to tokens

BARE = r"[^\W\d]\w*"
CLAIM_NAME = rf"{BARE}(?:\.\w+)*"
CONDITION_NAME = r"[^\W\d][\w-]*(?:[./:][\w-]+)*"
DIGITS = r"[0-9]+(?:_[0-9]+)*"
NUMBER = rf"(?:{DIGITS}(?:\.{DIGITS})?|\.{DIGITS})(?:[eE][-+]?[0-9]+)?"
TEXT = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\""""
SIGN = r"\.\.|[=!<>]=|[-<>+*/()\[\],]"
TOKENS = {
    claim: re.compile(
        rf"(?P<number>{NUMBER})|(?P<text>{TEXT})|(?P<word>{name})|(?P<sign>{SIGN})|(?P<space>\s+)"
    )
    for claim, name in ((True, CLAIM_NAME), (False, CONDITION_NAME))
}
WORDS = ("and", "or", "not", "in")
CONSTANTS = {"true": True, "false": False, "null": None}
INSTEAD = {"=": "==", "&": "and", "|": "or", "!": "not"}
CLAIMS_ONLY = ("+", "-", "*", "/", "..")


class Token(NamedTuple):
    kind: str  # number, text, word, sign, or end
    text: str  # as it was written
    column: int

    @property
    def said(self) -> str:
        return "the end" if self.kind == "end" else quoted(self.text)


def tokens(text: str, claim: bool) -> Iterator[Token]:
    if len(text) > MAX_LENGTH:
        raise SpecError(f"an expression of {len(text)} characters; at most {MAX_LENGTH}")
    at = 0
    while at < len(text):
        found = TOKENS[claim].match(text, at)
        if found is None:
            raise refusal(at + 1, unread(text[at:]))
        if found.lastgroup == "number" and re.match(r"\w", text[found.end() :]):
            word = re.match(r"[\w.-]+", text[at:])[0]
            raise refusal(at + 1, f"{quoted(word)} is no number; quote it if it is a label")
        if found.lastgroup != "space":
            yield Token(found.lastgroup, found[0], at + 1)
        at = found.end()
    yield Token("end", "", len(text) + 1)


def unread(rest: str) -> str:
    if rest[0] in "'\"":
        return f"the quote {rest[0]} that opens here is not closed"
    if rest[0] in INSTEAD:
        return f"{quoted(rest[0])} is not read; write {INSTEAD[rest[0]]!r}"
    return f"{quoted(rest[0])} is not read here; quote it if it is part of a label"


def refusal(column: int, message: str) -> SpecError:
    return SpecError(f"column {column}: {message}")


# ---- tokens to a tree


class Parser:
    """One pass over the tokens of a text. Its state is the place reached and the depth."""

    def __init__(self, text: str, *, claim: bool):
        self.tokens, self.claim = list(tokens(text, claim)), claim
        if len(self.tokens) > MAX_TOKENS:
            where = self.tokens[MAX_TOKENS].column
            raise refusal(where, f"an expression has at most {MAX_TOKENS} names, numbers and signs")
        self.at = self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def sees(self, *texts: str) -> bool:
        return self.token.kind in ("word", "sign") and self.token.text in texts

    def expect(self, sign: str, why: str) -> None:
        if not self.sees(sign):
            raise refusal(self.token.column, f"{why} is expected, not {self.token.said}")
        self.next()

    def whole(self) -> Expression:
        found = self.either()
        if self.token.kind != "end":
            raise refusal(self.token.column, self.left_over(found))
        return found

    def left_over(self, found: Expression) -> str:
        if self.sees("("):
            return "there are no calls; '(' groups"
        if self.sees("["):
            return "labels in [...] stand right after a metric"
        if self.sees(*CLAIMS_ONLY):
            return f"{self.token.said} cannot stand here: no arithmetic, and ranges after 'in' only"
        return f"'and', 'or' or the end is expected, not {self.token.said}"

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise refusal(self.token.column, f"nested deeper than {MAX_DEPTH}")

    def either(self) -> Expression:
        left = self.both()
        while self.sees("or"):
            sign = self.next()
            left = Binary(op="or", left=left, right=self.both(), column=sign.column)
        return left

    def both(self) -> Expression:
        left = self.negated()
        while self.sees("and"):
            sign = self.next()
            left = Binary(op="and", left=left, right=self.negated(), column=sign.column)
        return left

    def negated(self) -> Expression:
        if not self.sees("not"):
            return self.comparison()
        sign = self.next()
        self.deeper()
        found = Unary(op="not", operand=self.negated(), column=sign.column)
        self.depth -= 1
        return found

    def comparison(self) -> Expression:
        left = self.terms()
        if self.sees("not"):
            sign = self.next()
            if not self.sees("in"):
                raise refusal(self.token.column, f"'not in' is expected, not {self.token.said}")
            found = Unary(op="not", operand=self.membership(left), column=sign.column)
        elif self.sees("in"):
            found = self.membership(left)
        elif self.sees(*COMPARED):
            sign = self.next()
            found = Binary(op=sign.text, left=left, right=self.terms(), column=sign.column)
        else:
            return left
        if self.sees("in", "not", *COMPARED):
            raise refusal(self.token.column, "one comparison at a time: write 'a < b and b < c'")
        return found

    def membership(self, left: Expression) -> Expression:
        sign = self.next()
        right = self.range() if self.claim else self.listed()
        return Binary(op="in", left=left, right=right, column=sign.column)

    def range(self) -> Range:
        column = self.token.column
        low = self.terms()
        self.expect("..", "a range such as 2.5..3.5")
        return Range(low=low, high=self.terms(), column=column)

    def listed(self) -> Items:
        column = self.token.column
        self.expect("[", "a list such as ['a', 'b']")
        items = [self.literal()]
        while self.sees(","):
            self.next()
            items.append(self.literal())
        self.expect("]", "',' or ']'")
        return Items(items=tuple(items), column=column)

    def literal(self) -> Value:
        column = self.token.column
        found = self.signed()
        if not isinstance(found, Value):
            raise refusal(column, "a list holds numbers, text in quotes, true, false and null")
        return found

    def terms(self) -> Expression:
        return self.chain(self.factors, "+", "-") if self.claim else self.signed()

    def factors(self) -> Expression:
        return self.chain(self.signed, "*", "/")

    def chain(self, part: Callable[[], Expression], *signs: str) -> Expression:
        left = part()
        while self.sees(*signs):
            sign = self.next()
            left = Binary(op=sign.text, left=left, right=part(), column=sign.column)
        return left

    def signed(self) -> Expression:
        if not self.sees("-"):
            return self.atom()
        sign = self.next()
        self.deeper()
        operand = self.signed()
        self.depth -= 1
        if isinstance(operand, Value) and type(operand.value) in (int, float):
            return Value(value=-operand.value, column=sign.column)
        if not self.claim:
            raise refusal(sign.column, "'-' stands before a number only")
        return Unary(op="-", operand=operand, column=sign.column)

    def atom(self) -> Expression:
        token = self.next()
        if token.kind == "number":
            return Value(value=self.numeral(token), column=token.column)
        if token.kind == "text":
            content = unquoted(token)
            picked = self.claim and self.sees("[")
            return (
                self.pick(content, token) if picked else Value(value=content, column=token.column)
            )
        if token.kind == "word" and token.text not in WORDS:
            if token.text in CONSTANTS:
                return Value(value=CONSTANTS[token.text], column=token.column)
            if self.claim:
                return self.pick(token.text, token)
            return Name(name=token.text, column=token.column)
        if token.text == "(" and token.kind == "sign":
            self.deeper()
            found = self.either()
            self.expect(")", "')'")
            self.depth -= 1
            return found
        what = "a metric, a number" if self.claim else "a name, a value"
        raise refusal(token.column, f"{what} or '(' is expected, not {token.said}")

    def pick(self, metric: str, token: Token) -> Pick:
        labels = []
        if self.sees("["):
            while self.sees("[", ","):
                self.next()
                labels.append(self.label())
            self.expect("]", "',' or ']' (a label that is no bare word needs quotes)")
        return Pick(metric=metric, labels=tuple(labels), column=token.column)

    def label(self) -> str:
        token = self.next()
        if token.kind == "text":
            return unquoted(token)
        if token.kind == "number" or (token.kind == "word" and "." not in token.text):
            return token.text
        hint = "; quote it" if token.kind == "word" else ""
        raise refusal(
            token.column, f"a label, a bare word or quoted, is expected, not {token.said}{hint}"
        )

    def numeral(self, token: Token) -> int | float:
        text = token.text.replace("_", "")
        if len(text) > 40 or abs(float(text)) == float("inf"):
            raise refusal(token.column, f"{token.said} is too large or too long for a number")
        return int(text) if text.isdigit() else float(text)


def unquoted(token: Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)
