"""The `profiles:` of a file's layers in; each profile's own layers out.

A profile may set anything that has a place in PROFILE; it stands over the file's own
entries and below the levels of axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeper.errors import unknown
from sweeper.spec.layers import Layer, nodes
from sweeper.spec.loader import Node
from sweeper.spec.problems import Problems
from sweeper.spec.section import Section, check_names

MAX_PROFILES = 50  # Each is read, whichever is asked for.

PROFILE = ("set", "axes", "exclude", "include", "resources", "budget", "search")


def profiles(below: Sequence[Layer], problems: Problems) -> dict[str, list[Layer]]:
    found: dict[str, list[Layer]] = {}
    for node in nodes(below, "profiles"):
        if not node.is_mapping:
            problems.refuse(node.mark, f"profiles must be a mapping, not {node.kind}")
            continue
        check_names(node.value, "profile", problems)
        if len(node.value) > MAX_PROFILES:
            problems.stop(node.place, f"{len(node.value)} profiles; at most {MAX_PROFILES}")
        for name, child in node.value.items():
            section = Section(child, f"profiles.{name}", problems, PROFILE)
            found.setdefault(name, []).append(section.entries)
    return found


def under(
    profile: str, variants: Mapping[str, list[Layer]], root: Node, problems: Problems
) -> list[Layer]:
    """The layers of one profile, which must exist: what was made under a profile says so."""
    if profile not in variants:
        node = root.value.get("profiles")
        message = unknown("profile", profile, variants)
        if not variants:
            message = f"there is no profile {profile!r}: add 'profiles: {{{profile}: {{}}}}'"
        problems.refuse(node.place if node else root.mark, message)
    return variants.get(profile, [])
