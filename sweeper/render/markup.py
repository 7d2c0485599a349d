"""Names, attributes and text in; HTML out. Whatever is not markup already is escaped, so
nothing that a person wrote can become an element, an attribute or a script.

    tag("td", tag("b", "a < b"), class_="best")     ->  <td class="best"><b>a &lt; b</b></td>
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from sweeper.render.layout import plain, visible

VOID = frozenset(("br", "col", "hr", "img", "input", "meta"))
ALONE = frozenset(("circle", "line", "path", "rect", "use"))  # of a drawing, mostly empty
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")

Child = "str | float | None | Iterable[Child]"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


LINE = Html("\n")  # between elements, for those who read the source


def tag(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element. Children are markup, text, numbers, or iterables of these; None is nothing.
    `data_n` is written data-n and `class_` class; an attribute of None or False is left out,
    one of True has no value."""
    start = f"<{name}{''.join(_attributes(attributes))}>"
    if name in VOID:
        assert not children, name
        return Html(start)
    inside = "".join(_pieces(children))
    if not inside and name in ALONE:
        return Html(f"{start[:-1]}/>")
    return Html(f"{start}{inside}</{name}>")


def joined(children: Iterable[Child]) -> Html:
    return Html("".join(_pieces(children)))


def _pieces(children: Iterable[Child]) -> Iterator[str]:
    for child in children:
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str):
            yield escaped(child)
        elif isinstance(child, int | float):
            yield str(child)
        elif child is not None:
            yield from _pieces(child)


def _attributes(attributes: Mapping[str, object]) -> Iterator[str]:
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        # Free text never names an attribute; one that runs something is nobody's.
        assert NAME.fullmatch(name), name
        assert not name.startswith("on"), name
        assert name != "style", "a page's policy has no style attributes"
        if value is True:
            yield f" {name}"
        elif value is not None and value is not False:
            yield f' {name}="{escaped(str(value))}"'


def escaped(text: str) -> Html:
    """Free text as HTML shows it, in an element or an attribute: one line, without what
    would turn the direction of writing."""
    return Html(html.escape(plain(text), quote=True))


def block(text: str) -> Html:
    """Free text of many lines, as a `pre` shows it. Its first line break is one of ours, which
    every reader drops."""
    parts = (map(visible, line.split("\t")) for line in lines(text).split("\n"))
    return Html("\n" + html.escape("\n".join("\t".join(part) for part in parts), quote=False))


def lines(text: str) -> str:
    """With every line break as one character."""
    return re.sub(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]", "\n", text)


def document(title: str, *body: Child, style: str, script: str = "", language: str = "en") -> str:
    """A page of its own that loads nothing and runs nothing but `script`: its policy names
    the digests of both, and pictures that it carries in itself."""
    policy = {
        "default-src": "'none'",
        "style-src": f"'{digest(style)}'",
        "script-src": f"'{digest(script)}'" if script else None,
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    said = "; ".join(f"{key} {value}" for key, value in policy.items() if value)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=said),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Html(f"<style>{raw(style)}</style>"),
    )
    last = [Html(f"<script>{raw(script)}</script>")] if script else []
    page = tag("html", head, LINE, tag("body", *chain(body, last)), lang=language)
    return f"<!doctype html>\n{page}\n"


def raw(text: str) -> str:
    """Ours, and put into the page as it is: it must not end its own element."""
    assert "</" not in text
    assert "<!--" not in text
    return text


def digest(text: str) -> str:
    """What a policy calls an inline style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
