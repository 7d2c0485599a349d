"""A table of parts and a name in; the part out.

Wherever a sweep file may name a part it may also name one of its own, as
"my_pkg.module:thing"."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def find(table: Mapping[str, Any], name: str) -> Any:
    if name in table:
        return table[name]
    module, colon, thing = name.partition(":")
    if not colon:
        raise ValueError(f"unknown part {name!r}; one of {', '.join(sorted(table))}")
    try:
        return getattr(importlib.import_module(module), thing)
    except (ImportError, AttributeError) as fault:
        raise ValueError(f"cannot load {name!r}: {fault}") from fault
