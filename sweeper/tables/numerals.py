"""A number and a format of the closed grammar in; its text out.

Formats are `.1f`, `,.0f`, `.2e`, `.1%`, `g`, `d`: nothing that reaches into an object. A
minus is the minus sign, and what rounds to zero has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sweeper import stats

FORMAT = re.compile(r",?(\.\d{1,2})?[fe%]|(\.\d{1,2})?g|d")
MINUS = "−"
NONE = "–"  # there is no such number
_FIELD = re.compile(r"\{(mean|sd|ci95|n|min|max)\}")
_RATIO = re.compile(r"([^{}]*)\{ratio(?::([^{}]*))?\}([^{}]*)")


def numeral(value: float, form: str, *, signed: bool = False, unit: str = "") -> str:
    """numeral(-0.04, ".1f") is "0.0"; numeral(0.25, ".1f", signed=True) is "+0.2".
    What is signed is a difference: that of two percentages is of percentage points, "pp"."""
    assert FORMAT.fullmatch(form), form
    text = format(round(value), "d") if form == "d" else format(value, form)
    digits = text.lstrip("-")
    if text.startswith("-") and any(c in "123456789" for c in digits.split("e")[0]):
        sign = MINUS
    elif signed and any(c in "123456789" for c in digits.split("e")[0]):
        sign = "+"
    else:
        sign = ""
    if signed and form.endswith("%"):
        digits = digits.removesuffix("%") + " pp"
    return sign + digits.replace("e-", f"e{MINUS}") + unit


def summary(
    values: Sequence[float], template: str, form: str, *, signed: bool = False, unit: str = ""
) -> str:
    """Values summed up as a cell's template says: "{mean} ± {sd}" -> "80.7 ± 0.5".

    One value has no spread: then only the mean is shown. The unit follows the mean."""
    if len(values) == 1:
        template = "{mean}"

    def spread(width: float) -> str:  # In percentage points, as what it is the spread of.
        return numeral(width, form, signed=signed).removeprefix("+")

    fields = {
        "mean": lambda: numeral(stats.mean(values), form, signed=signed, unit=unit),
        "sd": lambda: spread(stats.sd(values)),
        "ci95": lambda: spread(stats.t_half_width(values)),
        "n": lambda: str(len(values)),
        "min": lambda: numeral(min(values), form, signed=signed),
        "max": lambda: numeral(max(values), form, signed=signed),
    }
    return _FIELD.sub(lambda match: fields[match[1]](), template)


def has_spread(template: str) -> bool:
    return "{sd}" in template or "{ci95}" in template


def ratio(value: float, template: str) -> str:
    """ratio(3.06, "{ratio:.1f}x") is "3.1x"."""
    match = _RATIO.fullmatch(template)
    assert match, template
    return match[1] + numeral(value, match[2] or ".2f") + match[3]
