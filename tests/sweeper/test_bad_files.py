"""Sweep files that are wrong: what `sweeper plan` says of each, how it ends, and what it costs.

bad/<name>.yaml is wrong in the way of its name; bad/<name>.txt is what is said of it on stderr.
bad/parts/ is what some of them import. What git or an editor would mangle is written here.
SWEEPER_WRITE_BAD=1 writes what is said into bad/ anew, to be read in the difference.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.spec.problems import UNSHOWN

ROOT = Path(__file__).parents[2]
BAD = Path(__file__).parent / "bad"
FILES = sorted(BAD.glob("*.yaml"))
HEAD = b"name: t\ntrainer: a.b:c\nprofiles: {quick: {}}\n"

SECONDS, MEGABYTES = 2, 300  # of the processor for a file, of memory for all of them

UNFIT = {  # Data is missing: the surroundings are not fit, the file may be right.
    "config_corpus_outside", "config_corpus_unknown", "data_root_missing", "data_root_of_nobody",
}  # fmt: skip

# name -> what is in the file, what is said of it
MADE = {
    "not_utf8": (HEAD + b"description: caf\xe9\n", "4:17: byte 0xe9 is not UTF-8; save the file "
        "as UTF-8"),
    "utf8_cut_short": (HEAD + b"description: caf\xc3", "4:17: byte 0xc3 is not UTF-8; save the "
        "file as UTF-8"),
    "surrogate_in_utf8": (HEAD + b"description: \xed\xa0\x80\n", "4:14: byte 0xed is not UTF-8; "
        "save the file as UTF-8"),
    "utf16": (HEAD.decode().encode("utf-16"), "1:1: the file is UTF-16; save it as UTF-8"),
    "utf16_big": (b"\xfe\xff" + HEAD.decode().encode("utf-16-be"), "1:1: the file is UTF-16; save "
        "it as UTF-8"),
    "utf16_unmarked": (HEAD.decode().encode("utf-16-le"), "1:2: character U+0000 cannot stand in "
        "a sweep file"),
    "nul": (HEAD + b"description: a\0b\n", "4:15: character U+0000 cannot stand in a sweep file"),
    "escape_character": (HEAD + b"description: \x1b[31m\n", "4:14: character U+001B cannot stand "
        "in a sweep file"),
    "byte_order_mark": (b"\xef\xbb\xbf" + HEAD + b"axis: {}\n", "4:1: unknown key 'axis'; "),
    "mark_twice": (b"\xef\xbb\xbf\xef\xbb\xbf\xef\xbb\xbf" + HEAD, "1:1: character U+FEFF cannot "
        "stand in a sweep file"),
    "ends_of_windows": (HEAD.replace(b"\n", b"\r\n") + b"axis: {}\r\n", "4:1: unknown key 'axis'"),
    "ends_of_old_macs": (HEAD.replace(b"\n", b"\r") + b"axis: {}\r", "4:1: unknown key 'axis'; "),
    "list_of_200000_items": (HEAD + b"axes: {x: [" + b"0," * 199_999 + b"0]}\n", "4:14: 0 is in "
        "axis 'x' twice; the first is at "),
    "list_of_200000_numbers": (HEAD + b"axes: {x: [%b]}\n"
        % b",".join(b"%d" % n for n in range(200_000)), "1:1: the file is larger than 1,000,000 "
        "bytes"),
    "larger_than_a_megabyte": (HEAD + b"#" * 1_000_000, "1:1: the file is larger than 1,000,000 "
        "bytes"),
    "zeros": (bytes(1000), "1:1: character U+0000 cannot stand in a sweep file"),
    "a_picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "1:1: byte 0x89 is not UTF-8; save the "
        "file as UTF-8"),
    "aliases_that_laugh": (HEAD + b"a0: &a0 [x]\n" + b"".join(
        b"a%d: &a%d [%b*a%d]\n" % (n, n, b"*a%d," % (n - 1) * 9, n - 1) for n in range(1, 9)),
        "4:5: anchors (&) and aliases (*) are not read; use import, base or profiles"),
    "matches_of_many_values": (HEAD + b"axes: {x: [%b]}\nexclude: [{x: [%b]}]\n"
        % ((b",".join(b"w%d" % n for n in range(30_000)),) * 2), "5:12: exclude: a match has at "
        "most 50 keys, and 1,000 values of each"),
    "space_of_a_long_chain": (HEAD + b"search: {trials: 1, objectives: [{metric: valid/a, goal: "
        b"min}], space: {%b}}\n" % b", ".join(b"k%d: {int: [0, 1], when: 'k%d == 1'}" % (n, n + 1)
        for n in range(3000)), "4:72: search.space has 3,000 entries; at most 200"),
}  # fmt: skip

RUN = """
import contextlib, io, json, sys, time
from sweeper.cli import main
found = {}
for path in json.load(sys.stdin):
    arguments = ["plan", path, "--store", sys.argv[1]]
    said, start = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(arguments, prog_name="sweeper")
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = repr(error)
    # Not ru_maxrss: a process inherits that of the one that started it.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    found[path] = [code, said.getvalue(), time.process_time() - start, peak]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """path -> exit code, stderr, seconds of the processor, the peak of memory so far in MB; by
    one process, as a person at the project's root would run it on each. What took long takes
    the least of three processes' times, for a machine may be busy."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (content, _) in MADE.items():
        (folder / f"{name}.yaml").write_bytes(content)
    paths = [*map(shown, FILES), *(str(folder / f"{name}.yaml") for name in MADE)]
    found = ran(paths, folder / "runs")
    for _ in range(2):
        slow = [path for path, (_, _, seconds, _) in found.items() if seconds >= SECONDS]
        for path, (code, said, seconds, peak) in ran(slow, folder / "runs").items():
            assert (code, said) == found[path][:2]
            least = min(seconds, found[path][2])
            found[path] = (code, said, least, max(peak, found[path][3]))
    return found | {name: found[str(folder / f"{name}.yaml")] for name in MADE}


def ran(paths, store):
    if not paths:
        return {}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SWEEPER_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(store)],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return {path: tuple(outcome) for path, outcome in json.loads(done.stdout).items()}


def shown(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_said(path, outcomes):
    code, said, *_ = outcomes[shown(path)]
    if os.environ.get("SWEEPER_WRITE_BAD"):
        path.with_suffix(".txt").write_text(said)
    assert said == path.with_suffix(".txt").read_text()
    assert code == (3 if path.stem in UNFIT else 2)


@pytest.mark.parametrize("name", MADE)
def test_what_is_said_of_what_no_editor_writes(name, outcomes):
    code, said, *_ = outcomes[name]
    assert said.splitlines()[0].partition(f"{name}.yaml:")[2].startswith(MADE[name][1])
    assert code == 2


def test_each_line_names_a_place_and_is_one_that_can_be_read(outcomes):
    for path, (_, said, *_) in outcomes.items():
        first, *others = said.splitlines()
        if others and others[-1].startswith("all else is right; "):  # Only data is missing.
            others.pop()
        for line in (first, *others):
            assert re.match(r"[^:]+\.yaml:[1-9]\d*:[1-9]\d*: \S", line), (path, line)
            assert len(line) < 1500, path
            assert not UNSHOWN.search(line), path
        assert "Traceback" not in said


def test_each_takes_little_time_and_all_of_them_little_memory(outcomes):
    slow = {path: found[2] for path, found in outcomes.items() if found[2] >= SECONDS}
    assert slow == {}
    assert max(found[3] for found in outcomes.values()) < MEGABYTES


def test_there_are_many_and_each_says_what_is_expected():
    assert len(FILES) >= 170
    assert {path.stem for path in FILES} == {path.stem for path in BAD.glob("*.txt")}
