"""The `resources:` and `budget:` of a sweep file in; what a trial takes and what all of them
may cost out."""

from __future__ import annotations

import re
from typing import Any

from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import Section
from sweeper.spec.sweep import Budget, Limits, Resources

RESOURCES = ("cpus", "gpus", "stall")
LIMITS = ("updates", "wall", "gpu_hours")
BUDGET = (*LIMITS, "per_trial", "on_exceed")
ON_EXCEED = ("finish_running", "stop")

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def resources(node: Node | None, problems: Problems) -> Resources:
    if node is None:
        return Resources()
    section = Section(node, "resources", problems, RESOURCES)
    return Resources(
        cpus=section.whole("cpus", 1), gpus=gpus(section), stall=duration(section, "stall")
    )


def gpus(section: Section) -> Any:
    node = section.entries.get("gpus")
    if node is None or node.value == "auto":
        return node.value if node else 0
    plain = type(node.value) in (int, float) and node.value >= 0
    if not plain or (node.value > 1 and node.value != int(node.value)):  # Ray shares one GPU only.
        section.wrong("gpus", "0, a number of GPUs, a share of one, or auto")
        return 0
    return node.value


def budget(node: Node | None, problems: Problems) -> Budget:
    """{updates, wall, gpu_hours, per_trial: {updates, wall, gpu_hours}, on_exceed}"""
    if node is None:
        return Budget()
    section = Section(node, "budget", problems, BUDGET)
    each = section.entries.get("per_trial")
    return Budget(
        total=limits(section),
        per_trial=limits(Section(each, "budget.per_trial", problems, LIMITS)) if each else Limits(),
        on_exceed=section.choice("on_exceed", ON_EXCEED, "finish_running"),
    )


def limits(section: Section) -> Limits:
    return Limits(
        updates=section.whole("updates"),
        wall=duration(section, "wall"),
        gpu_hours=section.number("gpu_hours"),
    )


def duration(section: Section, key: str) -> float | None:
    """ "1h30m" -> 5400.0"""
    node = section.entries.get(key)
    if node is None:
        return None
    parts = DURATION.findall(node.text)
    whole = "".join(number + unit for number, unit in parts) == node.text
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts) if whole else 0
    if not 0 < seconds < float("inf"):
        section.wrong(key, "a time such as 90s, 30m, 1h30m or 2d")
        return None
    return seconds
