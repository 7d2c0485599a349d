"""What a table of 1,000 finished trials takes, from the folders and from MLflow.

    python benchmarks/table_speed.py                  minutes, most of them to fill MLflow

Fabricates the trials in a store of its own: configurations, seeds and identities are those of
a sweep file (5 sizes x 8 systems x 25 seeds of the laboratory's trainer), the
numbers are drawn. They are delivered to an MLflow database as a run delivers them. Then the
whole command `sweeper table FILE` is timed in processes of its own, in turns, and what it prints
is compared byte by byte. With `--store` the store is kept, and used again.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sweeper.design import expand
from sweeper.provenance import stamp
from sweeper.record import Record
from sweeper.spec import read
from sweeper.track.folder import Folder
from sweeper.track.mlflow import SETTINGS, MLflowStore
from sweeper.track.parcel import Origin
from sweeper.trial import Trial

SEEDS = 25
GOALS = {"folder": 1.0, "mlflow": 5.0}  # seconds of wall time on an idle machine
FILE = f"""\
name: thousand
trainer: {{function: trainers.text_vae:train, config: trainers.config}}
base: {{data: synthetic_topics, kl.start: 0.1, kl.warmup_epochs: 9}}
axes:
  size.decoder: [16, 32, 64, 128, 256]
  system:
    LSTM-LM: {{model: language_model}}
    SeqVAE: {{}}
    SkipVAE: {{decoder: skip}}
    Aggressive: {{scheme: aggressive}}
    AvgPool: {{pooling: avg}}
    AbsPool: {{pooling: abs}}
    MaxPool: {{pooling: max}}
    Dropped: {{word_dropout: 0.5}}
  seed: {{range: [0, {SEEDS - 1}]}}
metrics:
  nll: {{from: test/nll_iw, or: test/nll_exact, goal: min, format: ".1f", label: NLL}}
  kl: {{from: test/kl, format: ".1f", label: KL}}
  updates: {{from: cost/updates, format: ",.0f"}}
profiles: {{quick: {{}}}}
tables:
  thousand:
    rows: system
    columns: [size.decoder]
    values: [nll, kl, updates]
    over: seed
    cell: "{{mean}} ± {{sd}}"
    best: {{values: [nll], per: [size.decoder]}}
    write: [md, tex, csv]
"""
KEYS = ("nll_iw", "nll_bound", "kl", "mi_batch", "mi_full", "au", "cosine", "iw_ess", "iw_ess_min")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = (arguments.store or Path(scratch)).resolve()
        home.mkdir(parents=True, exist_ok=True)
        file, store = home / "thousand.yaml", home / "runs"
        file.write_text(FILE)
        trials = expand(read(file), None)
        began = time.perf_counter()
        fill(trials, store)
        print(f"{len(trials)} trials made and delivered in {time.perf_counter() - began:.0f} s")
        compare(file, store, arguments.rounds)


def fill(trials: Sequence[Trial], store: Path) -> None:
    """Finish each trial that is not, and deliver it."""
    folder, published = Folder(store), MLflowStore(store)
    origin = Origin(sweep="thousand", profile="quick", rows={"thousand": "system"})
    there, sent = folder.find(trials), published.find(trials)
    for trial in trials:
        if trial.key not in there:
            finish(trial, folder)
        if trial.key not in sent:
            published.publish(trial, folder, origin)


def finish(trial: Trial, folder: Folder) -> None:
    """A trial with 10 points on its way, and a result as large as the laboratory's."""
    draw = random.Random(trial.id)
    made = stamp(trial)
    attempt = folder.start(trial, made["code_digest"])
    result: dict[str, float] = {}
    for updates in range(300, 3001, 300):
        loss = 40 + 30 * math.exp(-updates / 900) + draw.gauss(0, 0.2)
        result = {"cost/updates": updates, "train/loss": loss, "valid/nelbo": loss + 1}
        attempt.measure(updates, result)
    result |= {f"{split}/{key}": draw.random() * 40 for split in ("valid", "test") for key in KEYS}
    attempt.measure(updates, result)
    attempt.finish(
        Record(
            trial_id=trial.id,
            evaluation_id=trial.evaluation_id,
            state="done",
            result=result,
            seconds=30 + draw.random(),
            provenance={**made, "device": "cpu"},
        )
    )


def compare(file: Path, store: Path, rounds: int) -> None:
    wall: dict[str, list[float]] = {source: [] for source in GOALS}
    busy: dict[str, list[float]] = {source: [] for source in GOALS}
    said: dict[str, set[bytes]] = {source: set() for source in GOALS}
    for turn in range(-1, rounds):  # A round to warm the disk's cache.
        for source in GOALS:
            seconds, processor, text = timed(file, store, source, "terminal")
            said[source].add(text)
            if turn >= 0:
                wall[source].append(seconds)
                busy[source].append(processor)
    for source, goal in GOALS.items():
        median, used = statistics.median(wall[source]), statistics.median(busy[source])
        short = "" if median <= goal else "  missed"
        print(
            f"{source:7} {median:5.2f} s (rounds {min(wall[source]):.2f} to "
            f"{max(wall[source]):.2f}): {median / goal:.2f} of the {goal:g} s there are{short}"
        )
        print(f"        {used:5.2f} processor seconds: {used / goal:.2f} of them")
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: only below 1 is wall time ours"
    )
    for style in ("md", "tex", "csv", "json"):
        for source in GOALS:
            said[source].add(timed(file, store, source, style)[2])
    equal = said["folder"] == said["mlflow"] and len(said["folder"]) == 5
    print(f"what both print is {'the same, in 5 formats' if equal else 'NOT the same'}")


def timed(file: Path, store: Path, source: str, style: str) -> tuple[float, float, bytes]:
    """Wall and processor seconds of the whole command, and what it printed."""
    command = [sys.executable, "-m", "sweeper", "table", str(file), "--store", str(store)]
    command += ["--source", source, "--format", style]
    before, began = children(), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, env={**SETTINGS, **os.environ})
    return time.perf_counter() - began, children() - before, done.stdout


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
