"""A trainer's configuration module, as small as one can be; trainers/config.py is a real one."""

from __future__ import annotations

EVALUATION = ("evaluate",)
DATA = ("data",)
DEFAULTS = {
    "data": "toy",
    "limits": {"train": None},
    "model": "plain",
    "pooling": "last",
    "lr": 1.0,
    "kl": {"start": 0.0, "epochs": 10},
    "evaluate": {"samples": 1},
}
calls = {"effective": 0, "corpus_digest": 0}


class Wrong(Exception):
    def __init__(self, problems):
        super().__init__(str(problems))
        self.problems = problems


def effective(config):
    """Defaults filled in; pooling does nothing under model `lm` and is dropped there."""
    calls["effective"] += 1
    assert "seed" not in config
    problems, filled = [], {}
    for key, default in DEFAULTS.items():
        given = config.get(key, default)
        filled[key] = {**default, **given} if isinstance(default, dict) else given
        if isinstance(default, dict):
            problems += [(f"{key}.{k}", f"unknown key {k!r}") for k in given if k not in default]
    problems += [(key, f"unknown key {key!r}") for key in config if key not in DEFAULTS]
    if not isinstance(filled["lr"], (int, float)) or filled["lr"] <= 0:
        problems.append(("lr", f"lr must be above 0; not {filled['lr']}"))
    if problems:
        raise Wrong(problems)
    if filled["model"] == "lm":
        del filled["pooling"]
    return filled


def corpus_digest(config, root):
    calls["corpus_digest"] += 1
    if config["data"] == "absent":
        raise Wrong([("data", "there is no corpus 'absent'")])
    return f"digest of {config['data']}"
