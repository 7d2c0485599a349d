"""A Table in, its text out: one function `render(table) -> str` for each format.

Labels and notes are free text and are escaped by every format in its own way; numbers come
formatted (or, for csv and json, whole). No format averages, ranks or decides anything.
"""

from __future__ import annotations

from sweeper.render import csv, json, latex, markdown, terminal

RENDERERS = {
    "md": markdown.render,
    "tex": latex.render,
    "csv": csv.render,
    "json": json.render,
    "terminal": terminal.render,
}
