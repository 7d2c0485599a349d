"""A nested mapping in; text for people out, a line a value, indented by depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def outline(value: Mapping[str, Any], indent: str = "") -> str:
    width = max((len(str(key)) for key in value), default=0)
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += [f"{indent}{key}", outline(item, indent + "  ")]
        elif item not in ({}, None):
            lines.append(f"{indent}{key!s:<{width}}  {shown(item)}")
    return "\n".join(lines)


def shown(item: Any) -> str:
    if isinstance(item, float):
        return f"{item:,.4g}" if abs(item) < 1000 else f"{item:,.2f}"
    if isinstance(item, list | tuple):
        return "; ".join(map(shown, item))
    return f"{item:,}" if isinstance(item, int) else str(item)
