"""The verbs, in the order in which a person meets them. The only place that prints, reads the
environment and turns errors into exit codes."""

# Each of these modules adds its verbs to the group.
from sweeper.cli import train, read, why, around, doctor, logs, gc, completion, editors  # isort: skip
from sweeper.cli.frame import main

__all__ = [
    "around",
    "completion",
    "doctor",
    "editors",
    "gc",
    "logs",
    "main",
    "read",
    "train",
    "why",
]
