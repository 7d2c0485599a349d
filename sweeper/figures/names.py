"""Names of metrics and of keys in; what is written beside them in a figure out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sweeper.record import COST
from sweeper.spec.sweep import Metric, Sweep


def metric_named(name: str, sweep: Sweep) -> Metric:
    """The metric of that name, or a result's key as it was recorded."""
    return sweep.metrics.get(name) or Metric(name=name, source=name)


def metric_label(name: str, sweep: Sweep) -> str:
    metric = metric_named(name, sweep)
    return (metric.label or metric.name) + (f" ({metric.unit})" if metric.unit else "")


def axis_label(name: str, sweep: Sweep) -> str:
    return "parameter updates" if name == COST else metric_label(name, sweep)


def key_labels(keys: Iterable[str]) -> dict[str, str]:
    """kl.warmup_epochs -> "warmup epochs"; with the sections before it where two end alike."""
    keys = tuple(keys)
    ends = Counter(key.rpartition(".")[2] for key in keys)
    return {
        key: (key if ends[end] > 1 else end).replace(".", " ").replace("_", " ")
        for key in keys
        for end in [key.rpartition(".")[2]]
    }
