"""How numbers are written in tables: the closed grammar of formats and of cell templates."""

from __future__ import annotations

import re

# ".1f", ",.0f", ".2e", "g", ".3g": precision at most 20.
FORMAT = re.compile(r",?\.(?:[0-9]|1[0-9]|20)f|\.(?:[0-9]|1[0-9]|20)e|(?:\.(?:[1-9]|1[0-9]|20))?g")

CELL_FIELDS = ("mean", "sd", "ci95", "n", "min", "max")

FIELD = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")

MAX_TEMPLATE = 80


def fault_in_template(
    template: str, fields: tuple[str, ...], *, formats: bool = False
) -> str | None:
    """What is wrong with a template such as "{mean} ± {sd}", None if nothing is."""
    shown = ", ".join(f"{{{name}}}" for name in fields)
    if len(template) > MAX_TEMPLATE:
        return f"longer than {MAX_TEMPLATE} characters"
    found = FIELD.findall(template)
    if not found:
        return f"none of {shown} in it"
    for name, form in found:
        if name not in fields:
            return f"unknown field {{{name}}}; the fields are {shown}"
        if form and not (formats and FORMAT.fullmatch(form)):
            return f"no format {form!r} in a field here" if not formats else bad_format(form)
    if re.search(r"[{}]", FIELD.sub("", template)):
        return "a single '{' or '}' in it"
    return None


def bad_format(form: str) -> str:
    return f"format {form!r} is none of .1f, ,.0f, .2e, g and their like (precision at most 20)"
