"""Trainers for tests: each shows one way in which a trial can go."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def countdown(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """`steps` measurements; loss = level / update + seed; leaves a mark when it is closed."""
    try:
        for update in range(1, config["steps"] + 1):
            time.sleep(config.get("pause", 0.0))
            yield {"cost/updates": update, "loss": config.get("level", 1.0) / update + run.seed}
    finally:
        (run.folder / "closed").touch()


def paced(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """`steps` updates, each with the share of training that is done by then; continues from
    its checkpoint. Its result comes after all of them, at no cost."""
    checkpoint = run.folder / "checkpoints" / "update"
    checkpoint.parent.mkdir(exist_ok=True)
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for update in range(done + 1, config["steps"] + 1):
        time.sleep(config.get("pause", 0.0))
        checkpoint.write_text(str(update))
        yield {"cost/updates": update, "loss": 1 / update, "progress": update / config["steps"]}
    yield {"cost/updates": config["steps"], "loss": 0.5, "progress": 1.0}


def hoards(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Holds so many `megabytes`, and lets them go before it says something."""
    held = b"x" * (config["megabytes"] * 2**20)
    size = len(held)
    del held
    yield {"cost/updates": 1, "size": size}


def draw(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Draws from the global generator, which the worker seeds."""
    yield {
        "cost/updates": 1,
        "draw": random.random(),
        "threads": float(os.environ["OMP_NUM_THREADS"]),
    }


def returns_one(config: Mapping[str, Any]) -> Mapping[str, float]:
    return {"loss": config["lr"] * 2, "seed": config["seed"]}


def returns_one_with_run(config: Mapping[str, Any], run: Any) -> Mapping[str, float]:
    return {"loss": config["lr"] * 2, "seed": run.seed}


def chatters(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    print("a word on stdout")
    print("a word on stderr", file=sys.stderr)
    yield {"cost/updates": 1, "loss": 1.0}


def raises(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": 1.0}
    raise ValueError("the third layer\nhas no weights")


def interrupts(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": 1.0}
    raise KeyboardInterrupt


def diverges(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 10, "loss": 2.0, "kl": 1.0}
    yield {"cost/updates": 20, "loss": float(config["bad"]), "kl": 0.5}
    yield {"cost/updates": 30, "loss": 0.0, "kl": 0.25}


def dies_once(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Killed in the middle of its first attempt; the second continues from its checkpoint."""
    checkpoint = run.folder / "checkpoints" / "update"
    checkpoint.parent.mkdir(exist_ok=True)
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for update in range(done + 1, 5):
        yield {"cost/updates": update, "started_from": done}
        checkpoint.write_text(str(update))
        if update == 2 and done == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def always_dies(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    yield {"cost/updates": 1, "loss": 1.0}
    os._exit(7)


def barrier(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Waits until `parties` trials stand here at once; says which GPU it was given."""
    folder = Path(config["folder"])
    (folder / f"here-{run.seed}").touch()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("here-*"))) < config["parties"]:
        assert time.monotonic() < deadline, "the others never came"
        time.sleep(0.02)
    yield {"cost/updates": 1, "gpu": float(os.environ["CUDA_VISIBLE_DEVICES"])}


def keeps(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Trains three updates, once, and scores what it kept: score = samples + seed. Counts
    both in its folder. Cannot score with less than one sample."""
    kept = run.folder / "checkpoints" / "trained"
    samples = config["evaluate"]["samples"]
    if not kept.exists():
        if run.score_only:
            raise RuntimeError("nothing to score")
        count(run.folder / "trainings")
        for update in range(1, 4):
            time.sleep(config.get("pause", 0.0))
            yield {"cost/updates": update, "loss": 1 / update}
        kept.parent.mkdir(exist_ok=True)
        kept.touch()
    if samples < 1:
        raise ValueError(f"{samples} samples")
    count(run.folder / "scorings")
    yield {"cost/updates": 3, "score": float(samples + run.seed)}


def count(path: Path) -> None:
    with path.open("a") as file:
        file.write("1\n")


def waits(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Goes on until it is closed."""
    update = 0
    while True:
        update += 1
        yield {"cost/updates": update, "loss": 1.0}
        time.sleep(0.02)


def sleeps(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Is long in coming to its second measurement."""
    yield {"cost/updates": 1, "loss": 1.0}
    time.sleep(600)


def no_mapping(config: Mapping[str, Any], run: Any) -> Any:
    yield 3.0


def no_number(config: Mapping[str, Any], run: Any) -> Any:
    yield {"loss": "low"}


def nothing(config: Mapping[str, Any], run: Any) -> Any:
    yield from ()


def returns_text(config: Mapping[str, Any]) -> Any:
    return "0.5"


def cost_goes_down(config: Mapping[str, Any], run: Any) -> Any:
    yield {"cost/updates": 2, "loss": 1.0}
    yield {"cost/updates": 1, "loss": 1.0}


def cost_left_out(config: Mapping[str, Any], run: Any) -> Any:
    yield {"loss": 3.0}
    yield {"cost/updates": 5, "loss": 2.0}
    yield {"loss": 1.0}


def main(arguments: list[str]) -> None:
    """As a command: `toy_trainers.py MODE SEED LR`."""
    mode, seed, lr = arguments[0], int(arguments[1]), float(arguments[2])
    print("starting")
    print(json.dumps({"cost/updates": 1, "loss": lr + seed}))
    print("{not json")
    if mode == "nan":
        print(json.dumps({"cost/updates": 2, "loss": float("nan")}))
    if mode == "fail":
        print("first line\nno such layer", file=sys.stderr)
        sys.exit(3)
    if mode == "wait":
        Path(arguments[3]).write_text(str(os.getpid()))
        print(json.dumps({"cost/updates": 2, "loss": 0.0}), flush=True)
        time.sleep(600)
    print(json.dumps({"cost/updates": 2, "loss": lr}))


if __name__ == "__main__":
    main(sys.argv[1:])
