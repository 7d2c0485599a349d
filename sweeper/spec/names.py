"""A sweep file in; the names under one of its entries out, imported ones too.

For completing what a person types and for going through a file's profiles: whatever else
is wrong with the file is another's business.
"""

from __future__ import annotations

from pathlib import Path

from sweeper.spec.files import read_tree
from sweeper.spec.layers import layers, merged, nodes
from sweeper.spec.problems import Problems


def names(path: str | Path, entry: str) -> tuple[str, ...]:
    """Of `profiles`, `tables`, `figures` or `claims`, in order. Raises SpecError or
    EnvironmentFault for what is no file of keys at all."""
    root = read_tree(str(path))
    node = merged(nodes(layers(root, Problems()), entry))
    return tuple(node.value) if node is not None and node.is_mapping else ()
