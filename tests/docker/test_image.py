"""The image, built here and run as compose.yaml runs it. Minutes and gigabytes: by --full
only, as root on Debian with buildah, debootstrap, podman, netavark, runc and catatonit.

The base is of Debian's packages, and the database is a stand-in: neither says anything of the
images that are pulled elsewhere. A folder of an earlier build is used again, unbuilt, where
SWEEPER_IMAGE names it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from stack import Stack

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "docker"
NEEDED = ("buildah", "debootstrap", "podman", "runc", "catatonit")
MOST_MEGABYTES = 2600  # of which torch and its kin are 2000
SWEEP = ("run", "sweeps/own_trainer.yaml")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(full: bool, tmp_path_factory: pytest.TempPathFactory):
    if os.environ.get("SWEEPER_IMAGE"):
        yield Path(os.environ["SWEEPER_IMAGE"])
        return
    if not full:
        pytest.skip("needs --full: builds an image of 2 GB")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing more'}")
    built = tmp_path_factory.mktemp("image")
    try:
        done = subprocess.run([HERE / "build.sh", built], text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        sys.__stdout__.write(f"\n{done.stdout}")
        yield built
    finally:
        shutil.rmtree(built, ignore_errors=True)


@pytest.fixture(scope="module")
def stack(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    # As README.md has them made: the folder is nobody else's, the files are anybody's.
    kept = tmp_path_factory.mktemp("secrets")
    for name in ("ray_token", "postgres_password"):
        (kept / name).write_text(secrets.token_hex(32) + "\n")
        (kept / name).chmod(0o444)
    kept.chmod(0o700)
    corpora = tmp_path_factory.mktemp("corpora")
    corpora.chmod(0o755)
    made = Stack(
        file=FOLDER / "compose.yaml",
        folder=folder,
        images={"": "localhost/sweeper", "postgres": "localhost/postgres"},
        given={
            "SWEEPER_VERSION": "0.1.0",
            "RAY_NODE_CPUS": "2",
            "SECRETS": str(kept),
            "CORPORA": str(corpora),
        },
    )
    made.close()  # what a killed test has left
    try:
        made.prepare()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def services(stack: Stack) -> Stack:
    for name in ("postgres", "mlflow", "ray-head", "ray-node"):
        stack.start(name)
        seconds = stack.wait_until_well(name)
        sys.__stdout__.write(f"\n{name} is well after {seconds:.0f} s")
    return stack


def alone(stack: Stack, *arguments: str, entry: str = "", seconds: float = 600):
    """The image without network or services, its root read-only, with no rights."""
    words = ["run", "--rm", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL"]
    words += ["--security-opt=no-new-privileges", "--no-healthcheck", "--network=none"]
    words += ["--tmpfs=/tmp:size=2g,mode=1777", "--volume=records:/records"]
    words += [f"--entrypoint={entry}"] if entry else []
    return stack.tried(*words, "localhost/sweeper", *arguments, seconds=seconds)


# ---- the image by itself


def test_the_image_is_small_and_has_no_tools(stack, say):
    found = json.loads(stack.podman("image", "inspect", "localhost/sweeper"))[0]
    megabytes = found["Size"] / 1e6
    look = "id -u; for it in gcc cc make git curl pip apt-get; do command -v $it || true; done"
    said = alone(stack, "-c", look, entry="sh")
    uid, *tools = said.stdout.split()
    say(f"image: {megabytes:,.0f} MB, {len(found['RootFS']['Layers'])} layers; tools: {tools}")
    assert megabytes < MOST_MEGABYTES
    assert uid == "10001"
    assert {Path(tool).name for tool in tools} == {"apt-get", "pip"}
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Entrypoint"] == ["sweeper"]


def test_the_image_keeps_nothing_of_how_it_was_built(stack, folder):
    inspected = stack.podman("image", "inspect", "localhost/sweeper")
    history = stack.podman("history", "--no-trunc", "--format={{.CreatedBy}}", "localhost/sweeper")
    configured = (folder / "pip.conf").read_text()
    values = [line.partition(" = ")[2] for line in configured.splitlines() if " = " in line]
    for value in (word for line in values for word in line.split() if "/" in word):
        assert value not in inspected + history
    left = "find / -xdev ( -name pip.conf -o -path /opt/*/constraints.txt -o -path */.cache/pip )"
    assert alone(stack, *left.split()[1:], entry="find").stdout.split() == []


def test_python_has_no_bytecode_to_write(stack):
    """Read-only, what is not compiled, or looks older than its source, is compiled at every
    start. 1: known by a hash that nobody compares."""
    look = """
import importlib.util, pathlib
for name in ("torch", "ray", "mlflow", "scipy", "sweeper", "trainers"):
    kept = pathlib.Path(importlib.util.cache_from_source(importlib.util.find_spec(name).origin))
    print(name, kept.read_bytes()[4])
"""
    said = alone(stack, "-c", look, entry="python3").stdout.split()
    assert said[1::2] == ["1"] * 6, said


def test_doctor_finds_nothing_wrong(stack, say):
    done = alone(stack, "doctor", "sweeps/own_trainer.yaml")
    say(done.stdout + done.stderr)
    assert done.returncode == 0


def test_a_sweep_runs_by_itself_and_again_has_nothing_to_do(stack, say):
    began = time.monotonic()
    done = alone(stack, *SWEEP)  # by a Ray of its own
    say(f"own_trainer alone: {time.monotonic() - began:.0f} s\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Neighbours" in done.stdout
    again = alone(stack, *SWEEP)
    assert "nothing left to do" in again.stdout + again.stderr


# ---- the services


def test_services_have_the_rights_of_the_file(services):
    for name in services.running:
        said = services.podman("exec", name, "cat", "/proc/1/status")
        rights = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
        assert rights["NoNewPrivs"].strip() == "1", name
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            assert int(rights[kind], 16) == 0, (name, kind)
        assert "0" not in rights["Uid"].split(), name
        assert services.tried("exec", name, "touch", "/etc/x").returncode != 0


def test_the_password_is_in_no_argument_and_no_setting(services):
    kept = Path(services.given["SECRETS"])
    for secret in ((kept / name).read_text().strip() for name in os.listdir(kept)):
        for name in services.running:
            assert secret not in json.dumps(services.inspected(name)), name
            assert secret not in services.log(name)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert secret.encode() not in path.read_bytes(), path
            except OSError:
                continue


ASK = """
import http.client, sys
for host in sys.argv[1:]:
    line = http.client.HTTPConnection("mlflow", 5000, timeout=30)
    line.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
    print(line.getresponse().status)
"""


def test_mlflow_answers_to_its_names_and_is_published_on_loopback_only(services):
    """Asked from within the cluster: what a port is published by is the engine's."""
    names = ("mlflow:5000", "localhost:5000", "127.0.0.1:5000")
    strangers = ("evil.com", "10.evil.com", "192.168.evil.com:5000", "mlflow", "10.213.2.11:5000")
    said = services.podman("exec", "ray-node", "python3", "-c", ASK, *names, *strangers).split()
    assert said == ["200"] * len(names) + ["403"] * len(strangers)
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
    here = [line.split()[3] for line in listening.splitlines()]
    assert [place for place in here if place.endswith(":5000")] == ["127.0.0.1:5000"]


def test_no_service_but_mlflow_has_a_way_out(services):
    look = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    for name in ("ray-head", "ray-node"):
        said = services.tried("exec", name, "python3", "-c", look).stderr
        assert "Network is unreachable" in said, (name, said)


def test_ray_asks_for_the_token(services):
    ask = ("exec", "--env=RAY_AUTH_MODE=token", "--env=RAY_AUTH_TOKEN_PATH=")
    for token, right in (("0" * 64, False), (None, True)):
        given = f"--env=RAY_AUTH_TOKEN={token or token_of(services)}"
        done = services.tried(
            *ask, given, "ray-node", "ray", "health-check", "--address=ray-head:6379"
        )
        assert (done.returncode == 0) is right, done.stdout + done.stderr


def token_of(services: Stack) -> str:
    return (Path(services.given["SECRETS"]) / "ray_token").read_text().strip()


def test_a_health_check_fails_where_the_service_is_ill(services):
    check = services.services["ray-node"]["healthcheck"]["test"][1:]
    nowhere = ("exec", "--env=RAY_HEAD=ray-head:6399", "ray-node", *check)
    assert services.tried(*nowhere).returncode != 0
    assert services.tried("exec", "ray-node", *check).returncode == 0
    assert services.tried("exec", "ray-node", "service", "well", "mlflow").returncode != 0


def test_a_sweep_runs_on_the_cluster_and_arrives_in_mlflow(services, say):
    """With the same trials as above, which are there: so in a store of its own."""
    began = time.monotonic()
    cluster = ("--address", "ray-head:6379", "--store", "/records/cluster")
    done = services.run("sweeper", *SWEEP, *cluster, seconds=900)
    say(f"own_trainer on the cluster: {time.monotonic() - began:.0f} s\n{done.stdout[-3000:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    from_mlflow(services, "/records/cluster")


def test_a_sweep_in_one_container_arrives_in_mlflow(services, say):
    began = time.monotonic()
    own = ("--dispatch", "inline", "--store", "/records/inline")
    done = services.run("sweeper", *SWEEP, *own, seconds=900)
    say(f"own_trainer into MLflow and Postgres: {time.monotonic() - began:.0f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "are still to be made" not in done.stderr, done.stderr
    from_mlflow(services, "/records/inline")


def from_mlflow(services: Stack, store: str) -> None:
    """The same tables from the folders and from the server; and the artifacts are there."""
    tables = [
        services.run(
            "sweeper",
            *("table", "sweeps/own_trainer.yaml", "--format", "md"),
            *("--store", store, "--source", source),
            seconds=300,
        )
        for source in ("folder", "mlflow")
    ]
    assert [table.returncode for table in tables] == [0, 0], tables
    assert tables[0].stdout == tables[1].stdout
    assert "Neighbours" in tables[0].stdout
    kept = services.podman("exec", "mlflow", "find", "/artifacts", "-type", "f").split()
    assert any(path.endswith("config.json") for path in kept), kept
