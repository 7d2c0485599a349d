"""A configuration and a run in; measurements out: one an epoch, and the result at last.

    for measurement in train({"data": "synthetic_styles", "pooling": "max"}, run): ...

A language model or a sequence VAE is trained on one corpus, the weights with the best
validation loss are kept, and those are evaluated on the test split. Everything random comes
from (seed, purpose), so that a run that was killed continues from its last checkpoint bit
for bit, and one that had finished training is only evaluated again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainers import checkpoint
from trainers.config import EVALUATION, effective, typed
from trainers.evaluation import evaluate
from trainers.training import Training

log = logging.getLogger(__name__)


class NothingToScore(Exception):
    """The run is to be scored and not trained, and what is to be scored is not there."""


def train(config: Mapping[str, Any], run: Any) -> Iterator[dict[str, float]]:
    kept = effective(config)
    settle(run)
    training = Training(typed(kept), run)
    owner = digest(kept, run.seed)
    folder = run.folder / "checkpoints"
    state, notes = checkpoint.load(folder, owner)
    for note in notes:
        log.warning(note)
    if state is not None and training.takes(state):
        training.load_state_dict(state)
    elif state is not None:
        places = folder, state["device"], training.device
        log.warning("the checkpoint in %s was made on %s; training starts over on %s", *places)
    if getattr(run, "score_only", False) and not training.finished:
        raise NothingToScore(f"no finished training is kept in {folder}")
    while not training.finished:
        measurement = training.epoch_of_updates()
        # Handed over before its checkpoint is written: a killed trial may repeat a
        # measurement, to the bit, but not lose one.
        yield measurement
        if not all(map(math.isfinite, measurement.values())):
            return  # This measurement is the result: the run diverged.
        checkpoint.save(folder, training.epoch, training.state_dict(), owner)
    yield training.result() | evaluate(training, run)


def settle(run: Any) -> None:
    """One answer on one machine: threads are the trial's, and every kernel deterministic."""
    torch.set_num_threads(run.cpus)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Before CUDA starts.
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # It would cost, for nothing.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def digest(config: Mapping[str, Any], seed: int) -> str:
    """Of all that training depends on: evaluation may change, and its checkpoint still does."""
    training = {key: value for key, value in config.items() if key not in EVALUATION}
    return hashlib.sha256(json.dumps([training, seed], sort_keys=True).encode()).hexdigest()
