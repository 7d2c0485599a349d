import csv
import html.parser
import io
import json
import re
import shutil
import subprocess

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from sweeper.render import RENDERERS, files, macros, terminal
from sweeper.render.csv import safe
from sweeper.render.latex import escaped as tex
from sweeper.render.layout import aligned, spans
from sweeper.spec.sweep import Metric
from sweeper.tables import Cell, Column, Row, Table

NLL = Metric(name="nll", source="test/nll_iw", label="NLL", format=".2f")


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


# CSV and JSON ----------------------------------------------------------------------------------


def test_csv_is_one_line_a_cell_with_whole_numbers(table3):
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](table3))))
    assert len(lines) == 18
    assert lines[2]["model"] == "SkipVAE"
    assert lines[2]["annealing"] == "Δ"
    assert float(lines[2]["mean"]) == -0.77  # a negative number stays one
    assert lines[2]["resolved"] == "false"
    assert (lines[7]["state"], lines[7]["mean"], lines[7]["n"]) == ("failed", "", "0")


def test_csv_guards_each_line_and_leaves_ordinary_text():
    assert safe("ok\n=1") == "ok\n'=1"
    assert safe("-x") == "'-x"
    assert safe("a;\u00a0=1") == "a;'\u00a0=1"  # a spreadsheet with ; for its delimiter
    assert safe("MaxPool - 2") == "MaxPool - 2"


@pytest.mark.parametrize("label", ["-1", "+0.5", "-1e-3", "-.5"])
def test_a_label_that_is_a_number_stays_one(label):
    assert safe(label) == label
    assert float(safe(label)) == float(label)


def test_an_axis_that_is_called_like_a_column_of_csv_keeps_its_own():
    table = table_of(
        [column("0", n="0"), column("1", n="1")],
        [Row(key="A", label="A")],
        [(value(1.0, "1.00"), value(2.0, "2.00"))],
        row_axis="mean",
    )
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](table))))
    assert [(line["axis mean"], line["axis n"], line["mean"], line["n"]) for line in lines] == [
        ("A", "0", "1.0", "3"),
        ("A", "1", "2.0", "3"),
    ]


def test_csv_says_the_unit_of_its_numbers():
    updates = Metric(name="updates", source="cost/updates", unit="k", scale=0.001)
    columns = [
        Column(at={}, metric=updates, kind=kind, path=(kind,), notes=(None,))
        for kind in ("value", "ratio")
    ]
    cells = (value(608.0, "608k"), value(3.1, "3.1x"))
    text = RENDERERS["csv"](table_of(columns, [Row(key="A", label="A")], [cells]))
    units = [(line["unit"], line["mean"]) for line in csv.DictReader(io.StringIO(text))]
    assert units == [("k", "608.0"), ("", "3.1")]


def test_csv_has_the_tests_of_a_value_each_in_columns_of_its_own():
    cells = (
        value(1.0, "1.00", star="*", p_star=0.03125, circle="°", p_circle=0.0625),
        value(2.0, "2.00", untested=("not tested: 2 of 3", "=1+1")),
    )
    table = table_of([column("a", n="a"), column("b", n="b")], [Row(key="A", label="A")], [cells])
    names = ("star_against_row", "p_against_row", "circle_of_checkpoints", "p_of_checkpoints")
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](table))))
    assert [tuple(line[name] for name in (*names, "untested")) for line in lines] == [
        ("*", "0.03125", "°", "0.0625", ""),
        ("", "", "", "", "not tested: 2 of 3;' =1+1"),
    ]
    assert [(line["p"], line["resolved"]) for line in lines] == [("", "")] * 2


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
    assert r"\cmidrule(lr){2-4}\cmidrule(l){5-7}" in text
    assert r"\sweeperbest{80}{.73}{} $\pm$ 0.47\textsuperscript{\dag{}}" in text
    assert text.count(r"\midrule") == 2


def test_latex_escapes():
    assert tex("a_b & 100%") == r"a\_b \& 100\%"
    assert tex("Δ −0.5") == r"$\Delta$ $-$0.5"
    assert tex("λ Λ ü") == r"$\lambda$ $\Lambda$ " + '\\"{u}'
    assert tex("中") == r"{\ttfamily U+4E2D}"


def compiled(folder, *fragments, packages="booktabs"):
    """The document of these fragments as plain text; fails on any error or missing sign."""
    if not shutil.which("pdflatex") or not shutil.which("pdftotext"):
        pytest.skip("needs pdflatex with booktabs, and pdftotext")
    body = "\n\\clearpage\n".join(fragments)
    source = rf"\documentclass{{article}}\usepackage{{{packages}}}\begin{{document}}{body}"
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


# Groups of rows -------------------------------------------------------------------------------


@pytest.fixture
def grouped():
    rows = [Row(key="A", label="A"), Row(key="B", label="B", group="Pooling")]
    rows += [Row(key="C", label="C", group="Pooling"), Row(key="D", label="D", group="Schemes")]
    return table_of([column("NLL")], rows, [(value(i / 1, f"{i}.00"),) for i in range(4)])


def test_a_group_of_rows_has_its_heading_once(grouped):
    body = [line.split() for line in RENDERERS["terminal"](grouped).splitlines()[4:10]]
    assert body == [
        ["A", "0.00"],
        ["Pooling"],
        ["B", "1.00"],
        ["C", "2.00"],
        ["Schemes"],
        ["D", "3.00"],
    ]
    cells = [row[0].strip() for row in parsed_markdown(RENDERERS["md"](grouped)).rows[1:]]
    assert cells == ["A", "Pooling", "B", "C", "Schemes", "D"]
    text = RENDERERS["tex"](grouped)
    assert text.count(r"\multicolumn{2}{@{}l}{\textit{Pooling}} \\") == 1
    assert text.index(r"\textit{Pooling}") < text.index(r"\quad B & 1.00")
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](grouped))))
    assert [line["group"] for line in lines] == ["", "Pooling", "Pooling", "Schemes"]


# Wide and long tables -------------------------------------------------------------------------


def wide_table(groups, values, rows, label="SeqVAE + Aggressive"):
    columns = [
        column(f"D{d}", f"M{m}", kind_, data=f"D{d}", m=f"M{m}")
        for d in range(groups)
        for m in range(values)
        for kind_ in ("ours", "paper")
    ]
    lines = [
        tuple(value(float(n), f"{n:.1f} ± 0.3") for n in range(100, 100 + len(columns)))
        for _ in range(rows)
    ]
    return table_of(
        columns, [Row(key=f"{label} {i}", label=f"{label} {i}") for i in range(rows)], lines
    )


def blocks_of(page):
    """The headings of each block, outermost first."""
    lines = page.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("━")][::2]
    return [lines[i + 1].split() for i in starts]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_eleven_rows_of_many_columns_fit_the_terminal(width):
    page = terminal.text(wide_table(2, 5, 11), width=width).plain
    assert max(map(cell_len, page.splitlines())) <= width
    shown = re.findall(r"\d{3}\.\d", page)
    assert len(shown) == 11 * 20
    # A group that is taken apart stands by itself.
    assert all(len(set(outer)) == 1 for outer in blocks_of(page))


def test_blocks_are_about_equally_wide():
    page = terminal.text(wide_table(6, 1, 3), width=105).plain  # four would fit, two remain
    assert [len(outer) for outer in blocks_of(page)] == [3, 3]


def test_a_long_label_goes_on_below_and_a_long_heading_above():
    table = table_of(
        [column("a heading of many words that no column is wide enough for")],
        [Row(key="A", label="a label of so many words that it would push all numbers away")],
        [(value(1.0, "1.00"),)],
    )
    assert [line.rstrip() for line in terminal.text(table, width=60).plain.splitlines()[1:-1]] == [
        "━" * 45,
        " " * 21 + "a heading of many words",
        " " * 21 + " that no column is wide",
        "model" + " " * 16 + "       enough for",
        "─" * 45,
        "a label of so many" + " " * 3 + " " * 10 + "1.00",
        "words that it would",
        "push all numbers",
        "away",
        "━" * 45,
    ]


def test_without_colour_nothing_is_coloured(table3):
    def shown(**environment):
        out = io.StringIO()
        screen = Console(file=out, force_terminal=True, width=100, _environ=environment)
        screen.print(terminal.text(table3, width=100))
        return re.findall(r"\x1b\[([\d;]*)m", out.getvalue())

    colours = {str(n) for n in (*range(30, 50), *range(90, 108))}
    with_colour = {code for codes in shown(TERM="xterm") for code in codes.split(";")}
    without = {code for codes in shown(TERM="xterm", NO_COLOR="1") for code in codes.split(";")}
    assert "31" in with_colour  # failed is red
    assert not without & colours


def test_latex_breaks_a_table_that_no_page_holds(tmp_path):
    """60 rows of 40 columns: several floats under one number, each within its page."""
    text = RENDERERS["tex"](wide_table(4, 5, 60))
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") > 1
    assert text.count(r"\label{tab:table3}") == 1
    assert text.count(r"\addtocounter{table}{-1}") == text.count(r"\begin{table*}") - 1
    assert len(re.findall(r"\d{3}\.\d", text)) == 60 * 40
    printed = compiled(tmp_path, text, packages="booktabs,graphicx")
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert not re.search(r"Float too large|Overfull", log)
    assert len(re.findall(r"\d{3}\.\d", printed)) == 60 * 40
    assert set(re.findall(r"Table (\d+)", printed)) == {"1"}


def test_latex_says_that_a_table_is_too_wide_where_nothing_scales_it(tmp_path):
    text = RENDERERS["tex"](wide_table(1, 5, 3))
    compiled(tmp_path, text, packages="booktabs")
    warned = "Package sweeper Warning: a table is wider than the text"
    assert warned in (tmp_path / "t.log").read_text(errors="replace")
    compiled(tmp_path, text, packages="booktabs,graphicx")
    assert "Package sweeper" not in (tmp_path / "t.log").read_text(errors="replace")


def test_latex_decimals_stand_under_each_other(tmp_path):
    """Measured by TeX: all numbers of a column are equally wide, marks and bold included."""
    cells = [
        value(1.5, "1.5 ± 10.25"),
        value(-100.25, "−100.25 ± 0.5 (n=2)", notes=("a",)),
        value(20.0, "20.00", notes=("a", "b")),
    ]
    table = table_of(
        [column("NLL")],
        [Row(key=c.text, label="r") for c in cells],
        [(c,) for c in cells],
        marks={"a": "†", "b": "‡"},
    )
    body = RENDERERS["tex"](table).split(r"\midrule")[1].split(r"\bottomrule")[0]
    sources = [line.removesuffix(r" \\").split(" & ")[1] for line in body.strip().splitlines()]
    boxes = [rf"\setbox0=\hbox{{{source}}}\typeout{{WIDTH \the\wd0}}" for source in sources]
    compiled(tmp_path, *boxes, "x")
    widths = re.findall(r"WIDTH ([\d.]+)pt", (tmp_path / "t.log").read_text())
    assert len(widths) == 3
    assert max(map(float, widths)) - min(map(float, widths)) < 0.6  # − and a digit differ


# Numbers as macros ----------------------------------------------------------------------------


def commands(table):
    lines = RENDERERS["macros"](table).splitlines()
    found = [re.fullmatch(r"\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}  % (.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def test_a_macro_for_each_cell(table3):
    found = commands(table3)
    assert found["tableThreeSkipVAETopicsWONll"] == r"\mbox{81.50 $\pm$ 0.20}"
    assert found["tableThreeSkipVAETopicsWONllMean"] == "81.50"
    assert found["tableThreeSkipVAETopicsWONllSd"] == "0.20"
    # A difference without what the table marks on it; what is missing is no number.
    assert found["tableThreeSkipVAEStylesDeltaNll"] == r"\mbox{$-$0.77 $\pm$ 0.31}"
    assert found["tableThreeSkipVAEStylesDeltaNllMean"] == r"\mbox{$-$0.77}"
    assert found["tableThreeAggressiveTopicsWithNll"] == r"\textbf{??}"
    assert found["tableThreeMaxPoolTopicsWithNll"] == r"\textbf{??}"
    # A mean of fewer trials than it should have says so.
    assert found["tableThreeMaxPoolTopicsWONll"] == "\\mbox{79.90 (n=1)}"


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("W.O.", "WO"),
        ("MaxPool", "MaxPool"),
        ("table1_own", "TableOneOwn"),
        ("32", "ThreeTwo"),
        ("0.5", "ZeroPointFive"),
        ("-1", "MinusOne"),
        ("−1", "MinusOne"),
        ("LSTM-LM", "LSTMLM"),
        ("β = 0.2", "BetaZeroPointTwo"),
        ("Łódź", "Lodz"),
        ("Zürich", "Zurich"),
        ("中", "UFoureTwod"),
        ("--", ""),
    ],
)
def test_names_are_letters_only(text, spelt):
    assert macros.letters(text) == spelt


def test_names_that_would_be_one_are_told_apart_by_what_they_stand_for():
    """a-b and a.b are both AB: each gets letters of its own, whatever else is in the table;
    the bare name is no number's."""

    def of(*keys):
        rows = [Row(key=key, label=key) for key in keys]
        cells = [(value(float(len(key)), f"{len(key)}.00"),) for key in keys]
        return commands(table_of([column("NLL")], rows, cells))

    both = of("a-b", "a.b ")
    assert sorted(both.values()) == ["3.00", "4.00"]
    assert all(re.fullmatch(r"tableThreeABNll[A-Z]{6}", name) for name in both)
    assert of("x", "a.b ", "a-b").items() >= both.items()
    assert set(of("a-b")) == {"tableThreeABNll"}


def test_a_table_called_end_something_has_macros_that_latex_allows(tmp_path):
    table = table_of(
        [column("NLL")], [Row(key="A", label="A")], [(value(1.0, "1.00"),)], name="ends"
    )
    assert "1.00 nats" in compiled(tmp_path, RENDERERS["macros"](table) + r"\EndsANll{} nats")


def test_a_stale_number_says_so_where_it_is_quoted():
    cell = Cell(state="stale", text="1.00", mean=1.0, n=3, points=3)
    found = commands(table_of([column("NLL")], [Row(key="A", label="A")], [(cell,)]))
    assert found == {"tableThreeANll": r"1.00\textsuperscript{stale}"}


def test_macros_are_written_with_the_table(table3):
    written = files(table3, "tex")
    assert set(written) == {"tex", "macros.tex"}
    assert written["macros.tex"] == RENDERERS["macros"](table3)
    assert set(files(table3, "md")) == {"md"}


def test_quoted_numbers_compile(table3, tmp_path):
    names = ("SkipVAETopicsWONll", "SkipVAETopicsDeltaNllMean", "MaxPoolTopicsWithNll")
    whole, mean, missing = (rf"\tableThree{name}" for name in names)
    quote = rf"{whole}{{}} nats, ${mean}$, {missing}"
    printed = compiled(tmp_path, RENDERERS["macros"](table3) + quote)
    assert "81.50 ± 0.20 nats, −0.77, ??" in printed


def test_each_derived_number_has_a_macro_and_compiles(tmp_path):
    """What stands beside a value is named by its kind: minus a row, divided by one, published,
    ours minus published; a difference of columns by its label."""
    percent = Metric(name="acc", source="test/acc", format=".1%")
    kinds = ("value", "delta", "ratio", "paper", "difference")
    columns = [
        Column(
            at={"data": "Yelp"}, metric=percent, kind=kind, path=("Yelp", kind), notes=(None,) * 2
        )
        for kind in kinds
    ]
    columns.append(column("Yelp", "Δ", kind="delta", data="Δ"))
    cells = (
        value(0.75, "75.0% ± 1.0%", sd=0.01),
        value(-0.025, "−2.5 pp ± 0.5 pp ●", sd=0.005, resolved=True),
        Cell(state="stale", text="1.1x", mean=1.1, n=3, points=3),
        Cell(state="quoted", text="77.5%", mean=0.775),
        Cell(state="value", text="−2.5 pp (n=2)", mean=-0.025, n=2, points=3),
        value(-1.5, "−1.50 ± 0.25 ○", sd=0.25, resolved=False),
    )
    table = table_of(columns, [Row(key="A", label="A")], [cells])
    macro_texts = {
        "tableThreeAYelpAcc": "75.0% ± 1.0%",
        "tableThreeAYelpAccMean": "75.0%",
        "tableThreeAYelpAccSd": "1.0%",
        "tableThreeAYelpAccDelta": "−2.5 pp ± 0.5 pp",
        "tableThreeAYelpAccDeltaMean": "−2.5 pp",
        "tableThreeAYelpAccDeltaSd": "0.5 pp",
        "tableThreeAYelpAccRatio": "1.1xstale",
        "tableThreeAYelpAccPaper": "77.5%",
        "tableThreeAYelpAccDifference": "−2.5 pp (n=2)",
        "tableThreeADeltaNll": "−1.50 ± 0.25",
        "tableThreeADeltaNllMean": "−1.50",
        "tableThreeADeltaNllSd": "0.25",
    }
    assert set(commands(table)) == set(macro_texts)
    # Each in the text and in a formula.
    quotes = "\n\n".join(
        rf"\noindent {name}: \{name}{{}}; ${name[-1]}: \{name}$." for name in macro_texts
    )
    printed = compiled(tmp_path, RENDERERS["macros"](table) + quotes)
    printed = re.sub(r"\n?stale\n?", "stale", re.sub(r"[ \t]+", " ", printed))
    for name, text in macro_texts.items():
        if "stale" not in text:
            assert f"{name}: {text}; {name[-1]} : {text}." in printed, printed
    assert printed.count("stale") == 2
