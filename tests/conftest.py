"""Options of the whole suite, and the matrix of faults that is printed at its end."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

WORST = ("failed", "skipped", "passed")  # What is said of a fault that several tests inject.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="fault tests in full numbers (hours)")
    parser.addoption("--seed", type=int, default=20261130, help="of the random faults")
    parser.addoption("--matrix", action="store_true", help="print the matrix of faults")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # What a shell has in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[SEEN] = defaultdict(dict)


SEEN = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = (yield).get_result()
    came = report.outcome if report.when == "call" or report.outcome != "passed" else None
    if came is None:
        return
    for mark in item.iter_markers("fault"):
        for fault in mark.args:
            there = item.config.stash[SEEN][fault]
            name = item.nodeid.partition("[")[0].rpartition("/")[2]
            there[name] = min(came, there.get(name, came), key=WORST.index)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    seen = config.stash[SEEN]
    if not (config.getoption("--matrix") or len(seen) >= 60):
        return
    faults = known_faults()
    counts: dict[str, int] = defaultdict(int)
    terminalreporter.section("faults")
    for name, fault in faults.items():
        tests = seen.get(name, {})
        came = min(tests.values(), key=WORST.index, default="not run")
        if came == "skipped" and "passed" in tests.values():
            came = "passed"
        counts[came] += 1
        many = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
        by = next(iter(tests), "")
        said = f"{name:<4}{fault.severity:<4}{fault.what:<50} {fault.handled:<52} {came:<8}"
        terminalreporter.write_line(f"{said}{by}{many}")
    told = ", ".join(f"{number} {came}" for came, number in sorted(counts.items()))
    terminalreporter.write_line(f"{len(faults)} faults: {told}")


def known_faults():
    path = Path(__file__).parent / "reliability" / "faults.py"
    spec = importlib.util.spec_from_file_location("faults", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("faults", module)  # Dataclasses look their module up.
    spec.loader.exec_module(module)
    return module.FAULTS


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the fault tests are to run in full numbers."""
    return request.config.getoption("--full")


@pytest.fixture(scope="session")
def fault_seed(request: pytest.FixtureRequest) -> int:
    """Of what is drawn at random; a test prints it."""
    return request.config.getoption("--seed")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line of counts also where output is captured."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return line
