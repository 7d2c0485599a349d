"""The trainer of the store format-1, and its sweep file.

That store was written by the program as it was when records had format 1: a trial that was
done, one that failed, and one that was stopped at the third of its four updates. Only names of
machines, their processes and versions were changed by hand, and sealed again. What a later
program cannot read of it, it cannot read of anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SWEEP = """\
name: old
trainer: {function: "format_1:train"}
base: {updates: 4}
axes:
  case: {done: {fails_at: 0}, failed: {fails_at: 3}, stopped: {fails_at: -1}}
  seed: [5]
metrics: {loss: {from: loss, goal: min, format: ".3f"}}
profiles: {quick: {}}
tables: {main: {rows: case, values: [loss], over: seed, cell: "{mean}", write: [md]}}
"""


def train(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Its loss is seed + 1 / update; it continues from its checkpoint."""
    checkpoint = run.folder / "checkpoints" / "update"
    checkpoint.parent.mkdir(exist_ok=True)
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for update in range(done + 1, config["updates"] + 1):
        if update == config["fails_at"]:
            raise ValueError("no third update")
        yield {"cost/updates": update, "loss": run.seed + 1 / update}
        checkpoint.write_text(str(update))
    (run.folder / "artifacts").mkdir(exist_ok=True)
    (run.folder / "artifacts" / "said.txt").write_text("done\n")
    yield {"cost/updates": config["updates"], "loss": run.seed + 1 / config["updates"]}
