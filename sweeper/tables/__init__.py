"""Trials and their records in; a Table out. The only place that averages."""

from sweeper.tables.cells import Cell, Column, Row, Score, Table
from sweeper.tables.mixtures import mixtures, unshown
from sweeper.tables.numerals import FORMAT
from sweeper.tables.pivot import tabulate

__all__ = ["FORMAT", "Cell", "Column", "Row", "Score", "Table", "mixtures", "tabulate", "unshown"]
