"""The configuration of own.linear: as a sweep file says it in; complete and checked out."""

from difflib import get_close_matches

DEFAULTS = {"lr": 0.01, "epochs": 12, "penalty": "none", "alpha": 1e-4, "top": 1}
EVALUATION = ("top",)  # Only scoring reads it: another value trains nothing again.


class Wrong(Exception):
    def __init__(self, problems):
        super().__init__(str(problems))
        self.problems = problems  # pairs of a key and what is wrong with it


def effective(config):
    problems = []
    for key in config:
        if key not in DEFAULTS:
            near = get_close_matches(key, DEFAULTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(DEFAULTS)}"
            problems.append((key, f"unknown key {key!r}; {hint}"))
    full = DEFAULTS | dict(config)
    if full["penalty"] not in ("none", "l2"):
        problems.append(("penalty", f"penalty must be none or l2, not {full['penalty']!r}"))
    if problems:
        raise Wrong(problems)
    if full["penalty"] == "none":
        del full["alpha"]  # It changes nothing here: two values of it are one trial.
    return full
