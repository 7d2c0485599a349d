"""Whole lives of a trial on a disk that fails, and on what a power cut leaves of one.

    python life.py faults LIFE [EVERY]          each durable call failed in turn, in each way
    python life.py power LIFE STATES SEED       what a file system may have at each moment

A JSON object on standard output says what came of it. A round is a fork of this process, which
has loaded everything: torch alone takes longer than a hundred rounds.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import disk  # noqa: E402

disk.install()

import power  # noqa: E402
import torch  # noqa: E402

from sweeper import run  # noqa: E402
from sweeper.errors import CorruptRecord, SweeperError  # noqa: E402
from sweeper.halving import Halving  # noqa: E402
from sweeper.halving import read as read_rung  # noqa: E402
from sweeper.record import Record  # noqa: E402
from sweeper.run import Machine, Place  # noqa: E402
from sweeper.spec import parse  # noqa: E402
from sweeper.track import courier, snapshots  # noqa: E402
from sweeper.track.folder import Folder, plain  # noqa: E402
from sweeper.trial import TrainerRef, Trial  # noqa: E402
from trainers import checkpoint  # noqa: E402

EPOCHS = 4
RETRY = frozenset({"failed"})
SWEEP = f"""\
name: toy
trainer: {{function: "life:train"}}
base: {{epochs: {EPOCHS}}}
axes: {{seed: [0]}}
metrics: {{loss: {{from: test/loss, goal: min, format: ".3f"}}}}
profiles: {{quick: {{}}}}
tables: {{main: {{rows: seed, values: [loss], over: [], write: [md]}}}}
"""


# ---- the trainer

stop: threading.Event | None = None  # set after the second epoch of a first sitting


def weights(epoch: int) -> torch.Tensor:
    return torch.full((3, 2), 0.5**epoch)


def train(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Halves its weights, from its checkpoint on; leaves a file."""
    folder = run.folder / "checkpoints"
    state, _ = checkpoint.load(folder, "life")
    done, now = (state["epoch"], state["weights"]) if state else (0, weights(0))
    for epoch in range(done + 1, config["epochs"] + 1):
        now = now / 2
        print(f"epoch {epoch}")
        if stop is not None and epoch == 2:
            stop.set()
        share = epoch / config["epochs"]
        yield {"cost/updates": epoch, "loss": float(now.sum()), "progress": share}
        disk.say("measured", epoch)
        checkpoint.save(folder, epoch, {"epoch": epoch, "weights": now}, "life")
        disk.say("checkpoint", epoch)
    (run.folder / "artifacts").mkdir(exist_ok=True)
    (run.folder / "artifacts" / "weights.txt").write_text(str(now.tolist()))
    yield {"cost/updates": config["epochs"], "test/loss": float(now.sum())}


# ---- its lives: each is run to its end again after whatever happened


class Nobody:
    """In place of the courier, whose process is none of the disk's."""

    def publish_tables(self, tables: Mapping[str, str], files: list[Path]) -> None:
        pass


def of_a_sweep(root: Path) -> None:
    """Two sittings, the first stopped in the middle; rungs of halving, tables, marks."""
    global stop
    sweep, place = parse(SWEEP, "toy.yaml"), Place(store=root)
    plan = run.look(sweep, place, RETRY)
    if wrong := [r.error for r in plan.records.values() if r.state == "corrupt"]:
        raise CorruptRecord(*wrong)
    place.folder.prepare()
    run.remember(sweep, plan, place)
    disk.say("snapshot", plan.trials[0].id)
    machine = Machine.for_(sweep, "inline", None)
    halving = halving_of(root, plan.trials[0])
    halving.place_rungs("study", EPOCHS)
    for first in (True, False):
        now = threading.Event()
        stop = now if first else None
        run.train(plan.todo, place, machine, ended, now, retry=RETRY, halving=halving)
        plan = run.look_again(sweep, plan.trials, place, RETRY)
    for trial in plan.trials:
        there = root / "trials" / trial.id
        if there.is_dir():
            courier.mark_delivered(there / "delivered.json", "somewhere", "digest")
            disk.say("delivered", trial.id)
    tables = run.tables(sweep, plan, place)
    run.publish(sweep, tables, run.claims(sweep, plan), place, Nobody())
    disk.say("table", None)
    for record in plan.records.values():
        print(f"{record.state}: {record.error}")
    if not plan.filled:
        raise SystemExit(1)


def halving_of(root: Path, trial: Trial) -> Halving:
    return Halving(
        root=root / "searches",
        studies={tuple(trial.labels.items()): "study"},
        source="loss",
        by="cost/updates",
        goal="min",
        grace=0.25,
        factor=2,
    )


def ended(record: Record) -> None:
    disk.say("ended", record)


def made_anew(root: Path) -> None:
    """A result, and the same training by other code, which replaces it: its files are set
    aside, and a third attempt scores what there is."""
    store = Folder(root)
    of = trial(0)
    for number, code in ((1, "first"), (2, "second")):
        record = store.record(of)
        if record is not None and record.provenance.get("code_digests") == [code]:
            continue
        if record is not None and number == 1:
            continue
        attempt = store.start(of, code)
        try:
            attempt.arrange({"stale"} if number == 2 else set())
            for epoch in trained(attempt.folder, 100 * number, code):
                value = float(100 * number + epoch)
                attempt.measure(epoch, {"cost/updates": epoch, "loss": value})
            result = {"cost/updates": 2.0, "test/loss": float(100 * number)}
            ended(attempt.finish(made(of, result)))
        finally:
            attempt.abandon("interrupted")


def trained(folder: Path, first: int, code: str) -> Iterator[int]:
    """Two epochs, kept as number `first` + 1 and `first` + 2; what continues a training that
    other code began has another number than it should."""
    try:
        begin(folder / "artifacts", code)
        state, _ = checkpoint.load(folder / "checkpoints", "life")
        done = state["epoch"] - first if state else 0
        assert 0 <= done < 10, f"it continues from epoch {first + done}"
        for epoch in range(done + 1, 3):
            yield epoch
            kept = {"epoch": first + epoch}
            checkpoint.save(folder / "checkpoints", first + epoch, kept, "life")
        (folder / "artifacts" / "code.txt").write_text(code)
    except OSError as fault:
        print(f"failed: OSError: {fault}")
        raise SystemExit(1) from fault


def begin(folder: Path, code: str) -> None:
    """Leaves a file for good before there is anything to measure."""
    folder.mkdir(exist_ok=True)
    with open(folder / "begun.txt", "w", encoding="utf-8") as file:
        file.write(code)
        file.flush()
        os.fsync(file.fileno())
    checkpoint.flush(folder)
    checkpoint.flush(folder.parent)


def trial(seed: int) -> Trial:
    config = {"epochs": EPOCHS}
    return Trial(trainer=TrainerRef(function="life:train"), config=config, seed=seed)


def made(of: Trial, result: Mapping[str, float]) -> Record:
    return Record(trial_id=of.id, evaluation_id=of.evaluation_id, state="done", result=dict(result))


LIVES: dict[str, Callable[[Path], None]] = {"sweep": of_a_sweep, "anew": made_anew}


# ---- what is to hold whatever happened


def wrong_with(life: str, root: Path, said: list[tuple[str, Any]]) -> list[str]:
    """What is not as it must be: damage that a reader sees, something half written that is
    believed, something acknowledged (`said`) that is not there."""
    store = Folder(root)
    found = []
    for id in store.ids():
        found += [f"damage in {path}: {what}" for path, what in store.damage(id)]
    found += [f"damage in {path}: {what}" for path, what in snapshots.damage(root).items()]
    trials = run.look(parse(SWEEP, "toy.yaml"), Place(store=root)).trials
    for one in trials if life == "sweep" else [trial(0)]:
        record = store.find([one]).get(one.key)
        if record is None or record.state != "done":
            continue
        if life == "sweep":
            found += unlike(record.result.get("test/loss"), 6 * 0.5**EPOCHS, "the result")
            course = [int(it.cost) for it in store.course(one)]
            if course[-2:] == [EPOCHS] * 2:
                course.pop()  # The result, by the attempt that measured the last epoch.
            found += unlike(course, [*range(1, EPOCHS + 1)], "the course of a result")
            content = str(weights(EPOCHS).tolist()).encode()
            found += unlike(store.artifact(one.id, "weights.txt"), content, "the artifact")
    for what, value in said:
        found += CHECKS.get(what, lambda *_: [])(life, store, value)
    return found


def unlike(found: Any, expected: Any, what: str) -> list[str]:
    return [] if found == expected else [f"{what} is {found}, not {expected}"]


def has_ended(life: str, store: Folder, record: Record) -> list[str]:
    if record.state != "done":
        return []
    of = next(it for it in (*parsed(), trial(0)) if it.key == record.key)
    there = store.result(of)
    if there is None:
        return [f"the result of attempt {record.attempt} is lost"]
    if there.attempt < record.attempt:
        return [f"attempt {there.attempt}'s result is there, {record.attempt}'s was acknowledged"]
    if there.attempt == record.attempt and plain(there) != plain(record):
        return ["another record than what was acknowledged"]
    if life == "anew" and there.attempt == record.attempt:
        code = record.provenance["code_digests"][0]
        found = [store.artifact(of.id, name) for name in ("begun.txt", "code.txt")]
        return unlike(found, [code.encode()] * 2, f"{code}'s artifacts")
    return []


def parsed() -> tuple[Trial, ...]:
    return run.expand(parse(SWEEP, "toy.yaml"), None)


def has_checkpoint(life: str, store: Folder, epoch: int) -> list[str]:
    (of,) = parsed()
    state, _ = checkpoint.load(store.path(of.id) / "checkpoints", "life")
    if state is None or state["epoch"] < epoch:
        return [f"the checkpoint of epoch {epoch} is lost: {state}"]
    return [] if torch.equal(state["weights"], weights(state["epoch"])) else ["other weights"]


def has_rungs(life: str, store: Folder, epoch: int) -> list[str]:
    (of,) = parsed()
    rungs = halving_of(store.root, of).rungs_up_to(epoch, EPOCHS)
    places = [store.root / "searches" / "study" / f"rung-{n}" / f"{of.id}.json" for n, _ in rungs]
    return [f"{path} is lost" for path in places if not read_rung(path).get("judged")]


def has_snapshot(life: str, store: Folder, id: str) -> list[str]:
    there = snapshots.all_kept(store.root)[0]
    return [] if any(id in {key.trial_id for key in it.keys} for it in there) else ["no snapshot"]


def has_table(life: str, store: Folder, _: None) -> list[str]:
    path = store.root / "tables" / "toy.quick" / "main.md"
    return [] if path.exists() and path.read_text().endswith("\n") else ["the table is lost"]


def has_mark(life: str, store: Folder, id: str) -> list[str]:
    marks = courier.marks(store.path(id) / "delivered.json")
    return unlike(marks, {"somewhere": "digest"}, "what was delivered")


CHECKS: dict[str, Callable[..., list[str]]] = {
    "ended": has_ended,
    "checkpoint": has_checkpoint,
    "measured": has_rungs,
    "snapshot": has_snapshot,
    "table": has_table,
    "delivered": has_mark,
}


def complete(life: str, root: Path) -> list[str]:
    """What is not as after a life without a fault."""
    found = wrong_with(life, root, [])
    store = Folder(root)
    if life == "sweep":
        table = (root / "tables" / "toy.quick" / "main.md").read_text()
        found += [] if f"{6 * 0.5**EPOCHS:.3f}" in table else [f"the table is {table}"]
        (of,) = parsed()
    else:
        of = trial(0)
    record = store.find([of]).get(of.key)
    if record is None or record.state != "done":
        return [*found, f"it ended as {record}"]
    if life == "anew":
        found += unlike(record.result["test/loss"], 200.0, "the result")
        found += unlike(record.provenance["code_digests"], ["second"], "the code")
        found += unlike(store.artifact(of.id, "code.txt"), b"second", "the artifact")
        found += unlike([it.values["loss"] for it in store.course(of)], [201.0, 202.0], "course")
        state, _ = checkpoint.load(store.path(of.id) / "checkpoints", "life")
        found += unlike(state, {"epoch": 202}, "the checkpoint")
    return found


# ---- rounds


def apart(task: Callable[[], Any]) -> tuple[int, Any, str]:
    """A task in a fork of this process: its exit code, what it returned, what it printed."""
    with tempfile.TemporaryFile() as back, tempfile.TemporaryFile() as out:
        return forked(task, back, out)


def forked(task: Callable[[], Any], back: Any, out: Any) -> tuple[int, Any, str]:
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
        sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w"), line_buffering=True)
        code = 99
        try:
            pickle.dump(task(), back)
            back.flush()
            code = 0
        except SweeperError as error:
            print(f"error: {error}")
            code = error.exit_code
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    back.seek(0)
    out.seek(0)
    content = back.read()
    code = os.waitstatus_to_exitcode(status)
    return code, pickle.loads(content) if content else None, out.read().decode()


def with_disk(life: str, root: Path, kind: str = "", at: int = 0, tell: int = -1) -> disk.Disk:
    """One life with a fault; what is acknowledged goes to the descriptor `tell`."""
    made = disk.Disk(root, kind, at)
    disk.put_in(made)
    real = made.keep

    def keep(*operation: Any) -> None:
        real(*operation)
        if operation[0] == "ack" and tell >= 0:
            disk.REAL["write"](tell, pickle.dumps(operation[1:]))

    made.keep = keep
    try:
        LIVES[life](root)
    finally:
        disk.put_in(None)
        if made.failed:
            print(f"failed call: {made.failed}")
    del made.keep
    return made


def acknowledged(file: Any) -> list[tuple[str, Any]]:
    file.seek(0)
    found = []
    while True:
        try:
            found.append(pickle.load(file))
        except EOFError:
            return found


def a_round(life: str, root: Path, kind: str, at: int) -> list[str]:
    """What is wrong after the call `at` failed so, and after the life was run again."""
    with tempfile.TemporaryFile() as told:
        return failed(life, root, kind, at, told)


def failed(life: str, root: Path, kind: str, at: int, told: Any) -> list[str]:
    code, _, printed = apart(lambda: with_disk(life, root, kind, at, told.fileno()))
    found = []
    if kind == "kill":
        found += [] if code == -9 else [f"it ended with {code}, not killed"]
    elif code not in (0, 1, 3):
        found.append(f"it ended with {code}")
    elif code == 3 and (str(root) not in printed.partition("error: ")[2].partition("\n")[0]):
        found.append("the fault does not name the path")
    elif code == 1 and "failed: OSError: [Errno " not in printed:
        found.append("it does not say which fault it was")
    _, bad, said = apart(lambda: wrong_with(life, root, acknowledged(told)))
    found += [said] if bad is None else bad
    if not found:
        code, bad, said = apart(lambda: (LIVES[life](root), complete(life, root))[1])
        found += [f"afterwards it ended with {code}: {said}"] if bad is None else bad
    return [f"{life}, call {at}, {kind}: {it}\n{printed}" for it in found]


def faults(life: str, every: int = 1) -> dict[str, Any]:
    """Each call in every way; with `every` above 1 each in one of so many ways, in turn."""
    with scratch() as root:
        LIVES[life](root / "first")  # Loads what is loaded late.
        _, whole, said = apart(lambda: names_of(with_disk(life, root / "whole")))
        assert whole, said
        assert not (wrong := complete(life, root / "whole")), wrong
        wrong, rounds, began = [], 0, time.monotonic()
        for at in range(1, len(whole) + 1):
            for number, kind in enumerate(disk.KINDS):
                if kind == "short" and whole[at - 1] != "write":
                    continue
                if (at + number) % every:
                    continue
                wrong += a_round(life, root / "store", kind, at)
                rounds += 1
                shutil.rmtree(root / "store", ignore_errors=True)
        return {
            "calls": len(whole),
            "kinds": sorted(set(whole)),
            "rounds": rounds,
            "wrong": wrong,
            "seconds": time.monotonic() - began,
        }


def names_of(made: disk.Disk) -> list[str]:
    return made.names


def cuts(life: str, states: int, seed: int) -> dict[str, Any]:
    """Each state is read, and the life run from it to its end; of all that there are `states`,
    drawn at random (0: all)."""
    with scratch() as root:
        LIVES[life](root / "first")  # Loads what is loaded late.
        place = root / "store"
        _, whole, said = apart(lambda: with_disk(life, place).operations)
        assert whole, said
        shutil.rmtree(place)
        there = list(power.states(whole, str(place)))
        chosen = there
        if states:
            chosen = random.Random(seed).sample(there, min(states, len(there)))
        wrong, began = [], time.monotonic()
        for first in range(0, len(chosen), 40):
            some = chosen[first : first + 40]
            code, bad, said = apart(lambda some=some: look_at(life, place, some))
            wrong += [f"ended with {code}: {said}"] if bad is None else bad
        return {
            "operations": sum(it[0] != "ack" for it in whole),
            "states": len(there),
            "run": len(chosen),
            "wrong": wrong,
            "seconds": time.monotonic() - began,
        }


def look_at(life: str, place: Path, some: list[power.State]) -> list[str]:
    wrong = []
    for state in some:
        shutil.rmtree(place, ignore_errors=True)
        power.lay_down(state, place)
        found = tried(lambda state=state: wrong_with(life, place, state.said))
        if not found:
            found = tried(lambda: (LIVES[life](place), complete(life, place))[1])
            found = [f"afterwards: {it}" for it in found]
        wrong += [f"{life}, {state.what}: {it}" for it in found]
    return wrong


def tried(look: Callable[[], list[str]]) -> list[str]:
    try:
        return look()
    except (Exception, SystemExit):
        return [traceback.format_exc()]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory, where there is such a thing: what a sync takes is not what is asked."""
    memory = Path("/dev/shm")
    there = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=there, prefix="sweeper-disk-") as folder:
        yield Path(folder)


def main(what: str, life: str, *numbers: str) -> None:
    sys.modules.setdefault("life", sys.modules["__main__"])  # As the trainer is named.
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):
        answer = {"faults": faults, "power": cuts}[what](life, *map(int, numbers))
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
