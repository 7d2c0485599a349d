"""Tables as HTML, read back: the same texts in the same places, whatever a person wrote, and
nothing that loads or runs."""

from __future__ import annotations

import base64
import hashlib

import pytest

from sweeper.render import FILES, RENDERERS, html
from sweeper.render.layout import plain
from sweeper.render.markup import Html, block, document, escaped, joined, tag
from sweeper.spec.sweep import Metric
from sweeper.tables import Cell, Column, Row, Score, Table

NLL = Metric(name="nll", source="test/nll_iw", label="NLL", format=".2f")

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<!-- comment",
    "--> <b>",
    "]]><b>",
    "<![CDATA[",
    "<?xml version='1.0'?>",
    '"><a href="javascript:alert(1)">',
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    "` onclick=alert(1) `",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "http://example.org/x.png",
    "//example.org/x.js",
    "&lt;b&gt; &amp; &#60; &#x3c;script&#x3e;",
    "&nbsp;&copy;&notanentity;",
    "& && &amp &a;b",
    "a < b > c",
    "{{ 7 * 7 }} {% raw %} ${x} #{x} <%= x %>",
    "url(http://example.org) expression(alert(1))",
    "}</style>{",
    "nul\x00nul",
    "\x1b[31mred\x1b[0m",
    "\x0bvertical\x0cfeed",
    "two\nlines\r\nand three",
    "tab\there",
    "right \u202eto left\u202c",
    "\u2066isolate\u2069 \u200fmark",
    "zero\u200bwidth\ufeff",
    "line\u2028paragraph\u2029",
    "lone \ud800 surrogate",
    "\ufffe noncharacter",
    "عربي עברית abc",
    "中文 模型 日本語",
    "e\u0301 Łódź naïve",
    "a" * 300,
    "👩‍👩‍👧 emoji",
    "Zalgo " + "a\u0300\u0301\u0302\u0303" * 5,
    "<textarea>",
    "<title>",
    "<plaintext>",
    "<noscript>",
    "<template>",
    "<base href=http://example.org>",
    "<meta http-equiv=refresh content=0>",
    "<form action=x><input>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<math><mtext></mtext></math>",
    "\\u003cscript\\u003e",
    "%3Cscript%3E",
    "+ADw-script+AD4-",
    "\u003cb\u003e",
    "＜script＞",
    "'; DROP TABLE runs; --",
    "__proto__",
    "=1+1",
    "{unbalanced",
]
ALLOWED = {
    *("figure", "figcaption", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"),
    *("b", "sup", "span", "strong", "small"),
}


def value(mean, text, **fields):
    known = {"n": 3, "points": 3, "samples": {"0": mean, "1": mean, "2": mean}}
    known |= {"trials": ("aaaa", "bbbb", "cccc"), "evaluations": ("e", "e", "e")}
    return Cell(state="value", text=text, mean=mean, **known | fields)


def table_of(columns, rows, cells, **fields):
    known = {
        "name": "table3",
        "profile": "quick",
        "caption": "NLL by model",
        "row_axis": "model",
        "marks": {},
        "footer": ("NLL: mean ± sd over seed (n=3 where not said otherwise)",),
    }
    return Table(columns=tuple(columns), rows=tuple(rows), cells=tuple(cells), **known | fields)


def column(*path, kind="value", notes=None, **at):
    notes = notes or (None,) * len(path)
    return Column(at=at, metric=NLL, kind=kind, path=path, notes=notes)


@pytest.fixture
def nested():
    """Two corpora over two settings and their difference; and a column that has one heading."""
    columns = [
        column("Topics", "W.O.", notes=("generated", None)),
        column("Topics", "With", notes=("generated", None)),
        column("Topics", "Δ", kind="delta", notes=("generated", None)),
        column("Styles", "W.O."),
        column("Styles", "With"),
        column("Styles", "Δ", kind="delta"),
        column("", "updates"),
    ]
    line = (
        value(81.5, "81.50 ± 0.20"),
        value(101.5, "101.50 ± 10.20", best=True, notes=("exact",), star="*"),
        value(-0.77, "−0.77 ± 0.31 ○"),
    )
    lost = Cell(state="failed", text="failed", points=3, states={"failed": 3}, trials=("dddd",))
    rows = [
        Row(key="a", label="SkipVAE", note="exact"),
        Row(key="b", label="Aggressive", rule_after=True, group="ours"),
        Row(key="c", label="MaxPool", group="theirs"),
    ]
    cells = [
        (*line, *line, value(608, "608k")),
        (lost, value(79.9, "79.90 (n=1)", n=1), Cell(state="not applicable", text="–")) * 2
        + (value(1, "9k"),),
        (*line, *line, value(1608, "1,608k")),
    ]
    marks = {"generated": "†", "exact": "‡"}
    return table_of(columns, rows, cells, marks=marks, footer=("first line", "second line"))


def grid_of(head):
    """What stands at each place of a head, by the spans of its cells."""
    places = {}
    rows = head.all("tr")
    for i, row in enumerate(rows):
        j = 0
        for cell in row.all("th"):
            while (i, j) in places:
                j += 1
            wide = int(cell.attributes.get("colspan") or 1)
            for down in range(int(cell.attributes.get("rowspan") or 1)):
                for across in range(wide):
                    assert (i + down, j + across) not in places
                    places[i + down, j + across] = cell.text
            j += wide
    width = max(j for _, j in places) + 1
    assert set(places) == {(i, j) for i in range(len(rows)) for j in range(width)}
    return [[places[i, j] for j in range(width)] for i in range(len(rows))]


def test_headings_reach_over_their_columns_and_down_where_there_is_none(nested, read):
    head = grid_of(read(RENDERERS["html"](nested)).one("thead"))
    assert head == [
        ["model", *["Topics†"] * 3, *["Styles"] * 3, "updates"],
        ["model", "W.O.", "With", "Δ", "W.O.", "With", "Δ", "updates"],
    ]


def test_cells_rules_and_groups(nested, read):
    page = read(RENDERERS["html"](nested))
    first, second = page.all("tbody")
    lines = [[cell.text for cell in row.all("th", "td")] for row in first.all("tr")]
    once = ["81.50 ± 0.20", "101.50 ± 10.20‡*", "−0.77 ± 0.31 ○"]
    assert lines == [
        ["SkipVAE‡", *once, *once, "608k"],
        ["ours"],
        ["Aggressive", *["failed", "79.90 (n=1)", "–"] * 2, "9k"],
    ]
    group, last = second.all("tr")
    assert (group.text, group.one("th").attributes["colspan"]) == ("theirs", "8")
    assert last.all("th")[0].attributes["scope"] == "row"
    assert [li.text for li in page.all("li")] == [
        "† generated",
        "‡ exact",
        "first line",
        "second line",
    ]
    assert page.one("figcaption").text == "table3 (quick): NLL by model"


def test_what_a_cell_is(nested, read):
    cells = read(RENDERERS["html"](nested)).all("td")
    assert [e.text for e in cells if "best" in e.classes] == ["101.50 ± 10.20‡*"] * 4
    assert all(e.one("strong").text == e.text for e in cells if "best" in e.classes)
    assert {e.text for e in cells if "failed" in e.classes} == {"failed"}
    assert {e.text for e in cells if "delta" in e.classes} == {"−0.77 ± 0.31 ○", "–"}
    assert cells[0].attributes["data-trials"] == "aaaa bbbb cccc"
    assert cells[0].attributes["data-n"] == "3/3"
    assert cells[0].attributes["title"] == (
        "n=3 of 3; 0: 81.5, 1: 81.5, 2: 81.5; trials aaaa, bbbb, cccc"
    )
    assert [e.text for e in cells[1].all("sup")] == ["‡*"]


def test_the_tip_says_what_each_scoring_gave(read):
    cell = value(
        1.5,
        "1.50",
        n=1,
        points=1,
        samples={"0, Greedy": 1.5},
        runs=tuple(
            Score(at=f"0, {how}", seed=0, trial="aaaa", evaluation=by, state=state, value=nll)
            for how, by, state, nll in (
                ("Greedy", "e", "value", 1.0),
                ("Beam", "f", "value", 2.0),
                ("Sampled", "g", "missing", None),
            )
        ),
        trials=("aaaa", "aaaa"),
        evaluations=("e", "f"),
    )
    table = table_of([column("NLL")], [Row(key="a", label="A")], [(cell,)])
    (found,) = read(RENDERERS["html"](table)).all("td")
    assert found.attributes["title"] == "n=1 of 1; 0, Greedy: 1, 0, Beam: 2; trials aaaa"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("missing", "missing"),
        ("unscored", "unscored"),
        ("running", "running"),
        ("failed", "failed"),
        ("diverged", "diverged"),
        ("exceeded", "exceeded"),
        ("not applicable", "–"),
        ("quoted", "80.10"),
        ("stale", "80.20"),
        ("value", "80.30"),
    ],
)
def test_states_differ_in_class_and_colour(state, text, read):
    table = table_of([column("NLL")], [Row(key="a", label="a")], [(Cell(state=state, text=text),)])
    (cell,) = read(html.render(table)).all("td")
    name = state.replace(" ", "-")
    assert (cell.text, name in cell.classes) == (text, True)
    assert f"td.{name}" in html.page(table) or state == "value"


def test_what_is_unseen_makes_every_number_of_a_column_as_wide(read):
    texts = ["81.50 ± 0.20", "101.50 ± 10.20", "9.00", "7 ± 3.10"]
    cells = [(value(1.0, text),) for text in texts]
    rows = [Row(key=text, label=text) for text in texts]
    page = read(html.render(table_of([column("NLL")], rows, cells)))

    def whole(element):
        text = element.attributes.get("data-after") or ""
        inside = "".join(c if isinstance(c, str) else whole(c) for c in element.children)
        return inside + text

    shown = [whole(td) for td in page.all("td")]
    assert [td.text for td in page.all("td")] == texts
    # 0 before 0.20 and 3.10, .50 behind 7, and all of a spread behind 9.00: behind the first
    # point, all are as long.
    assert shown == ["81.50 ± 00.20", "101.50 ± 10.20", "9.00 ± 10.20", "7.50 ± 03.10"]


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_a_label_comes_back_as_it_was_and_runs_nothing(label, read):
    columns = [
        Column(at={label: label}, metric=NLL, path=(label, label), notes=(label, None)),
        Column(at={label: "x"}, metric=NLL, path=(label, "x"), notes=(label, None)),
    ]
    rows = [Row(key=label, label=label, note=label, group=label), Row(key="x", label="x")]
    odd = value(1.0, "1.00", notes=(label,), samples={label: 1.0}, trials=(label,), star=label)
    lost = Cell(state="failed", text=label, trials=(label,), untested=(label,), points=1)
    table = table_of(
        columns,
        rows,
        [(odd, lost), (value(-2.0, "−2.00"), lost)],
        row_axis=label,
        caption=label,
        marks={label: "†"},
        footer=(label,),
    )
    said = plain(label)
    page = read(html.render(table))
    assert {e.name for e in page.walk()} - {""} <= ALLOWED
    for element in page.walk():
        assert not any(name.startswith("on") or name == "style" for name in element.attributes)
        assert not {"href", "src", "action"} & set(element.attributes)
    assert page.one("figcaption").text == plain(f"table3 (quick): {label}")
    assert grid_of(page.one("thead")) == [[said, f"{said}†", f"{said}†"], [said, said, "x"]]
    # Of one class or another: a text that looks like a number is set as one.
    lines = [[cell.text for cell in row.all("th", "td")] for row in page.all("tbody")[0].all("tr")]
    assert lines == [[said], [f"{said}†", f"1.00†{said}", said], ["x", "−2.00", said]]
    assert [li.text for li in page.all("li")] == [f"† {said}", said]
    tip = plain(f"n=3 of 3; {label}: 1; trials {label}")
    assert page.all("td")[0].attributes["title"] == tip
    (style,) = (whole := read(html.page(table))).all("style")
    assert whole.one("title").text == plain(f"table3 (quick): {label}")
    assert not whole.all("script")
    assert "</" not in style.text


def sha(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_a_page_of_its_own_loads_nothing(nested, read):
    page = read(FILES["html"](nested))
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'{sha(page.one('style').text)}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.one("figure").attributes["id"] == "table-table3"
    for address in ("http:", "https:", "url(", "@import", "//"):
        assert address not in FILES["html"](nested)


def test_it_is_the_same_each_time(nested):
    assert html.page(nested) == html.page(nested)


# ---- markup


def test_what_is_no_markup_is_escaped():
    assert tag("p", "a < b", tag("b", "&"), None, [" c", 3]) == "<p>a &lt; b<b>&amp;</b> c3</p>"
    assert tag("a", "x", href="#a'\"<", title=None, hidden=True) == (
        '<a href="#a&#x27;&quot;&lt;" hidden>x</a>'
    )
    assert tag("p", class_="a", data_n=3, aria_label="b") == (
        '<p class="a" data-n="3" aria-label="b"></p>'
    )
    assert tag("br") == "<br>"
    assert tag("path", d="M0 0", viewBox="0") == '<path d="M0 0" viewBox="0"/>'
    assert joined(["<", Html("<b>")]) == "&lt;<b>"
    assert escaped("a\x00<\u202e") == "a␀&lt;[U+202E]"


@pytest.mark.parametrize("attributes", [{"onclick": "x"}, {"style": "x"}, {"a b": "x"}, {"": "x"}])
def test_no_attribute_runs_anything(attributes):
    with pytest.raises(AssertionError):
        tag("p", **attributes)


def test_a_script_cannot_end_itself():
    for text in ("a</script>", "<!-- "):
        with pytest.raises(AssertionError):
            document("t", style="", script=text)


def test_a_text_of_many_lines_keeps_them(read):
    text = "one  two\n\n\tthree\r\nfour \x1b[1m\u202e</pre><script>\n"
    (shown,) = read(tag("pre", block(text))).all("pre")
    assert shown.text == "\none  two\n\n\tthree\nfour ␛[1m[U+202E]</pre><script>\n"
