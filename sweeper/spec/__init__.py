"""YAML text in, a Sweep out."""

from sweeper.spec.parse import parse, read
from sweeper.spec.sweep import Axis, Level, Metric, Resources, Setting, Sweep, TableSpec

__all__ = [
    "Axis",
    "Level",
    "Metric",
    "Resources",
    "Setting",
    "Sweep",
    "TableSpec",
    "parse",
    "read",
]
