"""The verbs, in the order in which a person meets them. The only place that prints, reads the
environment and turns errors into exit codes."""

# Each of these modules adds its verbs to the group.
from sweeper.cli import train, read, why, around, care, editors  # isort: skip
from sweeper.cli.frame import main

__all__ = ["around", "care", "editors", "main", "read", "train", "why"]
