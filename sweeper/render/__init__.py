"""A Table in, its text out: one function `render(table) -> str` for each format.

Labels and notes are free text and are escaped by every format in its own way; numbers come
formatted (or, for csv and json, whole). No format averages, ranks or decides anything.
"""

from __future__ import annotations

from sweeper.render import csv, html, json, latex, macros, markdown, terminal
from sweeper.tables import Table

RENDERERS = {
    "md": markdown.render,
    "tex": latex.render,
    "macros": macros.render,
    "csv": csv.render,
    "html": html.render,
    "json": json.render,
    "terminal": terminal.render,
}

# What is written to a file: one that a person opens by itself is a whole page.
FILES = {**RENDERERS, "html": html.page}


def files(table: Table, style: str) -> dict[str, str]:
    """What is written for a format: the end of a file's name -> its text. LaTeX comes with
    its numbers as macros."""
    more = {"macros.tex": macros.render(table)} if style == "tex" else {}
    return {style: FILES[style](table), **more}
