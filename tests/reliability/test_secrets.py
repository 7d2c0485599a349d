"""Secrets planted wherever a run can meet one; none of them is anywhere in what it leaves."""

from __future__ import annotations

import base64
import json
import os
import random
import string
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from sweeper import redaction
from sweeper.errors import EnvironmentFault, SpecError
from sweeper.spec import parse

ROOT = Path(__file__).parents[2]
SECONDS = 240
PLACES = ("stdout", "stderr", "error", "command out", "command error")
NAMED = ("PASSWORD", "TOKEN", "API_KEY")  # ends of variables whose values are secret

TRAINER = """
import json, logging, os, sys
from pathlib import Path

def planted(place):
    there = json.loads((Path(__file__).parent / "planted.json").read_text())[place]
    return [os.environ[it[4:]] if it.startswith("env:") else it for it in there]

def tell(place, secrets, out):
    for number, secret in enumerate(secrets):
        print(f"update {number}: signed in with", secret, "and went on", file=out)
        print("in pieces: ", end="", file=out)
        print(secret, end="", file=out)
        print(f" password={secret} https://me:{secret}@host/x", file=out)
    if hasattr(out, "buffer"):
        out.buffer.write((secrets[0] + " in bytes\\n").encode())
    logging.basicConfig(stream=out, force=True)
    logging.getLogger(place).warning("logged %s", secrets[1])

def train(config, run):
    secrets = planted(config["place"]) + [config["session"]]
    if config["place"] == "error":
        raise RuntimeError(f"no access with {secrets!r} as {secrets[0]}")
    tell(config["place"], secrets, sys.stderr if config["place"] == "stderr" else sys.stdout)
    yield {"cost/updates": 1, "loss": 1.0 + run.seed}
    yield {"cost/updates": 2, "loss": 0.5 + run.seed}

if __name__ == "__main__":
    place, argument = sys.argv[1:]
    secrets = planted(place) + [argument]
    tell(place, secrets, sys.stderr if place == "command error" else sys.stdout)
    print(json.dumps({"cost/updates": 1, "loss": 1.0}))
    if place == "command error":
        print("no access with", *secrets[-5:], file=sys.stderr)
        print("nor with", *secrets[:-5], file=sys.stderr)
        sys.exit(3)
"""
SWEEP = """
name: secrets
trainer: {function: "leaky:train"}
base: {session: "env:STUDIO", steps: 2}
axes:
  where:
    stdout: {place: stdout}
    stderr: {place: stderr}
    error: {place: error}
    command:
      trainer: {command: [python, leaky.py, "{place}", "{session}"]}
      set: {place: command out}
    lost:
      trainer: {command: [python, leaky.py, "{place}", "{session}"]}
      set: {place: command error}
metrics: {loss: {from: loss, goal: min}}
profiles: {quick: {}}
tables: {losses: {rows: where, values: [loss], write: [md, csv, tex, html]}}
figures: {course: {kind: curves, y: [loss], series: where, write: [png, pdf]}}
claims: {low: {test: "loss[stdout] < loss[stderr]"}}
"""


def shapes(dice: random.Random) -> dict[str, str]:
    """A secret of each kind that is known by how it looks; and what of it must not be found."""

    def letters(count: int, of: str = string.ascii_letters + string.digits) -> str:
        return "".join(dice.choices(of, k=count - 4)) + "q7Qz"

    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    return {
        "aws": f"AKIA{letters(16, string.ascii_uppercase)}".upper(),
        "github": f"ghp_{letters(36)}",
        "openai": f"sk-proj-{letters(40)}",
        "jwt": f"{header}.eyJ{letters(30)}.{letters(30)}",
        "slack": f"xoxb-{letters(24)}",
        "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{letters(60)}\n-----END RSA PRIVATE KEY-----",
    }


def body(secret: str) -> str:
    """What of a secret would be found: the key between the lines of its frame."""
    return secret.splitlines()[1] if "\n" in secret else secret


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "leaky.py").write_text(TRAINER)
    (tmp_path / "s.yaml").write_text(SWEEP)
    return tmp_path


def sweeper(desk: Path, environment: dict[str, str], *words: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "sweeper", *words],
        cwd=desk,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(desk),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{desk}",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("by", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_what_is_planted_is_found_nowhere(
    by: str, desk: Path, full: bool, fault_seed: int, say
) -> None:
    dice = random.Random(fault_seed)
    planted: dict[str, list[str]] = {}
    environment: dict[str, str] = {}
    secrets: list[str] = []
    for place in PLACES:
        own = shapes(dice)
        for end in NAMED:
            name = f"{place.upper().replace(' ', '_')}_{end}"
            environment[name] = f"{end.lower()} of {place} {dice.getrandbits(60):x}"
            own[end] = f"env:{name}"
        planted[place] = list(own.values())
        secrets += [environment[it[4:]] if it.startswith("env:") else it for it in own.values()]
    # One that the configuration names, through a variable whose name says nothing.
    environment["STUDIO"] = f"studio{dice.getrandbits(60):x}"
    passwords = [f"in tracking {n} {dice.getrandbits(60):x}".replace(" ", "") for n in range(4)]
    secrets += [environment["STUDIO"], *passwords]
    (desk / "planted.json").write_text(json.dumps(planted))

    console = ""
    tracking = f"http://me:{passwords[0]}@127.0.0.1:1/?key={passwords[1]}"
    there = ("--tracking", tracking)

    def told(*words: str) -> str:
        code, said = sweeper(desk, environment, *words)
        assert words[0] == "logs" or "Traceback" not in said, said
        assert code in (0, 1) or words[0] in ("sync", "doctor"), (words, code, said)
        return said

    # First with MLflow in the store, then with one that does not answer and has a password.
    trains = [
        ("plan", "s.yaml"),
        ("run", "s.yaml", "--dispatch", by),
        ("run", "s.yaml", "--dispatch", by, "--retry", "failed", "--offline", *there),
        ("sync", "s.yaml", *there),
        ("doctor", "s.yaml", "--tracking", f"postgresql://me:{passwords[2]}@127.0.0.1:1/x"),
    ]
    reads = [
        ("table", "s.yaml", "--source", "mlflow"),
        *(("table", "s.yaml", "--format", style) for style in ("csv", "html", "md", "tex", "json")),
        ("figure", "s.yaml"),
        ("claims", "s.yaml", "--json"),
        ("report", "s.yaml"),
        ("status", "s.yaml", "--json"),
        ("plan", "s.yaml", "--json"),
        ("logs", "s.yaml"),
        ("ui", "--tracking", f"https://me:{passwords[3]}@127.0.0.1:1/x"),
    ]
    for words in trains:
        console += told(*words)
    trials = [path.name for path in (desk / "runs" / "trials").iterdir()]
    assert len(trials) == len(PLACES)
    reads += [("why", "s.yaml", trial) for trial in trials]
    if by == "ray" and not full:  # What reads does not care who has trained.
        reads = [words for words in reads if words[0] in ("logs", "report", "why")]
    with ThreadPoolExecutor(4) as pool:
        console += "".join(pool.map(lambda words: told(*words), reads))
    assert "env:STUDIO" in console, "the name of the variable is shown"

    logs = [path.read_text() for path in (desk / "runs" / "trials").glob("*/log.txt")]
    assert len(logs) == len(PLACES)
    assert sum(log.count(redaction.HIDDEN) for log in logs) > len(secrets), "it was printed"
    assert all("and went on" in log or "no access with" in log for log in logs)

    files = [path for path in (desk / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in files)
    assert any(path.name == "report.html" for path in files)
    places = {str(path): path.read_bytes() for path in files} | {"console": console.encode()}
    found = [
        (secret, place)
        for secret in secrets
        for place, content in places.items()
        if body(secret).encode() in content
    ]
    say(
        f"{len(secrets)} planted, {len({secret for secret, _ in found})} found "
        f"({by}, {len(places)} files and outputs, seed {fault_seed})"
    )
    assert len(secrets) >= 50
    assert not found, found[:5]


# ---- what a file may hold

HEAD = 'name: s\ntrainer: {function: "a.b:c"}\nprofiles: {quick: {}}\n'
DICE = shapes(random.Random(1))

LITERAL = {
    "password": "base: {db: {password: hunter2}}",
    "api key": "base: {api_key: abc}",
    "apiKey": "base: {apiKey: abc}",
    "secret": "base: {client_secret: x y}",
    "access key": "base: {aws_secret_access_key: abc}",
    "token": f"base: {{hub_token: {DICE['github'][4:]}}}",
    "opaque": "base: {token: a8Sd9f8s7Df6g5}",
    "in a level": "axes: {a: {x: {password: hunter2}}}",
    "plain axis": "axes: {password: [hunter2, hunter3]}",
    "other profile": "profiles: {quick: {}, p: {set: {password: hunter2}}}",
    "include": "axes: {a: [1]}\ninclude: [{a: 2, set: {password: hunter2}}]",
    "command": "trainer: {command: [python, a.py, --password=hunter2]}",
    "command, apart": "trainer: {command: [python, a.py, --api-key, hunter2]}",
    **{f"shape {kind}": f"base: {{x: {value!r}}}" for kind, value in DICE.items() if kind != "pem"},
    "shape in a list": f"base: {{x: [a, {DICE['aws']}]}}",
    "shape in a url": 'base: {x: "postgresql://me:hunter2@db/runs"}',
    "shape in words": f"description: with {DICE['openai']}",
    "pem": "base:\n  x: |\n    -----BEGIN PRIVATE KEY-----\n    hunter2\n",
}


@pytest.mark.parametrize("text", LITERAL.values(), ids=LITERAL)
def test_a_file_with_a_secret_is_refused_at_its_place(text: str) -> None:
    head = "".join(
        line for line in HEAD.splitlines(True) if line.partition(":")[0] not in text.split(":")
    )
    with pytest.raises(SpecError) as caught:
        parse(head + text, "s.yaml")
    said = str(caught.value)
    assert said.startswith("s.yaml:"), said
    assert "write env:NAME and put it into that variable" in said
    shown = [line for line in said.splitlines() if "hunter2" in line or DICE["aws"] in line]
    assert not shown, said
    assert caught.value.exit_code == 2


def test_the_command_line_may_not_hold_one_either() -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"{HEAD}base: {{x: 1}}", "s.yaml", overrides=["api_key=hunter2"])
    assert str(caught.value).startswith("--set api_key: 'api_key' is a secret; write env:NAME")


ORDINARY = """
attention: bahdanau
author: Zhao1234567890
auth: basic
cipher: {key: abc, keys: [a1b2c3d4e5f6g7, b]}
credentials: conf/service.json
eos_token: "<|endoftext|>"
first_pass: greedy
max_tokens: 100abc200def300
model: sk-learn-pipeline-of-ours
pad_token: "<pad>"
pass: warmup_1000_steps
passes: [forward, backward]
password: env:DB_PASSWORD
secret_sharing: shamir
secretary: ann
token: cl100k_base
token_dropout: 0.1
token_level: true
tokens: vocab/tokens.20k.v2
unk_token: _UNK
url: "https://host:5000/runs?q=1"
vocab: {tokens: 20000, special_tokens: [a8Sd9f8s7Df6g5h4]}
"""


def test_ordinary_settings_are_no_secrets() -> None:
    base = "".join(f"  {line}\n" for line in ORDINARY.strip().splitlines())
    sweep = parse(f"{HEAD}base:\n{base}", "s.yaml")
    assert sweep.base["password"].value == "env:DB_PASSWORD"


def test_shipped_sweeps_hold_none() -> None:
    for path in (ROOT / "sweeps").rglob("*.yaml"):
        for line in path.read_text().splitlines():
            key, _, value = line.strip().partition(": ")
            assert not redaction.is_secret(key, value.strip()), (path, line)


# ---- what a trainer is given


def test_a_trainer_is_given_the_value_and_the_id_is_of_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUDIO", "one")
    config = {"a": ["env:STUDIO", 1], "b": {"c": "env:STUDIO"}, "d": "env:", "e": "x env:STUDIO"}
    given = redaction.resolved(config)
    assert given == {"a": ["one", 1], "b": {"c": "one"}, "d": "env:", "e": "x env:STUDIO"}
    monkeypatch.delenv("STUDIO")
    with pytest.raises(EnvironmentFault, match="the variable STUDIO is not set"):
        redaction.resolved(config)


def test_a_variable_that_is_not_set_is_told_before_the_first_trial(desk: Path) -> None:
    code, said = sweeper(desk, {}, "plan", "s.yaml")
    assert (code, "env:STUDIO: the variable STUDIO is not set here" in said) == (0, True), said
    for verb in ("run", "eval"):
        code, said = sweeper(desk, {}, verb, "s.yaml", "--dispatch", "inline")
        assert code == 3, said
        assert "env:STUDIO: the variable STUDIO is not set" in said
    assert not list(desk.glob("runs/trials/*"))


# ---- how it is hidden


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:pw@host:5000/x?token=t", "https://host:5000/x"),
        ("https://t0ken@host/x", "https://host/x"),
        ("postgresql+psycopg2://me:p%40w@db/runs", "postgresql+psycopg2://db/runs"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("sqlite:///a/b.db?timeout=3", "sqlite:///a/b.db"),
        ("http://[half", "http://[half"),
        ("file:///a b", "file:///a b"),
    ],
)
def test_an_address_without_its_secrets(uri: str, shown: str) -> None:
    assert redaction.without_secrets(uri) == shown


def test_what_was_in_an_address_is_a_secret_from_then_on() -> None:
    redaction.without_secrets("postgresql://me:p%40ssw0rd@db/runs")
    assert redaction.conceal("role me, p@ssw0rd or p%40ssw0rd") == "role me, *** or ***"


def test_a_value_is_hidden_however_it_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", 'a"b\tc\\d/ü1')
    value = os.environ["MY_PASSWORD"]
    for way in (value, repr(value), json.dumps(value), quote(value, safe="")):
        said = redaction.conceal(f"<{way}>")
        assert "ü1" not in said, said
        assert "C3%BC1" not in said, said
        assert "***" in said


def test_a_long_value_that_a_message_cuts_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "".join(random.Random(3).choices(string.ascii_lowercase, k=90))
    monkeypatch.setenv("LONG_TOKEN", value)
    assert redaction.conceal(f"bad token {value[:60]}... refused") == "bad token *** refused"


def test_short_values_and_folders_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "word")
    monkeypatch.setenv("PWD", "/home/me/project")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/ssh-agent")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "enabled")
    said = "a word in /home/me/project by /tmp/ssh-agent, enabled"
    assert redaction.conceal(said) == said


def test_a_stream_hides_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "abcdef123456")
    path = tmp_path / "log.txt"
    path.write_text("before\n")
    with redaction.concealing(path) as log:
        print("one abc", end="", file=log)
        print("def123456 two", file=log)
        print("half", end="", flush=True, file=log)
        assert path.read_text() == "before\none *** two\nhalf"
        log.buffer.write(b"\xff abcdef123456\n")
        print("-----BEGIN PRIVATE KEY-----", file=log)
        print("abc", file=log)
        print("-----END PRIVATE KEY-----", file=log)
        monkeypatch.setenv("LATER", "ghijkl")
        redaction.variable("LATER")
        print("now ghijkl", file=log)
    assert path.read_bytes().splitlines()[2:] == [b"half\xff ***", b"***", b"now ***"]


def test_a_traceback_of_ours_is_without_them() -> None:
    code = (
        "import os, sys; from sweeper.redaction import print_concealed\n"
        "sys.excepthook = print_concealed\n"
        "raise RuntimeError(os.environ['MY_TOKEN'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"MY_TOKEN": "abcdef123456", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "RuntimeError: ***" in ran.stderr
    assert "abcdef123456" not in ran.stderr
