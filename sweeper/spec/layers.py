"""A sweep file in; what it says in layers out, the parts that it imports first.

    import: {from: table1.yaml, take: [trainer, base, axes.dataset, metrics, profiles.quick]}

A layer is the top-level entries of one file, or those of them that were taken. Later layers
merge over earlier ones; how is each entry's own business (see parse).
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.errors import Problem, SpecError, unknown
from sweeper.spec.files import read_tree, resolve
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import Section, label_of

Layer = dict[str, Node]

MAX_IMPORTS = 8

IMPORT = ("from", "take")

# What can be taken, and whether single entries of it can.
TAKEN = {
    "trainer": False,
    "base": False,
    "set": False,
    "axes": True,
    "exclude": False,
    "include": False,
    "metrics": True,
    "reported": False,
    "data_root": False,
    "resources": False,
    "budget": False,
    "search": False,
    "profiles": True,
    "tables": True,
    "figures": True,
    "claims": True,
}


def layers(root: Node, problems: Problems, path: tuple[str, ...] = ()) -> list[Layer]:
    """The layers of a file, imported ones first. `path` is the files that led here."""
    path = (*path, root.mark.source)
    node = root.value.get("import")
    own = {key: child for key, child in root.value.items() if key != "import"}
    return [*imported(node, problems, path), own] if node else [own]


def imported(node: Node, problems: Problems, path: tuple[str, ...]) -> list[Layer]:
    section = Section(node, "import", problems, IMPORT)
    section.required(*IMPORT)
    if "from" not in section or "take" not in section:
        return []
    if not section.entries["take"].is_list:
        section.wrong("take", "a list")
        return []
    try:
        source = resolve(section.entries["from"])
        if source in path:
            raise SpecError(
                Problem(message=f"{' -> '.join((*path, source))} is a circle", mark=node.place)
            )
        if len(path) > MAX_IMPORTS:
            raise SpecError(
                Problem(message=f"more than {MAX_IMPORTS} imports deep", mark=node.place)
            )
        before = len(problems)
        found = layers(read_tree(source, section.entries["from"].mark), problems, path)
    except SpecError as error:
        problems.add(*error.problems)
        return []
    # Where that file's own import is wrong, what it has is not known.
    known = len(problems) == before
    return take(found, section.entries["take"].value, source, problems, known=known)


def take(
    found: list[Layer], wanted: Sequence[Node], source: str, problems: Problems, *, known: bool
) -> list[Layer]:
    """Of each layer, the entries (`metrics`) and single ones (`axes.dataset`) asked for."""
    whole: set[str] = set()
    single: dict[str, set[str]] = {}
    for node in wanted:
        entry, _, name = node.text.partition(".")
        if entry not in TAKEN:
            problems.refuse(node.mark, unknown("entry", label_of(node), TAKEN, " in take"))
        elif not name:
            whole.add(entry)
            if known and not any(entry in layer for layer in found):
                problems.refuse(node.mark, f"{source} has no {entry!r} to take")
        elif not TAKEN[entry]:
            problems.refuse(
                node.mark, f"{entry!r} is taken whole; write {entry!r}, not {node.text!r}"
            )
        else:
            single.setdefault(entry, set()).add(name)
            present = [n for layer in found for n in names_in(layer, entry)]
            if known and name not in present:
                problems.refuse(
                    node.mark, unknown(f"entry of {entry}", name, present, f" in {source}")
                )
    return [taken(layer, whole, single) for layer in found]


def names_in(layer: Layer, entry: str) -> list[str]:
    node = layer.get(entry)
    return list(node.value) if node and node.is_mapping else []


def taken(layer: Layer, whole: set[str], single: dict[str, set[str]]) -> Layer:
    kept: Layer = {}
    for entry, node in layer.items():
        if entry in whole:
            kept[entry] = node
        elif entry in single and node.is_mapping:
            some = {name: child for name, child in node.value.items() if name in single[entry]}
            kept[entry] = Node(value=some, mark=node.mark, key=node.key)
    return kept


def nodes(some: Sequence[Layer], entry: str) -> list[Node]:
    return [layer[entry] for layer in some if entry in layer]


def merged(nodes: Sequence[Node]) -> Node | None:
    """The last over the first; mappings key by key."""
    result: Node | None = None
    for node in nodes:
        result = over(result, node) if result else node
    return result


def over(low: Node, high: Node) -> Node:
    if not (low.is_mapping and high.is_mapping):
        return high
    entries = dict(low.value)
    for key, child in high.value.items():
        entries[key] = over(entries[key], child) if key in entries else child
    return Node(value=entries, mark=high.mark, key=high.key)
