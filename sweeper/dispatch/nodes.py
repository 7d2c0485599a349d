"""What the nodes of a cluster say of themselves in; whether a trial would be there what it is
here, and how many have room at once, out. Imports no Ray: `answer` is what a node does when it is
asked, wherever the question came from.

A cluster shares a store by a folder that all its nodes see under one path. That it is one folder
shows by a word that each side writes there and the other reads.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweeper import provenance
from sweeper.answers import data_digest
from sweeper.dispatch import trials_on_gpus
from sweeper.errors import EnvironmentFault, SweeperError
from sweeper.redaction import references
from sweeper.spec import Resources
from sweeper.track.folder import make
from sweeper.trial import TrainerRef, Trial
from sweeper.worker import Surroundings

SEEN_SECONDS = 10.0  # A file server shows what another machine wrote a little later.
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One that runs already: `address` is its head's, "host:port", or "auto". With `wait` also
    where no node of it has room for a trial yet."""

    address: str
    wait: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A live one, and all that it has; `id` is Ray's name for it."""

    id: str
    address: str
    cpus: float
    gpus: float

    def room(self, resources: Resources) -> int:
        """How many trials it holds at once: each is on one node, and a share on one GPU."""
        by_cpu = int(self.cpus // resources.cpus)
        wanted = resources.gpus
        return by_cpu if not wanted else min(by_cpu, trials_on_gpus(wanted, int(self.gpus)))


# ---- room


def fitted(resources: Resources, nodes: Sequence[Node]) -> Resources:
    """`resources` with `gpus` a number, by what the cluster has and not this machine."""
    if resources.gpus != "auto":
        return resources
    return replace(resources, gpus=min(1, max((int(node.gpus) for node in nodes), default=0)))


def room(resources: Resources, nodes: Iterable[Node]) -> int:
    """How many trials with these (fitted) resources the cluster holds at once."""
    return sum(node.room(resources) for node in nodes)


def refuse_small(resources: Resources, nodes: Sequence[Node]) -> None:
    """Raises EnvironmentFault where none of the nodes will ever hold a trial."""
    if not room(resources, nodes):
        raise EnvironmentFault(
            f"a trial asks for {wanted(resources)} on one node, and no node has that: "
            f"{had(nodes)}; change resources, or wait for a node that has it (--wait, with --slots)"
        )


def wanted(resources: Resources) -> str:
    """ "2 CPUs and 1 GPU"."""
    gpus = f" and {number(resources.gpus, 'GPU')}" if resources.gpus else ""
    return f"{number(resources.cpus, 'CPU')}{gpus}"


def had(nodes: Sequence[Node]) -> str:
    """ "the cluster has 4 CPUs and 0 GPUs (2 nodes)"."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    much = f"{number(cpus, 'CPU')} and {number(gpus, 'GPU')}"
    return f"the cluster has {much} ({number(len(nodes), 'node')})"


def number(count: float, of: str) -> str:
    return f"{count:g} {of}{'' if count == 1 else 's'}"


# ---- what nodes are asked before the first trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the driver runs by (`made_by` each trainer) and has: a file called `word` in the
    `store`, that has its name in it; corpora under `data`; the variables `names`. `trials` is
    one of each trainer and each corpus, `path` where the driver finds modules."""

    word: str
    store: Path
    data: Path | None
    path: tuple[str, ...]
    made_by: Mapping[TrainerRef, Mapping[str, str | None]]
    trials: tuple[Trial, ...] = ()
    names: tuple[str, ...] = ()


@contextlib.contextmanager
def question(
    surroundings: Surroundings, trials: Iterable[Trial], path: tuple[str, ...]
) -> Iterator[Question]:
    """What nodes are asked that are to run these trials. The driver's word stays for as long as
    a node may come that has not been asked; of the nodes' own nothing is left."""
    trials = tuple(trials)
    distinct = {(trial.trainer, trial.data_digest): trial for trial in trials}
    parts = {id(part): part for trial in trials for part in (trial.config, trial.evaluation)}
    names = dict.fromkeys(name for part in parts.values() for name in references(part))
    asked = Question(
        word=f".asked-{secrets.token_hex(8)}",
        store=surroundings.store,
        data=surroundings.data,
        path=path,
        made_by={trainer: provenance.running(trainer) for trainer, _ in distinct},
        trials=tuple(distinct.values()),
        names=tuple(name for name in names if os.environ.get(name)),
    )
    make(asked.store)
    try:
        (asked.store / asked.word).write_text(asked.word)
        yield asked
    finally:
        for left in asked.store.glob(f"{asked.word}*"):
            with contextlib.suppress(OSError):
                left.unlink()


def answer(asked: Question, node: str) -> list[str]:
    """On the node: what keeps trials from being run here as the driver would. The node's word
    is left in the store, for the driver to read."""
    sys.path.extend(entry for entry in asked.path if entry not in sys.path)
    wrong = [*without_store(asked, node), *other_programs(asked)]
    wrong += [
        f"the variable {name}, which the sweep names as env:{name}, is not set there: "
        "set it where `ray start` is called"
        for name in asked.names
        if not os.environ.get(name)
    ]
    return [*wrong, *without_data(asked)]


def without_store(asked: Question, node: str) -> Iterator[str]:
    if not asked.store.is_dir():
        yield f"it does not see the store {asked.store}: mount it there, under the same path"
        return
    if not reads(asked.store / asked.word, asked.word):
        yield f"its {asked.store} is not the driver's: mount the one store under that path"
        return
    try:
        (asked.store / f"{asked.word}-{node}").write_text(node)
    except OSError as fault:
        said = f"it cannot write in the store {asked.store} ({fault.strerror or fault})"
        yield f"{said}: let {user()}, as whom Ray runs there, write in it"


def reads(path: Path, text: str, seconds: float = SEEN_SECONDS) -> bool:
    """Whether a file comes to have this text within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def other_programs(asked: Question) -> Iterator[str]:
    said: dict[str, None] = {}
    for trainer, theirs in asked.made_by.items():
        ours = provenance.running(trainer)
        for what in ours:
            if what == "host" or ours[what] == theirs.get(what):
                continue
            if what != provenance.CODE:
                said[
                    f"{what} is {ours[what] or 'absent'} there and {theirs.get(what) or 'absent'} "
                    "at the driver: install the same"
                ] = None
                continue
            which = trainer.function or " ".join(trainer.command or ())
            is_absent = ours[what] is None
            how = "not there" if is_absent else "not the same there"
            said[f"the code of the trainer {which} is {how}: install or mount the driver's"] = None
    yield from said


def without_data(asked: Question) -> Iterator[str]:
    if asked.data is not None and not asked.data.is_dir():
        yield f"it has no folder of corpora {asked.data}: copy or mount it under that path"
        return
    for trial in asked.trials:
        if trial.data_digest is None:
            continue
        try:
            found = data_digest(trial, asked.data)
        except SweeperError as fault:
            yield f"its corpora: {'; '.join(str(problem) for problem in fault.problems)}"
            continue
        except OSError as fault:
            yield f"its corpora cannot be read: {fault}"
            continue
        if found != trial.data_digest:
            yield (
                f"its data is not the driver's (digest {(found or 'none')[:8]} there, "
                f"{trial.data_digest[:8]} at the driver): copy the driver's"
            )


def unseen(asked: Question, node: str) -> list[str]:
    """At the driver, once a node has answered that all is well: what it wrote is there."""
    if reads(asked.store / f"{asked.word}-{node}", node):
        return []
    return [f"what it writes in {asked.store} is not seen at the driver: mount the one store there"]


def refuse(wrong: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Raises EnvironmentFault with all that is wrong at each address, once."""
    said = dict.fromkeys(f"node {address}: {what}" for address, all_of in wrong for what in all_of)
    if said:
        raise EnvironmentFault(*said)


# ---- a node that came later


_fit: set[str] = set()


def refuse_unfit(asked: Question, trial: Trial, address: str) -> None:
    """On the node, before a trial: asks what every node was asked that was there at the start.
    Once a process, about its first trial. Raises EnvironmentFault."""
    if asked.word in _fit:
        return
    node = f"late-{secrets.token_hex(4)}"
    mine = replace(asked, trials=(trial,))
    try:
        refuse([(address, answer(mine, node))])
    finally:
        with contextlib.suppress(OSError):
            (asked.store / f"{asked.word}-{node}").unlink()
    _fit.add(asked.word)
