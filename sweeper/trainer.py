"""A trainer's name in; one iterator of measurements out, whatever kind of trainer it is.

    def train(config, run) -> Iterator[Mapping[str, float]]   the last one is the result
    def train(config) -> Mapping[str, float]                  one; config["seed"] is the seed
    command: [python, train.py, "--lr={lr}", "--seed={seed}"] each stdout line that is a JSON
                                                              object is one

A trainer needs no base class and no import of this package. Two names in a measurement are
reserved: `cost/updates`, the parameter updates so far, and `progress`, the share of training
that is done, in (0, 1]: from it is known what the rest will take (elsewhere it says nothing;
it is no part of a result). At 1 nothing is left but scoring.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import importlib
import importlib.metadata
import inspect
import json
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from itertools import takewhile
from numbers import Real
from pathlib import Path
from typing import Any

from sweeper.errors import TrainerError, unknown
from sweeper.record import COST, PROGRESS
from sweeper.trial import TrainerRef, flatten

ENTRY_POINTS = "sweeper.trainers"
CONTRACT = (
    "a trainer is train(config, run) yielding mappings of names to numbers, train(config) "
    "returning one such mapping, or a command that prints them as JSON objects, one a line"
)
PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.-]*)\}")
SCRIPT = re.compile(r"[^-{\s][^{\s]*\.(py|sh|R|jl|js|pl|rb|lua)")
TERMINATE_SECONDS = 10  # what a command has between SIGTERM and SIGKILL
STDERR_LINES = 5  # how many last lines of a failed command its error quotes


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a trainer may know of its surroundings. `folder` is its own and survives a
    killed attempt: a trainer that keeps a checkpoint there continues from it. Files under
    `folder / "artifacts"` are tracked. `cpus` is the number of threads it may use,
    `device` "cpu" or "cuda", `data` the folder that holds corpora, if one is known.
    `score_only`: train nothing: score what training has left in `folder`; a trainer that
    cannot raises."""

    seed: int
    folder: Path
    device: str = "cpu"
    cpus: int = 1
    data: Path | None = None
    score_only: bool = False


def measurements(
    trainer: TrainerRef,
    config: Mapping[str, Any],
    run: Run,
    on_start: Callable[[int], None] = lambda pid: None,
) -> Iterator[Mapping[str, float]]:
    """Every measurement as plain floats, the contract checked on each; the last is the
    result. Closing the iterator ends the trainer: its `finally` runs, a command is terminated.

    A function is imported by this call, and called when the first measurement is asked
    for: in between, generators can be seeded that came with the import.

    The reserved cost is carried on: a measurement that leaves it out stands at the cost of
    the one before. A trainer that never counts it is left without. `on_start` is told the
    process of a command."""
    name = described(trainer)
    if trainer.command is not None:
        raw = command_measurements(trainer, config, run, on_start)
    else:
        raw = function_measurements(load(trainer.function), name, config, run)
    return checked(raw, name)


def checked(raw: Iterator[Any], name: str) -> Iterator[Mapping[str, float]]:
    cost = None
    with contextlib.closing(raw):
        for measurement in raw:
            values = plain(measurement, name)
            if cost is not None:
                values.setdefault(COST, cost)
                if values[COST] < cost:
                    raise broken(name, f"{COST} went down, from {cost:g} to {values[COST]:g}")
            cost = values.get(COST)
            yield values


def check(trainer: TrainerRef, config: Mapping[str, Any] | None = None) -> None:
    """Raises TrainerError if the trainer cannot be found, without importing it. With a
    `config`, a command's placeholders are checked too."""
    if trainer.command is not None:
        check_command(trainer)
        if config is not None:
            filled(trainer.command, config, Run(seed=0, folder=Path(), data=Path()))
    elif ":" in trainer.function:
        check_function(trainer.function)
    else:
        point = entry_point(trainer.function)
        check_function(f"{point.module}:{point.attr}")


def described(trainer: TrainerRef) -> str:
    return trainer.function if trainer.function is not None else " ".join(trainer.command)


def broken(name: str, what: str) -> TrainerError:
    return TrainerError(f"trainer {name}: {what}; {CONTRACT}")


def plain(measurement: Any, name: str) -> dict[str, float]:
    if not isinstance(measurement, Mapping) or not measurement:
        raise broken(name, f"{measurement!r:.80} is no mapping of names to numbers")
    values = {}
    for key, value in measurement.items():
        # An array of no dimensions (numpy, torch) is a number under another name.
        number = isinstance(value, Real) or getattr(value, "shape", None) == ()
        if not isinstance(key, str) or not number:
            raise broken(name, f"{key!r} is {value!r:.80}, which is no number")
        values[key] = float(value)
    return values


# --- functions ---------------------------------------------------------------------------


def function_measurements(
    train: Callable[..., Any], name: str, config: Mapping[str, Any], run: Run
) -> Iterator[Any]:
    told = takes_run(train)
    if run.score_only and not told:
        raise TrainerError(
            f"trainer {name}: train(config) trains; only train(config, run) can score"
        )
    came = train(config, run) if told else train({**config, "seed": run.seed})
    if isinstance(came, Mapping):
        yield {PROGRESS: 1.0, **came} if came else came
    elif isinstance(came, Iterable) and not isinstance(came, str | bytes):
        empty = True
        try:
            for measurement in came:
                empty = False
                yield measurement
        finally:
            if hasattr(came, "close"):
                came.close()
        if empty:
            raise broken(name, "it yielded no measurement")
    else:
        raise broken(name, f"it returned {came!r:.80}")


def takes_run(train: Callable[..., Any]) -> bool:
    """Whether it wants (config, run): a second positional parameter without a default, or
    one that is called `run`."""
    try:
        parameters = list(inspect.signature(train).parameters.values())
    except (TypeError, ValueError):  # a callable that does not say: the full form
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.name == "run" or p.default is p.empty for p in positional[1:])


def load(function: str) -> Callable[..., Any]:
    """ "pkg.module:name" or the name of an entry point -> the function."""
    if ":" not in function:
        return entry_point(function).load()
    module_name, _, attributes = function.partition(":")
    found: Any = importlib.import_module(module_name)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            functions = public(name for name, thing in vars(found).items() if callable(thing))
            raise TrainerError(unknown(f"function in {module_name}", attribute, functions))
        found = getattr(found, attribute)
    return found


def entry_point(name: str) -> importlib.metadata.EntryPoint:
    points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name in points:
        return points[name]
    if points:
        raise TrainerError(unknown("trainer", name, points))
    raise TrainerError(f"unknown trainer {name!r}; write it as 'package.module:function'")


def check_function(function: str) -> None:
    module_name, _, attributes = function.partition(":")
    tree = source_tree(module_spec(module_name))
    wanted = attributes.partition(".")[0]
    if tree is not None and not {wanted, "*", "__getattr__"} & set(bound_names(tree)):
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        raise TrainerError(unknown(f"function in {module_name}", wanted, public(functions)))


def module_spec(module_name: str) -> ModuleSpec:
    """Where a module is, found part by part without importing its packages."""
    where, spec = None, None
    parts = module_name.split(".")
    for depth, part in enumerate(parts, start=1):
        so_far = ".".join(parts[:depth])
        specs = (finder.find_spec(so_far, where) for finder in sys.meta_path)
        spec = next(filter(None, specs), None)
        if spec is None:
            near = get_close_matches(part, [m.name for m in pkgutil.iter_modules(where)], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TrainerError(f"trainer module {module_name!r}: there is no {so_far!r}{hint}")
        where = spec.submodule_search_locations or ()
    return spec


def source_tree(spec: ModuleSpec) -> ast.Module | None:
    """None where there is no source to read."""
    if not spec.origin or not spec.origin.endswith(".py"):
        return None
    try:
        return ast.parse(Path(spec.origin).read_bytes())
    except SyntaxError as wrong:
        raise TrainerError(f"{spec.origin}:{wrong.lineno}: {wrong.msg}") from None


def bound_names(node: ast.AST) -> Iterator[str]:
    """The names that a module's own statements bind, those under `if` and `try` too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name
            continue
        if isinstance(child, ast.alias):
            yield (child.asname or child.name).partition(".")[0]
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        yield from bound_names(child)


def public(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("_")]


# --- commands ----------------------------------------------------------------------------


def located(trainer: TrainerRef) -> tuple[str, ...]:
    """The command as it is run from any folder: what is a file beside the sweep file, by its
    whole path. Other words stay, and paths among them are relative to where we stand."""
    return tuple(beside(word, trainer.folder) for word in trainer.command)


def beside(word: str, folder: str | None) -> str:
    """ "own/train.py" -> "/sweeps/own/train.py", "--config=own/a.json" likewise, where there
    is such a file. A bare `python` is a program of the search path, whatever lies beside."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if folder is None or not ("/" in value or "." in value):
        return word
    path = os.path.join(folder, value)
    return f"{option}{equals}{path}" if os.path.isfile(path) else word


def check_command(trainer: TrainerRef) -> None:
    program, *words = located(trainer)
    if shutil.which(program, path=search_path()) is None:
        raise TrainerError(f"trainer: there is no program {program!r} to run")
    words = takewhile(lambda word: word not in ("-m", "-c"), words)
    script = next(filter(SCRIPT.fullmatch, words), None)
    if script is None or os.path.isfile(script):  # Path.is_file raises where a name is too long.
        return
    folder = Path(trainer.folder or "", script).parent
    scripts = [path.name for path in folder.glob(f"*{Path(script).suffix}")]
    near = get_close_matches(Path(script).name, scripts, n=1)
    hint = f"; did you mean {str(Path(script).with_name(near[0]))!r}?" if near else ""
    raise TrainerError(f"trainer {program}: there is no file {script!r} to run{hint}")


def command_measurements(
    trainer: TrainerRef,
    config: Mapping[str, Any],
    run: Run,
    on_start: Callable[[int], None],
) -> Iterator[Any]:
    """The JSON objects that a command prints. Its other output goes to this process's
    stdout and stderr, which a worker points at the trial's log."""
    command = trainer.command
    if run.score_only and "{score_only}" not in " ".join(command):
        raise TrainerError(f"{command[0]} trains; a command that can score takes {{score_only}}")
    words = zip(command, located(trainer), filled(command, config, run), strict=True)
    process = start([said if path == word else path for word, path, said in words], run)
    on_start(process.pid)
    last_lines: deque[str] = deque(maxlen=STDERR_LINES)
    reader = threading.Thread(target=copy_lines, args=(process.stderr, last_lines), daemon=True)
    reader.start()
    empty = True
    try:
        for line in process.stdout:
            measurement = as_object(line)
            if measurement is None:
                sys.stdout.write(line)
            else:
                empty = False
                yield measurement
        code = process.wait()
        reader.join(timeout=1)
    finally:
        terminate(process)
        reader.join(timeout=1)
        process.stdout.close()
        process.stderr.close()
    if code != 0:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        raise TrainerError(": ".join([f"{command[0]} {how}", " | ".join(last_lines)]).rstrip(": "))
    if empty:
        raise broken(" ".join(command), "it printed no JSON object")


def filled(command: tuple[str, ...], config: Mapping[str, Any], run: Run) -> list[str]:
    """The command with its placeholders replaced: {dotted.key} of the configuration, else
    {seed}, {folder}, {data}, {device}, {cpus}, {score_only}. No format language: a brace that holds
    anything but a name stays as it is."""
    known = {"seed": run.seed, "folder": str(run.folder), "device": run.device, "cpus": run.cpus}
    known |= {} if run.data is None else {"data": str(run.data)}
    known |= {"score_only": run.score_only}
    known |= flatten(config)

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise TrainerError(f"trainer {command[0]}: " + unknown("placeholder", match[1], known))
        value = known[match[1]]
        return value if isinstance(value, str) else json.dumps(value)

    return [PLACEHOLDER.sub(value_of, part) for part in command]


def start(arguments: list[str], run: Run) -> subprocess.Popen[str]:
    given = {"PATH": search_path(), "PYTHONUNBUFFERED": "1"}
    given |= {} if run.data is None else {"SWEEPER_DATA": str(run.data)}
    program = shutil.which(arguments[0], path=given["PATH"]) or arguments[0]
    try:
        return subprocess.Popen(
            [program, *arguments[1:]],
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for the sweep; a command is ended by `terminate`.
            preexec_fn=die_with_parent(),
        )
    except OSError as wrong:
        raise TrainerError(f"cannot start {arguments[0]}: {wrong.strerror}") from None


def search_path() -> str:
    """`python` in a command is the one that runs this, in an unactivated environment too."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def die_with_parent() -> Callable[[], Any] | None:
    """A worker killed by SIGKILL runs no `finally`: on Linux the kernel ends its command, so
    that no orphan writes beside the next attempt (prctl(2), PR_SET_PDEATHSIG = 1)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # Looked up here: nothing may be loaded after the fork.
    return lambda: prctl(1, signal.SIGKILL)


def copy_lines(stream: Iterable[str], last_lines: deque[str]) -> None:
    with contextlib.suppress(ValueError):  # closed under us after a command was terminated
        for line in stream:
            last_lines.append(line.strip())
            sys.stderr.write(line)


def as_object(line: str) -> dict[str, Any] | None:
    """NaN and Infinity are read as Python prints them; the worker calls them divergence."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def terminate(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
