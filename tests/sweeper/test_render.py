import csv
import html.parser
import io
import json
import re
import shutil
import subprocess
import unicodedata

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from sweeper.render import RENDERERS, terminal
from sweeper.render.csv import safe
from sweeper.render.latex import escaped as tex
from sweeper.render.layout import aligned, plain, spans
from sweeper.spec.sweep import Metric
from sweeper.tables import Cell, Column, Row, Table

NLL = Metric(name="nll", source="test/nll_iw", label="NLL", format=".2f")

HOSTILE = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    " \u00a0=1+1",
    "a | b",
    r"a \| b",
    "`code`",
    "``",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "**bold** _it_ ~~no~~",
    "\\",
    r"\input{/etc/passwd}",
    r"\immediate\write18{id}",
    "{unbalanced",
    "unbalanced}",
    "100% & more # $x$ ^ _ ~",
    "[optional]",
    "*starred",
    "a--b---c ''q'' ?` !`",
    'say "hi"',
    "two\nlines",
    "carriage\rreturn",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "nul\x00nul",
    "right \u202eto left",
    "\u2066isolate\u2069",
    "zero\u200bwidth",
    "&amp; &lt;",
    "[bold]rich[/bold]",
    "Zürich Łódź naïve ø",
    "αβ Δ ● ± − – ÷",
    "中文 模型",
    "e\u0301",
    "^^41",
    "%comment",
    "1. item",
    "# title",
    "> quote",
]


def value(mean, text, **fields):
    return Cell(state="value", text=text, mean=mean, n=3, points=3, **fields)


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


def column(*path, kind="value", **at):
    return Column(at=at, metric=NLL, kind=kind, path=path, notes=(None,) * len(path))


def one_label(label):
    """A table in which every piece of free text is `label`."""
    return table_of(
        [Column(at={label: label}, metric=NLL, path=(label, label), notes=(label, None))],
        [Row(key=label, label=label, note=label), Row(key="x", label="x")],
        [(value(1.0, "1.00", notes=(label,)),), (value(-2.0, "−2.00"),)],
        row_axis=label,
        caption=label,
        marks={label: "†"},
        footer=(label,),
    )


@pytest.fixture
def table3():
    columns = [
        column(d, a, kind="delta" if a == "Δ" else "value", dataset=d, annealing=a)
        for d in ("Topics", "Styles")
        for a in ("W.O.", "With", "Δ")
    ]
    cells = [
        value(81.5, "81.50 ± 0.20", sd=0.2),
        value(80.73, "80.73 ± 0.47", sd=0.47, best=True, notes=("exact",)),
        value(-0.77, "−0.77 ± 0.31 ○", sd=0.31, resolved=False),
    ]
    high = [
        value(101.5, "101.50 ± 10.20", sd=10.2),
        Cell(state="failed", text="failed", points=3, states={"failed": 3}),
        Cell(state="failed"),
    ]
    filling = Cell(
        state="value",
        text="79.90 (n=1)",
        mean=79.9,
        n=1,
        points=3,
        samples={"0": 79.9},
        states={"value": 1, "running": 1, "missing": 1},
    )
    waiting = Cell(state="missing", text="missing", points=3, states={"missing": 3})
    rows = [
        Row(key="SkipVAE", label="SkipVAE"),
        Row(key="Aggressive", label="Aggressive", rule_after=True),
        Row(key="MaxPool", label="MaxPool"),
    ]
    lines = [cells * 2, high * 2, [filling, waiting, Cell(state="missing")] * 2]
    return table_of(columns, rows, map(tuple, lines), marks={"exact": "†"})


# Layout ----------------------------------------------------------------------------------------


def test_decimal_points_stand_under_each_other():
    lines = aligned(["81.50 ± 0.20", "101.5 ± 10.2†", "9.00 (n=1)", "failed", "–", "608k"])
    assert lines == [
        " 81.50 ±  0.20",
        "101.5  ± 10.2†",
        "  9.00 (n=1)  ",
        "    failed    ",
        "      –       ",
        "608k          ",
    ]


def test_headings_span_what_they_share():
    levels = spans([("A", "x"), ("A", "y"), ("B", "y"), ("", "z")])
    assert [[(s.text, s.start, s.stop) for s in level] for level in levels] == [
        [("A", 0, 2), ("B", 2, 3), ("", 3, 4)],
        [("x", 0, 1), ("y", 1, 2), ("y", 2, 3), ("z", 3, 4)],
    ]


# Terminal --------------------------------------------------------------------------------------


PAGE = """
table3 (quick): NLL by model
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
                               Topics                                          Styles
            ─────────────────────────────────────────────   ─────────────────────────────────────────────
model            W.O.           With             Δ               W.O.           With             Δ
─────────────────────────────────────────────────────────────────────────────────────────────────────────
SkipVAE      81.50 ±  0.20  80.73 ± 0.47†  −0.77 ± 0.31 ○    81.50 ±  0.20  80.73 ± 0.47†  −0.77 ± 0.31 ○
Aggressive  101.50 ± 10.20     failed                       101.50 ± 10.20     failed
─────────────────────────────────────────────────────────────────────────────────────────────────────────
MaxPool      79.90 (n=1)       missing                       79.90 (n=1)       missing
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
† exact
NLL: mean ± sd over seed (n=3 where not said otherwise)
"""  # noqa: E501


def test_the_terminal_table_reads_like_the_papers(table3):
    page = terminal.text(table3, width=120).plain
    assert [line.rstrip() for line in page.splitlines()] == PAGE.strip().splitlines()


def test_two_corpora_and_three_columns_fit_a_hundred_characters(table3):
    ordinary = Table(
        **{f: getattr(table3, f) for f in Table.__slots__}
        | {"rows": table3.rows[:1]}
        | {"cells": table3.cells[:1]}
    )
    lines = RENDERERS["terminal"](ordinary).splitlines()
    assert max(map(cell_len, lines)) <= 100
    assert sum("━" in line for line in lines) == 2  # one block


def test_a_table_that_is_too_wide_is_set_in_blocks(table3):
    lines = terminal.text(table3, width=70).plain.splitlines()
    assert max(map(cell_len, lines)) <= 70
    assert sum("SkipVAE" in line for line in lines) == 2
    assert sum("Topics" in line for line in lines) == 1


def test_cells_in_progress_say_how_many_trials_are_there(table3):
    page = terminal.text(table3, width=120, progress=True).plain
    assert re.search(r"MaxPool +79\.90 1/3 +0/3 +79\.90 1/3 +0/3", page)


def test_the_best_cell_is_bold_in_the_terminal(table3):
    page = terminal.text(table3, width=120)
    bold = [page.plain[s.start : s.end] for s in page.spans if s.style == "bold"]
    assert "80.73 ± 0.47†" in bold
    assert not any("81.50" in text for text in bold)


@pytest.mark.parametrize("label", HOSTILE)
def test_nothing_in_the_terminal_moves_the_cursor_or_turns_the_text(label):
    page = RENDERERS["terminal"](one_label(label))
    forbidden = [c for c in page if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
    assert not forbidden


# Markdown --------------------------------------------------------------------------------------


class Cells(html.parser.HTMLParser):
    """The text of each cell of an HTML table, and every tag met."""

    def __init__(self):
        super().__init__()
        self.rows, self.tags, self.inside = [], set(), False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def parsed_markdown(text):
    cells = Cells()
    cells.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
    return cells


def test_markdown_parses_back(table3):
    cells = parsed_markdown(RENDERERS["md"](table3))
    assert cells.rows[0][:4] == ["model", "Topics W.O.", "Topics With", "Topics Δ"]
    first = [re.sub(" +", " ", text) for text in cells.rows[1]]
    assert first[:4] == ["SkipVAE", "81.50 ± 0.20", "80.73 ± 0.47†", "−0.77 ± 0.31 ○"]
    assert "strong" in cells.tags


def test_markdown_is_aligned_in_its_source(table3):
    lines = [line for line in RENDERERS["md"](table3).splitlines() if line.startswith("|")]
    assert len({cell_len(line) for line in lines}) == 1
    assert len({line.index("±") for line in lines if "±" in line}) == 1


@pytest.mark.parametrize("label", HOSTILE)
def test_markdown_shows_a_hostile_label_as_it_is(label):
    cells = parsed_markdown(RENDERERS["md"](one_label(label)))
    shown = plain(label).strip()
    assert [row[0].strip() for row in cells.rows[:2]] == [shown, f"{shown}†"]
    assert cells.rows[2] == ["x", "−2.00"]
    allowed = {"p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert cells.tags <= allowed


# CSV and JSON ----------------------------------------------------------------------------------


def test_csv_is_one_line_a_cell_with_whole_numbers(table3):
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](table3))))
    assert len(lines) == 18
    assert lines[2]["model"] == "SkipVAE"
    assert lines[2]["annealing"] == "Δ"
    assert float(lines[2]["mean"]) == -0.77  # a negative number stays one
    assert lines[2]["resolved"] == "false"
    assert (lines[7]["state"], lines[7]["mean"], lines[7]["n"]) == ("failed", "", "0")


@pytest.mark.parametrize("label", HOSTILE)
def test_csv_parses_back_and_holds_no_formula(label):
    rows = list(csv.reader(io.StringIO(RENDERERS["csv"](one_label(label)), newline="")))
    assert len({len(row) for row in rows}) == 1
    unguarded = re.sub(r"(?m)^'", "", rows[1][0])
    assert plain(unguarded) == plain(label)
    for text in (cell for row in rows for cell in row):
        for line in text.splitlines():
            bare = line.lstrip(" \u00a0")
            assert not bare.startswith(("=", "+", "@", "\t", "\r")) or re.fullmatch(
                r"[-+]?[\d.]+", bare
            )


def test_csv_guards_each_line_and_leaves_ordinary_text():
    assert safe("ok\n=1") == "ok\n'=1"
    assert safe("-x") == "'-x"
    assert safe("MaxPool - 2") == "MaxPool - 2"


@pytest.mark.parametrize("label", HOSTILE)
def test_json_parses_back(label):
    value = json.loads(RENDERERS["json"](one_label(label)))
    assert value["rows"][0]["key"] == label
    assert value["columns"][0]["at"] == {label: label}
    assert value["rows"][1]["cells"][0]["mean"] == -2.0


def test_json_names_the_trials_behind_a_cell():
    cell = value(1.0, "1.00", trials=("a1", "b2"), samples={"0": 0.5, "1": 1.5})
    text = RENDERERS["json"](table_of([column("NLL")], [Row(key="A", label="A")], [(cell,)]))
    shown = json.loads(text)["rows"][0]["cells"][0]
    assert shown["trials"] == ["a1", "b2"]
    assert shown["samples"] == {"0": 0.5, "1": 1.5}


# LaTeX -----------------------------------------------------------------------------------------


def test_latex_has_nested_headings_and_booktabs_rules(table3):
    text = RENDERERS["tex"](table3)
    assert r"\multicolumn{3}{c}{Topics} & \multicolumn{3}{c}{Styles} \\" in text
    assert r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}" in text
    assert r"\textbf{\boldmath 80.73 $\pm$ 0.47}\rlap{\textsuperscript{\dag{}}}" in text
    assert text.count(r"\midrule") == 2


@pytest.mark.parametrize("label", HOSTILE)
def test_latex_is_ascii_and_balanced(label):
    text = RENDERERS["tex"](one_label(label))
    assert text.isascii()
    bare = re.sub(r"\\[{}\\$&#_%]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    commands = set(re.findall(r"\\([A-Za-z]+)", text))
    assert not commands & {"input", "immediate", "write", "include", "openin", "def"}


def test_latex_escapes():
    assert tex("a_b & 100%") == r"a\_b \& 100\%"
    assert tex("Δ −0.5") == r"$\Delta$ $-$0.5"
    assert tex("λ Λ ü") == r"$\lambda$ $\Lambda$ " + '\\"{u}'
    assert tex("中") == r"{\ttfamily U+4E2D}"


def compiled(folder, *fragments):
    """The document of these fragments as plain text; fails on any error or missing sign."""
    if not shutil.which("pdflatex") or not shutil.which("pdftotext"):
        pytest.skip("needs pdflatex with booktabs, and pdftotext")
    body = "\n\\clearpage\n".join(fragments)
    source = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}"
    (folder / "t.tex").write_text(source + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    ran = subprocess.run([*command, "t.tex"], cwd=folder, capture_output=True, timeout=60)
    log = (folder / "t.log").read_text(errors="replace")
    assert ran.returncode == 0, log[-2000:]
    assert "Missing character" not in log
    out = subprocess.run(["pdftotext", "-layout", "t.pdf", "-"], cwd=folder, capture_output=True)
    return out.stdout.decode()


def test_latex_compiles_as_it_is(table3, tmp_path):
    text = compiled(tmp_path, RENDERERS["tex"](table3))
    assert "Aggressive" in text
    assert re.search(r"SkipVAE\s+81.50 ± 0.20", text)


def test_hostile_labels_compile_and_print(tmp_path):
    def letters(text):
        return re.findall(r"[A-Za-z]{3,}|\d+", text)

    labels = [label for label in HOSTILE if plain(label).isascii()]
    fragments = [RENDERERS["tex"](one_label(label)) for label in HOSTILE]
    # \label and floats need different names and pages, nothing else.
    named = [f.replace("tab:table3", f"tab:{i}") for i, f in enumerate(fragments)]
    printed = compiled(tmp_path, *named)
    for label in labels:
        for word in letters(plain(label)):
            assert word in printed, label


# Every format ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RENDERERS)
def test_every_format_is_text_that_ends_with_a_line(name, table3):
    text = RENDERERS[name](table3)
    assert text.endswith("\n")
    assert text == RENDERERS[name](table3)
    assert "SkipVAE" in text


@pytest.mark.parametrize("name", RENDERERS)
def test_every_format_renders_a_table_without_columns_of_axes(name):
    table = table_of([column("NLL")], [Row(key="A", label="A")], [(value(1.0, "1.00"),)])
    assert "1.0" in RENDERERS[name](table)
