"""The verbs, in the order in which a person meets them. The only place that prints, reads the
environment and turns errors into exit codes."""

from sweeper.cli import early  # isort: skip  # Before what takes time.

# Each of these modules adds its verbs to the group.
from sweeper.cli import train, status, read, why, around, doctor, logs, gc, completion, editors  # isort: skip
from sweeper.cli.frame import main

early.over()

__all__ = [
    "around",
    "completion",
    "doctor",
    "early",
    "editors",
    "gc",
    "logs",
    "main",
    "read",
    "status",
    "train",
    "why",
]
