"""Hostile text through every format: parsed back it is the same text or its documented
stand-in, nothing is obeyed, and no table has a cell more or less for it."""

import csv
import html.parser
import io
import json
import re
import shutil
import subprocess
import unicodedata
from itertools import product

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from sweeper.render import RENDERERS, macros, terminal
from sweeper.render.latex import escaped
from sweeper.spec.sweep import Metric
from sweeper.tables import Cell, Column, Row, Table

SAME = [
    # formulas
    "=1+1",
    '=HYPERLINK("http://example.org?x="&A1,"click")',
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(A1:A9)",
    "x;=1+1",
    "x;@SUM(A1)",
    "＝1+1",
    "'=1+1",
    "-0.5",
    "−0.5",
    # markdown
    "a | b",
    r"a \| b",
    "||||",
    "`code`",
    "``",
    "```",
    "**bold** _it_ ~~no~~ __u__",
    "[click](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "[x]: http://example.org",
    "<http://example.org>",
    "1. item",
    "- item",
    "+",
    "# title",
    "> quote",
    "---",
    "| --- |",
    ":---:",
    "$x^2$ and $$y$$",
    "[^1]",
    # GitHub
    "www.example.org",
    "https://example.org",
    "@team and a@example.org",
    ":100: :+1:",
    # HTML
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><h1>",
    "<!-- comment",
    "]]>",
    '"onmouseover="alert(1)',
    "&amp; &lt; &#60; &nbsp;",
    "javascript:alert(1)",
    "{{ 7*7 }} {% x %} ${7*7} <%= 7 %>",
    # LaTeX
    "\\",
    "\\\\",
    r"\input{/etc/passwd}",
    r"\immediate\write18{id}",
    r"\end{tabular}\end{table}\end{document}",
    r"\newcommand{\x}{\x}\x",
    r"\def\par{}",
    "{unbalanced",
    "unbalanced}",
    "100% & more # $x$ ^ _ ~",
    "%comment",
    "[optional]",
    "[2cm]",
    "*starred",
    "a--b---c ''q'' ?` !` ,, << >>",
    "^^41 ^^M",
    "fi ff fl ffi ffl",
    "ﬁ ﬀ ﬃ",
    "\"say\" 'hi' “quoted” ‘so’",
    # terminals
    "[bold]rich[/bold]",
    "[link=http://example.org]x[/link]",
    r"\x1b[31m \033[0m",
    # writing
    "Zürich Łódź naïve ø Ångström",
    "αβ Δ ● ± – ÷ × → ≤ °",
    "中文 模型",
    "日本語のとても長いラベルはここで折り返される",
    "نموذج",
    "עברית 12 אבג",
    "می\u200cخواهم",
    "हिन्दी",
    "👩\u200d🔬 🎉 ❤️ 🇩🇪",
    "Z\u0351\u0343\u036a\u0302a\u0363\u0342l\u0367g\u0346o",
    "W" * 300,
    "many words " * 30 + "end",
    "long-with-hyphens-" * 12,
    "x",
]
CHANGED = {  # text -> what stands for it
    "\t=1+1": "=1+1",
    "\r=1+1": "=1+1",
    " \u00a0=1+1": "=1+1",
    "\u3000=1+1": "=1+1",
    "two\nlines": "two lines",
    "ok\n=1+1": "ok =1+1",
    "a\r\n\r\n| b": "a | b",
    "carriage\rreturn": "carriage return",
    "a\u2028b\u2029c": "a b c",
    "\x1b[31mred\x1b[0m": "␛[31mred␛[0m",
    "\x1b]0;title\x07": "␛]0;title␇",
    "\x1b]8;;http://example.org\x1b\\x": "␛]8;;http://example.org␛\\x",
    "\x9b31m": "[U+009B]31m",
    "nul\x00nul": "nul␀nul",
    "back\x08\x08\x7f": "back␈␈␡",
    "unit\x1fseparator": "unit␟separator",
    "next\x85line": "next[U+0085]line",
    "right \u202eto left": "right [U+202E]to left",
    "\u2066isolate\u2069": "[U+2066]isolate[U+2069]",
    "mark\u200e\u200f\u061c": "mark[U+200E][U+200F][U+061C]",
    "zero\u200bwidth": "zero[U+200B]width",
    "ad\u200dmin": "ad[U+200D]min",
    "soft\u00adhyphen": "soft[U+00AD]hyphen",
    "\ufeffbom": "[U+FEFF]bom",
    "word\u2060joiner": "word[U+2060]joiner",
    "filler\u3164": "filler[U+3164]",
    "tag\U000e0041": "tag[U+E0041]",
    "private\ue000": "private[U+E000]",
    "none\uffff": "none[U+FFFF]",
    "lone\ud800": "lone[U+D800]",
}
CORPUS = {text: " ".join(text.split()) for text in SAME} | CHANGED
ASCII = [text for text, shown in CORPUS.items() if shown.isascii()]


def name_of(text):
    return ascii(text)[1:-1][:30]


def hostile_table(text):
    """A table in which every piece of free text is `text`, and a cell ends with it."""
    metric = Metric(name="nll", source="test/nll_iw", label=text, unit=text, note=text)
    headings = [(text, text), (text, "plain")]
    columns = [
        Column(at={"data": text, "kind": last}, metric=metric, path=path, notes=(text, None))
        for path, last in zip(headings, ("a", "b"), strict=True)
    ]
    first = (_cell(1.0, "1.00", notes=(text,)), _cell(2.0, "2.00", best=True, star="&"))
    second = (_cell(-2.0, f"−2.00 {text}"), Cell(state="failed", text=f"failed {text}"))
    return Table(
        name="table3",
        profile="quick",
        caption=text,
        row_axis=text,
        columns=tuple(columns),
        rows=(
            Row(key=text, label=text, note=text, rule_after=True),
            Row(key="the second", label=text, group=text),
        ),
        cells=(first, second),
        marks={text: "†"},
        footer=(text, f"made: {text}"),
    )


def _cell(mean, text, **fields):
    return Cell(state="value", text=text, mean=mean, n=3, points=3, **fields)


def squeezed(text):
    """Without white space: where lines are broken, and how far apart words are set, may
    differ."""
    return re.sub(r"\s", "", text)


def test_the_corpus_is_large():
    assert len(CORPUS) == len(SAME) + len(CHANGED)
    assert len(CORPUS) >= 100


def test_every_format_is_parsed_back():
    assert set(PARSED) == set(RENDERERS)


@pytest.mark.parametrize("text", CORPUS, ids=name_of)
@pytest.mark.parametrize("style", RENDERERS)
def test_hostile_text_comes_back(style, text):
    page = RENDERERS[style](hostile_table(text))
    page.encode()  # no lone surrogate is left
    PARSED[style](page, text, CORPUS[text])


# Markdown --------------------------------------------------------------------------------------


class Cells(html.parser.HTMLParser):
    """The text of each cell, item and paragraph of a page of HTML; its tags and attributes."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.items, self.tags, self.attributes = [], [], set(), []
        self.widths = []
        self.inside = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "tr":
            self.rows.append([])
            self.widths.append(0)
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.widths[-1] += int(dict(attrs).get("colspan") or 1)
            self.inside = self.rows[-1]
        if tag in ("p", "li", "figcaption"):
            self.items.append("")
            self.inside = self.items

    def handle_endtag(self, tag):
        if tag in ("td", "th", "p", "li", "figcaption"):
            self.inside = None

    def handle_data(self, data):
        if self.inside is not None:
            self.inside[-1] += data


def back_from_markdown(page, text, shown):
    assert len([line for line in page.splitlines() if line.startswith("|")]) == 5
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    # What has no width stands only where it keeps an address, a mention or an emoji apart.
    cells = Cells(reader.render(page).replace("\u200b", ""))
    assert cells.tags <= {"p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert {len(row) for row in cells.rows} == {3}
    rows = [[" ".join(cell.split()) for cell in row] for row in cells.rows]
    assert rows[0] == [shown, f"{shown}† {shown}", f"{shown}† plain"]
    assert rows[1] == [f"{shown}†", "1.00†", "2.00&"]
    assert rows[2] == [shown, "", ""]
    assert rows[3] == [shown, f"−2.00 {shown}", f"failed {shown}"]
    assert [" ".join(item.split()) for item in cells.items] == [
        f"table3 (quick): {shown}",
        f"† {shown}",
        shown,
        f"made: {shown}",
    ]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("www.x.y", "www&#8203;.x.y"),
        ("https://x.y", "https:&#8203;//x.y"),
        ("@team, a@b.c", "@&#8203;team, a@&#8203;b.c"),
        (":100:", ":&#8203;100:"),
        (":+1::joy_cat:", ":&#8203;+1::&#8203;joy\\_cat:"),
        ("1:02:03 at 5 @ 3, a: b", "1:02:03 at 5 @ 3, a: b"),
    ],
)
def test_markdown_makes_no_address_mention_or_emoji(text, source):
    page = RENDERERS["md"](hostile_table(text))
    assert page.startswith(f"**table3 (quick): {source}**")
    assert f"- made: {source}\n" in page
    assert f"−2.00 {source}" in re.sub(" +", " ", page)
    # A reader's own look for emoji, mentions and addresses comes after escapes and entities.
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(page)
    live = r"www\.|https?://|@\w|:(100|\+1|joy_cat):"
    assert not re.search(live, shown)


# HTML ------------------------------------------------------------------------------------------


def back_from_html(page, text, shown):
    cells = Cells(page)
    assert not cells.tags & {"script", "img", "iframe", "h1", "a", "object", "link", "base"}
    for _, name, value in cells.attributes:
        obeyed = name.startswith("on") or name in ("src", "href", "srcdoc")
        assert not obeyed, (name, value)
    assert not [c for c in page if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    # Two lines of headings, the first of them with the stub beside both; a heading of rows.
    assert cells.widths == [3, 2, 3, 3, 3]
    rows = [[squeezed(cell) for cell in row] for row in cells.rows]
    said = squeezed(shown)
    assert rows[0] == [said, f"{said}†"]
    assert rows[1] == [said, "plain"]
    assert rows[2] == [f"{said}†", "1.00†", "2.00&"]
    assert rows[3] == [said]
    assert rows[4] == [said, f"−2.00{said}", f"failed{said}"]
    items = [squeezed(item) for item in cells.items]
    assert items == [f"table3(quick):{said}", f"†{said}", said, f"made:{said}"]


# CSV and JSON ----------------------------------------------------------------------------------

NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")


def back_from_csv(page, text, shown):
    rows = list(csv.reader(io.StringIO(page, newline="")))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 1 + 2 * 2
    for cell in (cell for row in rows for cell in row):
        if not NUMBER.fullmatch(cell):
            for part in re.split(r"[\n;]", cell):
                assert not re.match(r"\s*[=+\-@＝＋－＠]|[\t\r]", part), cell
    named = dict(zip(rows[0], rows[1], strict=True))
    for there in (rows[0][0], rows[1][0], named["data"], named["notes"], named["unit"]):
        bare = re.sub(r"(^|[\n;])'(?=\s*[=+\-@＝＋－＠\t])", r"\1", there)
        assert shown in (" ".join(bare.split()), there)
    assert [dict(zip(rows[0], row, strict=True))["mean"] for row in rows[1:]] == [
        "1.0",
        "2.0",
        "-2.0",
        "",
    ]


def back_from_json(page, text, shown):
    value = json.loads(page)
    assert value["caption"] == value["rows"][0]["key"] == value["rows"][0]["note"] == text
    assert value["columns"][0]["at"] == {"data": text, "kind": "a"}
    assert value["rows"][1]["cells"][0]["text"] == f"−2.00 {text}"
    assert "\x1b" not in page


# LaTeX -----------------------------------------------------------------------------------------

TEX = {
    "textbackslash": "\\",
    "textasciicircum": "^",
    "textasciitilde": "~",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textasciigrave": "`",
    "allowbreak": "",
    "quad": "",
    "strut": "",
    "dag": "†",
    "div": "÷",
    "pm": "±",
    "times": "×",
    "bullet": "●",
    "rightarrow": "→",
    "leq": "≤",
    "circ": "°",
    "o": "ø",
    "l": "ł",
    "L": "Ł",
    "alpha": "α",
    "beta": "β",
    "Delta": "Δ",
}
UNWRAPPED = {
    "mbox",
    "textsuperscript",
    "rlap",
    "shortstack",
    "textit",
    "raggedright",
    "sweeperbest",
}
ARGUMENTS = {"phantom": 1, "multicolumn": 2, "parbox": 1}  # that are no text
ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308"}
ACCENTS |= {"r": "\u030a"}
TOKEN = re.compile(r"\\([A-Za-z]+) ?|\\(.)|([{}$])|(--|``|'')|(.)", re.S)


def read_tex(source):
    """What a line of LaTeX shows. Knows the commands that the renderings use, and no other."""
    tokens = [match.groups(default="") for match in TOKEN.finditer(source)]
    position = 0

    def argument():
        nonlocal position
        position += 1
        if tokens[position - 1][2] != "{":
            return tokens[position - 1][4]  # as in $^2$
        return text_until("}")

    def text_until(end):
        nonlocal position
        shown = ""
        while position < len(tokens):
            word, sign, mark, pair, character = tokens[position]
            position += 1
            if mark and mark == end:
                return shown
            if mark == "{":
                shown += text_until("}")
            elif mark == "$":
                shown += {"-": "−", "^°": "°"}.get(said := text_until("$"), said)
            elif word == "ttfamily":
                code = text_until("}")
                position -= 1
                shown += chr(int(code[2:], 16)) if code.startswith("U+") else code
            elif word == "char":
                assert tokens[position][4] + tokens[position + 1][4] == "34"
                position += 2
                shown += '"'
            elif word in ARGUMENTS:
                if word == "parbox":
                    position += 3  # [t]
                for _ in range(ARGUMENTS[word]):
                    argument()
            elif word in TEX:
                shown += TEX[word]
            elif (word or sign) in ACCENTS:
                shown += argument() + ACCENTS[word or sign]
            elif sign == "\\":
                shown += " "
            elif sign:
                assert sign in "{}$&#_%", sign
                shown += sign
            elif pair:
                shown += {"--": "–", "``": "“", "''": "”"}[pair]
            else:
                assert not word or word in UNWRAPPED or word == "linewidth", word
                shown += "‘" if character == "`" else "’" if character == "'" else character
        assert end is None, f"no {end} in {source}"
        return shown

    return unicodedata.normalize("NFC", text_until(None))


def test_the_reader_of_tex():
    assert read_tex(r"a\_b {\ttfamily U+4E2D} $-$1 {-}{-} \textsuperscript{\dag{}}") == (
        "a_b 中 −1 -- †"
    )
    assert read_tex(r"\'{e} {\ttfamily\char34} {'} '' \rlap{x}\phantom{yy}") == 'é " ’ ” x'


def in_latex(text):
    """Ligatures are what TeX makes of letters, and some quotation marks look alike."""
    known = {"ﬁ": "fi", "ﬀ": "ff", "ﬃ": "ffi"}
    return unicodedata.normalize("NFC", "".join(known.get(c, c) for c in text))


def plain_quotes(text):
    return text.replace("’", "'")


# What TeX obeys, or prints as another sign, or takes for an argument of a line's end; and where
# we write it ourselves.
BARE = re.compile(r"""(?<!\\)[#^_%~]|[<>|"`\[\]*]""")
OURS = re.compile(r"\{[\[\]*]\}|\$[_^](\d|\\circ)\$|\\parbox\[t\]|@\{\}|``|`|\\[`^~\"]|\\\|")


def latex_grid(block):
    """The texts of a tabular's cells, a wide one in each of its columns."""
    rows = []
    for line in block.splitlines():
        if line.endswith(r" \\"):
            rows.append([])
            for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\")):
                assert not BARE.search(OURS.sub("", cell)), cell
                wide = re.match(r" ?\\multicolumn\{(\d)\}", cell)
                text = squeezed(plain_quotes(read_tex(cell.strip())))
                rows[-1] += [text] * (int(wide[1]) if wide else 1)
    assert len({len(row) for row in rows}) == 1
    return rows


def back_from_latex(page, text, shown):
    assert page.isascii()
    # \write18, \input and their like are only there as text; a comment is ours.
    assert not re.search(r"\\(input|immediate|write|include|openin|def|end\{document)", page)
    blocks = [part.partition(r"\bottomrule")[0] for part in page.split(r"\toprule")[1:]]
    grids = [latex_grid(block) for block in blocks]
    rows = [sum((line[1:] for line in lines), lines[0][:1]) for lines in zip(*grids, strict=True)]
    assert [len(row) for row in rows] == [3] * 5
    said = squeezed(plain_quotes(in_latex(shown)))
    assert rows[0] == ["", f"{said}†", f"{said}†"]
    assert rows[1] == [said, said, "plain"]
    assert rows[2] == [f"{said}†", "1.00†", "2.00&"]
    assert rows[3] == [said] * 3
    assert rows[4] == [said, f"−2.00{said}", f"failed{said}"]
    caption = re.search(r"^\\caption\{(.*)\}$", page, re.M)[1]
    assert squeezed(plain_quotes(read_tex(caption))) == said


def back_from_macros(page, text, shown):
    assert page.isascii()
    lines = page.splitlines()
    found = [
        re.fullmatch(r"\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}  % [ -~]*", line) for line in lines[2:]
    ]
    assert all(line.startswith("% ") for line in lines[:2])
    names = [match[1] for match in found]
    assert len(names) == len(set(names)) == 4
    texts = [squeezed(plain_quotes(read_tex(match[2]))) for match in found[:3]]
    said = squeezed(plain_quotes(in_latex(shown)))
    assert texts[:2] == ["1.00", "2.00"]
    assert texts[2].rstrip("●") == f"−2.00{said}".rstrip("●")
    assert found[3][2] == r"\textbf{??}"


def pdf_text(folder, source):
    if not shutil.which("pdflatex") or not shutil.which("pdftotext"):
        pytest.skip("needs pdflatex with booktabs, and pdftotext")
    (folder / "t.tex").write_text(source)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    ran = subprocess.run([*command, "t.tex"], cwd=folder, capture_output=True, timeout=120)
    log = (folder / "t.log").read_text(errors="replace")
    assert ran.returncode == 0, log[-3000:]
    assert "Missing character" not in log
    out = subprocess.run(
        ["pdftotext", "-raw", "t.pdf", "-"], cwd=folder, capture_output=True, check=True
    )
    return out.stdout.decode(), log


def test_ascii_is_printed_as_it_is(tmp_path):
    lines = [rf"BEGIN{n}Q{escaped(text)}QEND\par" for n, text in enumerate(ASCII)]
    head = r"\documentclass{article}\begin{document}\raggedright "
    printed, _ = pdf_text(tmp_path, head + "\n".join(lines) + r"\end{document}")
    # Fonts have one apostrophe, which is also a quotation mark, and pages have numbers.
    printed = squeezed(unicodedata.normalize("NFKC", printed)).replace("’", "'").replace("ˆ", "^")
    pages = re.compile(r"\f\d*|\n\d+\f")
    found = dict(re.findall(r"BEGIN(\d+)Q(.*?)QEND", pages.sub("", printed)))
    assert len(ASCII) > 60
    # In TeX's own encoding _ is a rule and ~ an accent: they are seen, but not copied.
    unseen = str.maketrans("", "", "_~\u0303")
    for n, text in enumerate(ASCII):
        assert found[str(n)].translate(unseen) == squeezed(CORPUS[text]).translate(unseen), text


def test_tables_of_hostile_text_compile(tmp_path):
    tables = [RENDERERS["tex"](hostile_table(text)) for text in CORPUS]
    # Labels need different names, and floats pages; nothing else.
    named = [t.replace("tab:table3", f"tab:{n}") + "\\clearpage\n" for n, t in enumerate(tables)]
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    _, log = pdf_text(tmp_path, head + "".join(named) + r"\end{document}")
    assert {path.suffix for path in tmp_path.iterdir()} == {".tex", ".log", ".aux", ".pdf"}
    assert "multiply defined" not in log


def test_macros_of_hostile_labels_compile(tmp_path):
    """Each in a group of its own, used in the text and in a formula."""
    parts = []
    for text in CORPUS:
        page = macros.render(hostile_table(text))
        used = [rf"\{name}{{}} $\{name}$" for name in re.findall(r"newcommand\{\\(\w+)", page)]
        parts.append("{" + page + " ".join(used) + "\\par}\n")
    head = r"\documentclass{article}\begin{document}\raggedright "
    pdf_text(tmp_path, head + "".join(parts) + r"\end{document}")


# Terminal --------------------------------------------------------------------------------------


def back_from_terminal(page, text, shown):
    seen = [c for c in page if c not in "\n\u200e" and c not in text]
    assert not [c for c in seen if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    obeyed = [c for c in page if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"]
    assert not obeyed
    turning = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200F}
    assert not turning & set(map(ord, page))
    wide = terminal.text(hostile_table(text), width=4000).plain.replace("\u200e", "")
    lines = wide.splitlines()
    rules = [n for n, line in enumerate(lines) if line.startswith(("━", "─"))]
    # A long label goes on below the numbers of its line.
    first, second = (
        squeezed("".join(lines[start + 1 : stop]))
        for start, stop in zip(rules[-3:-1], rules[-2:], strict=True)
    )
    said = squeezed(shown)
    numbers = f"−2.00{said}failed{said}"
    assert first.count("1.00†2.00&") == 1
    assert first.replace("1.00†2.00&", "") == f"{said}†"
    assert second.count(numbers) == 1
    assert second.replace(numbers, "") == said * 2
    for width in (80, 120):
        narrow = terminal.text(hostile_table(text), width=width).plain.splitlines()
        long = len(shown) > 20  # a value is not broken, and none is that long but here
        assert long or max(map(cell_len, narrow)) <= width


def test_what_runs_from_right_to_left_keeps_its_numbers_in_their_columns():
    """By the bidirectional algorithm a number after Hebrew text joins its run; a mark between
    them stops that (UAX 9, rule N1)."""
    page = RENDERERS["terminal"](hostile_table("נתונים"))
    for line in page.splitlines():
        if re.search(r"[\u0590-\u05ff] +[\d−]", line):
            pytest.fail(line)
    assert "\u200e" in page
    assert "\u200e" not in RENDERERS["terminal"](hostile_table("data"))


PARSED = {
    "md": back_from_markdown,
    "html": back_from_html,
    "csv": back_from_csv,
    "json": back_from_json,
    "tex": back_from_latex,
    "macros": back_from_macros,
    "terminal": back_from_terminal,
}


# All at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", RENDERERS)
def test_one_table_of_all_of_it(style):
    """Rows x columns of different hostile labels; each of the cells is where it belongs."""
    labels = list(CORPUS)[:40]
    metric = Metric(name="nll", source="test/nll_iw", format=".1f")
    tops = labels[:3]
    columns = [
        Column(at={"data": label}, metric=metric, path=(label,), notes=(None,)) for label in tops
    ]
    cells = [
        tuple(_cell(float(i * 10 + j), f"{i * 10 + j}.0") for j in range(3))
        for i in range(len(labels))
    ]
    table = Table(
        name="all",
        profile="quick",
        caption="All",
        row_axis="model",
        columns=tuple(columns),
        rows=tuple(Row(key=label, label=label) for label in labels),
        cells=tuple(cells),
        marks={},
        footer=(),
    )
    page = RENDERERS[style](table)
    numbers = [f"{i * 10 + j}.0" for i, j in product(range(len(labels)), range(3))]
    if style == "json":
        page = " ".join(cell["text"] for row in json.loads(page)["rows"] for cell in row["cells"])
    elif style == "html":
        page = " ".join(cell for row in Cells(page).rows for cell in row)
    found = re.findall(r"(?<![\w.−-])\d+\.0(?![\w.])", page)
    assert [number for number in found if number in set(numbers)] == numbers


@pytest.mark.parametrize("text", ["=1+1", "a;b", 'quote "x"', "two\nlines", "-0.5", "comma, comma"])
def test_pandas_reads_it_back(text):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(RENDERERS["csv"](hostile_table(text))), dtype={text: str})
    assert frame["mean"].tolist()[:3] == [1.0, 2.0, -2.0]
    assert frame["mean"].isna().tolist() == [False, False, False, True]
    assert frame["n"].tolist() == [3, 3, 3, 0]
    assert frame["state"].tolist()[-1] == "failed"
