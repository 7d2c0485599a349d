"""The same tables whatever the order, the number of trials at once, and the dispatcher."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import corpus

from sweeper import run
from sweeper.render import RENDERERS
from sweeper.spec import Resources, read

SWEEP = """\
name: order
trainer: {function: "trainers.text_vae:train", config: trainers.config}
base:
  data: tiny
  dropout: 0.2
  word_dropout: 0.1
  size: {embedding: 4, encoder: 6, decoder: 6, latent: 2}
  init: {scheme: default}
  optim: {algorithm: adam, lr: 0.02, batch: 8, epochs: 2, rule: milestones}
  aggressive: {window: 2, inner: 6}
  evaluate: {samples: 5}
profiles: {quick: {}}
axes:
  pooling: {values: [last, max]}
  scheme: {values: [joint, aggressive]}
  seed: [0, 1]
metrics: {nll: {from: test/nll_iw, goal: min}, updates: {from: cost/updates, format: ".0f"}}
tables:
  t: {rows: pooling, columns: scheme, values: [nll, updates], over: seed, cell: "{mean} ± {sd}"}
"""

WAYS = {  # dispatcher, trials at once, whether their order is shuffled
    "inline, in another order": ("inline", 1, True),
    "ray, four at once": ("ray", 4, True),
}
MORE_WAYS = {
    "ray, one at a time": ("ray", 1, False),
    "ray, two at once": ("ray", 2, True),
}


@pytest.mark.slow
@pytest.mark.ray
def test_the_same_tables_in_every_way(
    tmp_path: Path, full: bool, fault_seed: int, say: Callable[[str], None]
):
    from sweeper.dispatch import ray_cluster

    corpus(tmp_path / "data", {"train": 48, "valid": 24, "test": 24})
    (tmp_path / "order.yaml").write_text(SWEEP)
    sweep = read(tmp_path / "order.yaml")
    ways = WAYS | MORE_WAYS if full else WAYS

    def tables(name: str, by: str, slots: int, shuffled: bool) -> dict[str, str]:
        place = run.Place(store=tmp_path / name, data=tmp_path / "data")
        plan = run.look(sweep, place)
        todo = list(plan.todo)
        assert len(todo) == 8
        if shuffled:
            random.Random(fault_seed).shuffle(todo)
        place.folder.prepare()
        machine = run.Machine(by=by, resources=Resources(cpus=1, gpus=0), slots=slots)
        states: list[str] = []
        run.train(todo, place, machine, lambda it: states.append(it.state), threading.Event())
        assert states == ["done"] * 8
        (made,) = run.tables(sweep, run.look_again(sweep, plan.trials, place), place)
        return {style: render(made) for style, render in RENDERERS.items()}

    expected = tables("inline", "inline", 1, False)
    with ray_cluster.running_ray(Resources(), {"num_cpus": 4}, tmp_path):
        for name, way in ways.items():
            assert tables(name, *way) == expected, name
    say(f"8 trials in {1 + len(ways)} ways: the same bytes in {', '.join(expected)}")
