"""Tables 1 to 3 of the paper, from records that hold the paper's own values: the same columns,
rows, rules, labels and numbers, in every format that shows them.

PAPER is typed from the paper, not read from sweeps/paper.yaml. What differs on purpose: figures
that only their own papers report are in a column of their own (the paper's second NLL), so
WAE-RNF's, too; footnote marks are ours.
"""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.design import expand
from sweeper.errors import SpecError
from sweeper.record import Record
from sweeper.render import RENDERERS, terminal
from sweeper.spec import parse, read
from sweeper.tables import tabulate
from sweeper.trial import TrainerRef

SWEEPS = Path(__file__).parents[2] / "sweeps"
RULE = "-"
PAPER = {
    "table1": """
        |                     | Yahoo                    | Yelp                     |
        | Model               | NLL   NLL   KL  MI  AU   | NLL   NLL   KL  MI  AU   |
        -
        | LSTM-LM*            | 328.0 –     –   –   –    | 358.1 –     –   –   –    |
        -
        | SeqVAE              | 328.6 –     0.0 0.0 0    | 358.1 –     0.3 0.3 1    |
        | SeqVAE + WordDrop   | 330.7 –     5.4 3.0 6    | 362.2 –     1.0 0.8 1    |
        | SkipVAE             | 328.1 –     4.5 2.4 11   | 357.4 –     2.5 1.5 4    |
        | WAE-RNF**           | –     339.0 3.0 –   –    | –     –     –   –   –    |
        | SeqVAE + Cyclical   | 328.6 –     0.0 0.0 0    | 358.4 –     0.4 0.3 1    |
        | SeqVAE + Aggressive | 326.7 –     5.7 2.9 15   | 355.9 –     3.8 2.4 11   |
        -
        | SeqVAE + AvgPool    | 327.8 –     2.4 1.6 5    | 357.5 –     1.6 1.2 5    |
        | SeqVAE + AbsPool    | 327.4 –     3.6 2.4 8    | 356.6 –     2.0 1.7 7    |
        | SeqVAE + MaxPool    | 327.2 –     3.7 2.5 9    | 356.0 –     3.1 2.2 8    |
        -
        | iVAE                | –     309.5 8.0 4.4 32   | –     348.2 7.6 4.6 32   |
    """,
    "table2": """
        |                     | Yahoo   | Yelp    |
        |                     | Updates | Updates |
        -
        | SeqVAE + Aggressive | 608k    | 625k    |
        | SeqVAE + MaxPool    | 199k    | 196k    |
    """,
    "table3": """
        |            | Yahoo       | Yelp        |
        |            | W.O.  With  | W.O.  With  |
        -
        | SkipVAE    | 329.1 328.1 | 358.2 357.4 |
        | Aggressive | 328.2 326.7 | 356.9 355.9 |
        | MaxPool    | 328.6 327.2 | 357.6 356.0 |
    """,
}
# The paper's words where the sweep file has others, and none of what we add to its tables.
LAYOUT = {
    "table1": {
        "labels": {"model": "Model", "own": "NLL"},
        "significance": None,
        "checkpoints": None,
    },
    "table2": {"labels": {"model": "", "updates": "Updates"}},
    "table3": {
        "labels": {"model": "", "Aggressive": "Aggressive", "MaxPool": "MaxPool"},
        "cell": "{mean}",
        "delta": None,
    },
}
KEYS = {
    "nll": "test/nll_iw",
    "own": "test/nll_dual",
    "kl": "test/kl",
    "mi": "test/mi_batch",
    "au": "test/au",
    "updates": "cost/updates",
}
VALUES = {"table1": ("nll", "own", "kl", "mi", "au"), "table2": ("updates",), "table3": ("nll",)}
BELOW = {"table3": ("W.O.", "With")}


def transcribed(name):
    """(headings, outer to inner, a text for each column), (rows, labels first), numbers of the
    rows with a rule above."""
    lines = [line.strip() for line in PAPER[name].strip().splitlines()]
    heads, rows, rules = [], [], []
    for line in lines:
        if line == RULE:
            rules.append(len(rows))
            continue
        stub, *groups = (part.strip() for part in line.strip("|").split("|"))
        cells = [group.split() for group in groups]
        if rules:
            rows.append([stub, *(cell for group in cells for cell in group)])
        else:
            heads.append((stub, cells))
    width = len(heads[-1][1][0])
    outer = [group[0] for group in heads[0][1] for _ in range(width)]
    inner = [cell for group in heads[1][1] for cell in group]
    return [[heads[0][0], *outer], [heads[1][0], *inner]], rows, rules


def papers_values(name):
    """label of the row, column of the sweep file -> value, as typed above."""
    (outer, inner), rows, _ = transcribed(name)
    found = {}
    for row in rows:
        for column, text in enumerate(row[1:], start=1):
            if text != "–":
                which = (column - 1) % len(VALUES[name]) if name != "table3" else 0
                below = inner[column] if name == "table3" else None
                value = float(text.rstrip("k")) * (1000 if text.endswith("k") else 1)
                found[row[0].rstrip("*"), outer[column], below, VALUES[name][which]] = value
    return found


def papers_table(name, spread=0.0, **changes):
    """The table as the sweep file has it, from three seeds with the paper's value as their mean."""
    sweep = read(SWEEPS / f"{name}.yaml", profile="paper")
    spec = sweep.tables[name]
    trials = expand(replace(sweep, trainer=TrainerRef(function="trainers.text_vae:train")), None)
    values = papers_values(name)
    labels = spec.labels | LAYOUT[name]["labels"]
    records = {}
    for trial in trials:
        at = trial.labels
        label = labels.get(at["model"], at["model"])
        result = {}
        for metric in VALUES[name]:
            value = values.get((label, at["dataset"], at.get("annealing"), metric))
            if value is not None:
                exact = at["model"] == "LSTM-LM" and metric == "nll"
                key = "test/nll_exact" if exact else KEYS[metric]
                result[key] = value + spread * (int(at["seed"]) - 1)
        records[trial.key] = Record(
            trial_id=trial.id, evaluation_id=trial.evaluation_id, state="done", result=result
        )
    changes = {"beside": None, **LAYOUT[name], **changes}
    changes["labels"] = spec.labels | changes["labels"]
    return tabulate(replace(spec, **changes), sweep, trials, records)


def unmarked(text):
    return re.sub(r"[†‡§¶‖#●○*°]", "", text).strip()


# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER)
def test_the_pivot_has_the_papers_cells(name):
    heads, rows, rules = transcribed(name)
    kept, table = our_columns(name)
    paths = [[unmarked(text) for text in table.columns[j].path] for j in kept]
    assert [[path[-2] for path in paths], [path[-1] for path in paths]] == [h[1:] for h in heads]
    assert table.row_heading == heads[1][0]
    ours = [[row.label, *(cells[j].text for j in kept)] for row, cells in table.lines()]
    assert ours == [[row[0].rstrip("*"), *row[1:]] for row in rows]
    assert [i + 1 for i, row in enumerate(table.rows) if row.rule_after][: len(rules) - 1] == (
        rules[1:]
    )


def our_columns(name):
    """The columns that the paper has, too: not the ratio that we add to Table 2."""
    table = papers_table(name)
    return [j for j, column in enumerate(table.columns) if column.kind == "value"], table


def test_what_the_paper_marks_is_marked():
    """LSTM-LM* and WAE-RNF** of Table 1; what the caption says of iVAE is a note, too."""
    table = papers_table("table1")
    marked = {
        row.label for row, cells in table.lines() if row.note or any(cell.notes for cell in cells)
    }
    assert marked == {"LSTM-LM", "WAE-RNF", "iVAE"}
    starred = {row[0].rstrip("*") for row in transcribed("table1")[1] if row[0].endswith("*")}
    assert starred <= marked


@pytest.mark.parametrize("name", PAPER)
def test_latex_has_the_papers_cells_and_rules(name):
    heads, rows, rules = transcribed(name)
    kept, table = our_columns(name)
    text = RENDERERS["tex"](table)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()
    assert text.count(r"\toprule") == 1  # one block
    cut = body.index(r"\midrule")
    shown, above = [], []
    for line in body[cut:]:
        if line == r"\midrule":
            above.append(len(shown))
        else:
            shown.append([read_cell(cell) for cell in line.removesuffix(r" \\").split(" & ")])
    assert above == rules
    assert [[row[0], *(row[j + 1] for j in kept)] for row in shown] == [
        [row[0].rstrip("*"), *row[1:]] for row in rows
    ]
    # Every outer heading spans its columns, with a rule of that length below.
    width = len(table.columns) // 2
    assert (
        body[1]
        == rf" & \multicolumn{{{width}}}{{c}}{{Yahoo}} & \multicolumn{{{width}}}{{c}}{{Yelp}} \\"
    )
    assert body[2] == rf"\cmidrule(lr){{2-{width + 1}}}\cmidrule(l){{{width + 2}-{2 * width + 1}}}"
    inner = [read_cell(cell) for cell in body[3].removesuffix(r" \\").split(" & ")]
    assert [inner[0], *(inner[j + 1] for j in kept)] == heads[1]


def read_cell(source):
    """The text of one of our cells: without padding, marks and bold."""
    text = re.sub(r"\\phantom\{(\\textsuperscript\{\\\w+(\{\})?\}|[^{}]*)\}", "", source)
    text = re.sub(r"\\textsuperscript\{(\\dag|\\ddag|\\S|\\P|\$\\\|\$|\\#)(\{\})?\}", "", text)
    text = re.sub(r"\\sweeperbest\{(\d+)\}\{([.\d]*)\}\{\}", r"\1\2", text)
    text = text.replace("{-}", "-").replace("--", "–")
    return text.strip()


@pytest.mark.parametrize("name", PAPER)
def test_markdown_and_the_terminal_have_them_in_the_papers_order(name):
    _, rows, _ = transcribed(name)
    kept, table = our_columns(name)
    lines = [line for line in RENDERERS["md"](table).splitlines() if line.startswith("|")][2:]
    for line, row in zip(lines, rows, strict=True):
        cells = [unmarked(cell) for cell in line.strip("|").split("|")]
        assert [cells[0], *(cells[j + 1] for j in kept)] == [row[0].rstrip("*"), *row[1:]]
    page = terminal.text(table, width=120).plain.splitlines()
    for row in rows:
        line = next(it for it in page if it.startswith(row[0].rstrip("*")))
        cells = unmarked(line.removeprefix(row[0].rstrip("*"))).split()
        assert [cells[j] for j in kept] == row[1:]


@pytest.mark.parametrize("name", PAPER)
def test_csv_has_the_papers_numbers(name):
    _, table = our_columns(name)
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](table))))
    labels = {row.key: row.label for row in table.rows}
    found = {
        (labels[line["model"]], line["dataset"], line.get("annealing"), line["metric"]): (
            float(line["mean"]) * (1000 if line["unit"] == "k" else 1)
        )
        for line in lines
        if line["kind"] == "value" and line["mean"]
    }
    assert found == pytest.approx(papers_values(name))


@pytest.mark.parametrize("name", PAPER)
def test_beside_the_published_values_nothing_differs(name):
    """As shipped: sweeps/paper.yaml agrees with the transcription, so each difference is 0."""
    table = papers_table(name, spread=0.3, beside="paper")
    differences = [
        cell.mean
        for cells in table.cells
        for cell, column in zip(cells, table.columns, strict=True)
        if column.kind == "difference" and cell.mean is not None
    ]
    assert len(differences) == len(papers_values(name))
    assert differences == pytest.approx([0.0] * len(differences), abs=1e-9)


def test_the_ratio_of_table_2_is_what_the_paper_says_in_words():
    """ "A computation cost three times higher": 608/199 and 625/196."""
    table = papers_table("table2")
    ratios = [
        cell.text
        for cell, column in zip(table.cells[0], table.columns, strict=True)
        if column.kind == "ratio"
    ]
    assert ratios == ["3.1x", "3.2x"]


def test_the_papers_tables_fit_a_terminal_of_80():
    for name in PAPER:
        lines = terminal.text(papers_table(name, spread=0.3), width=80).plain.splitlines()
        assert max(map(len, lines)) <= 80
        assert sum(line.startswith("━") for line in lines) == 2  # in one block


def test_they_compile_and_look_like_tables(tmp_path):
    """One page of a document of two columns, one of one column; the numbers are on it, in
    lines, and nothing runs over an edge."""
    if not shutil.which("pdflatex") or not shutil.which("pdftotext"):
        pytest.skip("needs pdflatex with booktabs, and pdftotext")
    tables = [RENDERERS["tex"](papers_table(name)) for name in PAPER]
    macros = RENDERERS["macros"](papers_table("table1"))
    quoted = r"MaxPool has \tableOneMaxPoolYahooNll{} nats, SeqVAE $\tableOneSeqVAEYahooNll$."
    for options in ("", "twocolumn"):
        source = (
            rf"\documentclass[{options}]{{article}}\usepackage{{booktabs,graphicx}}{macros}"
            rf"\begin{{document}}{quoted} {' '.join(tables)}\end{{document}}"
        )
        (tmp_path / "t.tex").write_text(source)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
        ran = subprocess.run([*command, "t.tex"], cwd=tmp_path, capture_output=True, timeout=60)
        log = (tmp_path / "t.log").read_text(errors="replace")
        assert ran.returncode == 0, log[-2000:]
        assert not re.search(r"Overfull|Float too large|Missing character", log)
        out = subprocess.run(
            ["pdftotext", "-layout", "t.pdf", "-"], cwd=tmp_path, capture_output=True, check=True
        )
        printed = out.stdout.decode()
        assert "MaxPool has 327.2 nats, SeqVAE 328.6." in " ".join(printed.split())
        for name in PAPER:
            for row in transcribed(name)[1]:
                numbers = [re.escape(text) for text in row[1:] if text != "–"]
                pattern = re.escape(row[0].rstrip("*")) + r"\S*\s.*" + r"\b.*".join(numbers)
                assert re.search(pattern, printed), row


def test_a_sweep_file_names_the_rows_axis_and_the_metrics_of_one_table():
    text = """
name: named
profiles: {quick: {}}
trainer: trainers.text_vae:train
axes: {model: [A, B], seed: [0, 1]}
metrics: {nll: {from: test/nll_iw, label: NLL}, kl: {from: test/kl}}
tables:
  named: {rows: model, values: [nll, kl], over: seed, labels: {model: "", nll: Estimated NLL}}
  plain: {rows: model, values: [nll, kl], over: seed}
"""
    sweep = parse(text, SWEEPS / "named.yaml")
    tables = {
        name: tabulate(spec, sweep, expand(sweep, None), {}) for name, spec in sweep.tables.items()
    }
    named, plain = tables["named"], tables["plain"]
    assert (named.row_heading, plain.row_heading) == ("", "model")
    assert [c.path for c in named.columns] == [("Estimated NLL",), ("kl",)]
    assert [c.path for c in plain.columns] == [("NLL",), ("kl",)]
    assert named.footer[0].startswith("Estimated NLL, kl: ")
    # A program finds the axis under its name, whatever is printed.
    assert RENDERERS["csv"](named).startswith("model,")
    for blank in ("A", "nll"):
        with pytest.raises(SpecError, match=f"labels.{blank} must be text"):
            parse(text.replace('model: "", nll', f'{blank}: "", kl'), SWEEPS / "named.yaml")
