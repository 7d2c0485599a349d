"""A name that a person gave in; the function that it stands for out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from sweeper.errors import SpecError, quoted, unknown


def named(name: str, known: Mapping[str, Callable | str], what: str) -> Callable[..., Any]:
    """What `known` has under `name`, else the function at "my_pkg.module:function". A value
    of `known` may be such a path too: it is imported when it is asked for."""
    found = known.get(name, name)
    if not isinstance(found, str):
        return found
    module_name, colon, function = found.partition(":")
    if not colon:
        raise SpecError(unknown(what, name, known))
    try:
        module = importlib.import_module(module_name)
    except Exception as fault:  # Whatever a module does when it is imported.
        said = f"{type(fault).__name__}: {' '.join(str(fault).split())}"
        raise SpecError(f"{what} {quoted(name)} cannot be imported: {said}") from fault
    if not callable(there := getattr(module, function, None)):
        functions = [n for n, thing in vars(module).items() if callable(thing) and n[0] != "_"]
        raise SpecError(f"{what} {quoted(name)}: {unknown('function', function, functions)}")
    return there
