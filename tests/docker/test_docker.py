"""The files of docker/ as they are read: what they promise, and that they are well formed.
What the image does is in test_image.py, which builds it."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "docker"
COMPOSE, DOCKERFILE = FOLDER / "compose.yaml", FOLDER / "Dockerfile"
SHELL = sorted([*FOLDER.glob("*.sh"), *Path(__file__).parent.glob("*.sh")])
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
PINNED = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
SECRET = re.compile("(?i)pass|token|secret|key|credential")

each_service = pytest.mark.parametrize("name", SERVICES)


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with continued lines made one."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(n for n, (word, _) in enumerate(found) if word == "FROM") :]


def tool(name: str) -> str:
    """A program beside this Python, or of the machine."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def told(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=300)
    return "" if done.returncode == 0 else done.stdout + done.stderr or f"{done.returncode}"


# ---- well formed


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_are_what_their_schema_says(file):
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert told(tool("check-jsonschema"), *schema, str(FOLDER / file)) == ""


def test_hadolint_finds_nothing_in_the_dockerfile():
    assert told(tool("hadolint"), "--no-color", str(DOCKERFILE)) == ""


@pytest.mark.parametrize("file", SHELL, ids=lambda file: file.name)
def test_shellcheck_finds_nothing(file):
    assert told(tool("shellcheck"), str(file)) == ""


def test_gpus_are_added_to_services_that_are_there():
    more = yaml.safe_load((FOLDER / "compose.gpu.yaml").read_text())
    assert set(more["services"]) <= set(SERVICES)


# ---- each service


@each_service
def test_a_service_has_no_right_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "devices" not in service
    for shared in ("pid", "ipc", "network_mode", "userns_mode", "uts"):
        assert shared not in service
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


@each_service
def test_a_service_has_a_health_check_that_can_fail(name):
    check = SERVICES[name]["healthcheck"]
    assert not check.get("disable")
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "start_period", "retries"} <= set(check)
    if check["test"][1] == "service":
        well = (FOLDER / "service.sh").read_text().partition("  well)")[2]
        assert re.search(rf"^\s+{check['test'][-1]}\)", well, re.MULTILINE)
    else:
        assert check["test"][1] == "pg_isready"


def test_what_a_service_waits_for_is_well():
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, (name, other)
            assert other in SERVICES


@each_service
def test_a_service_writes_to_volumes_and_to_memory_only(name):
    volumes = compose()["volumes"]
    assert any(entry.startswith("/tmp:size=") for entry in SERVICES[name]["tmpfs"])
    for entry in SERVICES[name].get("volumes", []):
        source, target, *options = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", entry).split(":")
        assert target.startswith("/")
        assert source in volumes or options == ["ro"], entry
    used = {entry.partition(":")[0] for s in SERVICES.values() for entry in s.get("volumes", [])}
    assert set(volumes) == {"records", "artifacts", "database"}
    assert set(volumes) <= used


@each_service
def test_images_are_pinned(name):
    image = SERVICES[name]["image"]
    assert "latest" not in image
    # Ours has no version but that which is asked for.
    assert PINNED.fullmatch(image) or image.startswith("sweeper:${SWEEPER_VERSION:?"), image


@each_service
def test_ports_are_published_on_loopback_only(name):
    for port in SERVICES[name].get("ports", []):
        address = port.rpartition(":")[0].rpartition(":")[0]
        assert address, f"{port} names no address: it would be every one"
        assert ipaddress.ip_address(address).is_loopback, port


def test_only_mlflow_is_published_and_only_its_network_leads_out():
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["mlflow"]
    open_ones = {n for n, it in compose()["networks"].items() if not (it or {}).get("internal")}
    assert open_ones == {"front"}
    for name, service in SERVICES.items():
        assert ("front" in service["networks"]) == (name == "mlflow"), name
    assert SERVICES["postgres"]["networks"] == ["database"]


def test_no_secret_has_a_value_here():
    secrets = compose()["secrets"]
    for name, secret in secrets.items():
        assert set(secret) == {"file"}, name
    for name, service in SERVICES.items():
        assert set(service.get("secrets", [])) <= set(secrets)
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key):
                where, _, secret = value.rpartition("/")
                assert where == "/run/secrets", f"{name}: {key}={value}"
                assert secret in service["secrets"]
            assert "://" not in value or "@" not in value, f"{name}: {key}={value}"
    ignored = (FOLDER / ".gitignore").read_text().splitlines()
    assert {"secrets/", ".env"} <= set(ignored)


def test_what_must_be_given_has_no_default():
    assert set(REQUIRED.findall(COMPOSE.read_text())) == {"SWEEPER_VERSION", "RAY_NODE_CPUS"}


def test_nobody_is_phoned():
    for name, service in SERVICES.items():
        there = service.get("environment", {})
        if name.startswith("ray") or name == "sweeper":
            assert there["RAY_USAGE_STATS_ENABLED"] == "0"  # It takes 0 and 1 only.
            assert there["RAY_memory_monitor_refresh_ms"] == "0"
        if name == "mlflow":
            # MLflow takes "1" for neither.
            assert there["MLFLOW_DISABLE_TELEMETRY"] == there["DO_NOT_TRACK"] == "true"


# ---- what runs in them


def words_of(function: str) -> list[str]:
    """Of the body of a shell function of service.sh."""
    body = re.search(rf"^{function}\(\).*?^}}", (FOLDER / "service.sh").read_text(), re.S | re.M)
    return re.sub(r"#.*|\\\n", "", body[0]).replace('"', "").split()


def test_mlflow_answers_to_exact_names_and_has_no_password_in_its_arguments():
    words = words_of("mlflow_server")
    hosts = words[words.index("--allowed-hosts") + 1].split(",")
    port = SERVICES["mlflow"]["ports"][0].split(":")[1]
    assert set(hosts) == {f"{host}:{port}" for host in ("mlflow", "localhost", "127.0.0.1")}
    tracked = SERVICES["sweeper"]["environment"]["MLFLOW_TRACKING_URI"]
    assert tracked.removeprefix("http://") in hosts
    assert "--serve-artifacts" in words
    assert not {"--disable-security-middleware", "--cors-allowed-origins"} & set(words)
    # By the environment of the process: the arguments of one are everybody's to read.
    assert "--backend-store-uri" not in words
    arguments = words[words.index("exec") :]
    assert not any("$password" in word or "$MLFLOW_BACKEND" in word for word in arguments)


def test_ray_has_a_token_and_no_dashboard():
    text = (FOLDER / "service.sh").read_text()
    words = words_of("ray_start")
    assert "RAY_AUTH_MODE=token" in words
    assert words.index("secret") < words.index("ray")
    assert re.search(r"ray_start --head [^;]*--include-dashboard false", text)
    # Every start of a node is by that function.
    assert len(re.findall(r"\bray start\b", re.sub(r"#.*", "", text))) == 1


# ---- the Dockerfile


def test_the_image_runs_as_nobody_in_particular():
    users = [value for word, value in last_stage() if word == "USER"]
    assert users == ["10001:10001"]
    own = [s["user"] for s in SERVICES.values() if s["image"].startswith("sweeper:")]
    assert set(own) == {users[0]}
    made = next(value for word, value in last_stage() if word == "RUN")
    assert "--gid 10001" in made
    assert "--uid 10001" in made


def test_stages_are_of_one_base_that_is_pinned():
    found = instructions()
    stages = [value.split(" AS ")[0] for word, value in found if word == "FROM"]
    named = {value.split(" AS ")[1] for word, value in found if word == "FROM" and " AS " in value}
    assert {stage for stage in stages if stage not in named} == {"${BASE}"}
    base = next(value for word, value in found if word == "ARG" and value.startswith("BASE="))
    assert PINNED.fullmatch(base.removeprefix("BASE=")), base


def test_the_image_has_no_compiler_no_cache_and_no_index():
    installing = [value for _, value in instructions() if "pip install" in value]
    assert installing
    for line in installing:
        assert "--no-cache-dir" in line
    assert "-c constraints.txt" in installing[0]
    assert "apt-get" not in DOCKERFILE.read_text()
    assert not any(word in ("ARG", "ADD") for word, _ in last_stage())
    assert "http" not in re.sub(r"^#.*", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    indices = [value for word, value in instructions() if word == "ARG" and "INDEX" in value]
    assert indices
    assert not any("=" in value for value in indices)


def test_a_run_starts_by_its_verb():
    said = dict(last_stage())
    assert said["ENTRYPOINT"] == '["sweeper"]'
    assert said["WORKDIR"] == "/sweep"


def test_only_what_the_image_is_made_of_goes_to_its_builder():
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = [
        source
        for word, value in instructions()
        if word == "COPY" and "--from=" not in value
        for source in [it for it in value.split() if not it.startswith("--")][:-1]
    ]
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied)
    assert all((PROJECT / source).exists() for source in copied)


def test_what_is_installed_is_what_the_project_requires():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (installing,) = re.findall(r"requirements\.py pyproject\.toml (.+) >", DOCKERFILE.read_text())
    extras = installing.split()
    assert extras == ["postgres", "s3"]
    done = subprocess.run(
        [sys.executable, FOLDER / "requirements.py", PROJECT / "pyproject.toml", *extras],
        capture_output=True,
        text=True,
        check=True,
    )
    optional = project["optional-dependencies"]
    wanted = project["dependencies"] + optional["postgres"] + optional["s3"]
    assert done.stdout.splitlines() == wanted
    assert "psycopg2" in wanted[-2]
    assert "s3fs" in wanted[-1]
