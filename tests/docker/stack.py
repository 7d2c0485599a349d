"""Services of compose.yaml in, containers out, where there is no Docker: by podman and runc,
with the rights, the networks, the volumes, the secrets and the settings that the file gives
them. What podman cannot do here is left out: names are in /etc/hosts instead of a DNS, and
nothing is asked of cgroups (`pids_limit`) or of the engine's logging and restarts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

NETWORKS = {"front": "10.213.1", "cluster": "10.213.2", "database": "10.213.3"}
# runc may not raise limits where we may not.
RUNTIME = """#!/usr/bin/env python3
import json, os, sys
words = sys.argv[1:]
for option, file in (("--bundle", "/config.json"), ("--process", "")):
    if option in words:
        path = words[words.index(option) + 1] + file
        config = json.load(open(path))
        config.get("process", config)["rlimits"] = []
        json.dump(config, open(path, "w"))
os.execvp("runc", ["runc", *words])
"""


@dataclass
class Stack:
    """Has state because it owns what runs. `images`: instead of those that the file names;
    `given`: what the file asks for."""

    file: Path
    folder: Path
    images: Mapping[str, str]
    given: Mapping[str, str]
    running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # ${NAME:-default} and ${NAME:?message}, as compose has them.
        text = re.sub(r"\$\{(\w+):[-?]([^}]*)\}", self.value, self.file.read_text())
        self.compose = yaml.safe_load(text)
        self.services = self.compose["services"]
        runtime = self.folder / "runc"
        runtime.write_text(RUNTIME)
        runtime.chmod(0o755)

    def value(self, match: re.Match[str]) -> str:
        asked = match[0].split(":")[1].startswith("?")
        assert match[1] in self.given or not asked, match[0]
        return self.given.get(match[1], match[2])

    def podman(self, *words: str, seconds: float = 120, check: bool = True) -> str:
        done = self.tried(*words, seconds=seconds)
        assert done.returncode == 0 or not check, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def tried(self, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        own = ["--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run"]
        quiet = ["--log-level", "error", "--cgroup-manager", "cgroupfs"]
        return subprocess.run(
            ["podman", *own, *quiet, "--runtime", f"{self.folder}/runc", *words],
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    # ---- up and down

    def prepare(self) -> None:
        for name, subnet in NETWORKS.items():
            inner = (self.compose["networks"][name] or {}).get("internal")
            inside = ["--internal"] if inner else []
            self.podman("network", "create", *inside, "--subnet", f"{subnet}.0/24", name)

    def start(self, name: str) -> None:
        self.podman("run", "--detach", "--name", name, *self.options(name), *self.command(name))
        self.running.append(name)

    def run(self, name: str, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """The service once, with these arguments, as `docker compose run --rm` does."""
        self.running.append(name)
        words = ["run", "--rm", "--name", name, *self.options(name), *self.start_of(name)]
        done = self.tried(*words, *arguments, seconds=seconds)
        self.running.remove(name)
        return done

    def wait_until_well(self, name: str, seconds: float = 180) -> float:
        """By the check that the file has for it."""
        began = time.monotonic()
        check = self.services[name]["healthcheck"]["test"][1:]
        while (done := self.tried("exec", name, *check)).returncode != 0:
            assert self.inspected(name)["State"]["Running"], self.log(name)
            assert time.monotonic() - began < seconds, f"{done.stderr}\n{self.log(name)}"
            time.sleep(0.5)
        return time.monotonic() - began

    def log(self, name: str) -> str:
        done = self.tried("logs", "--tail", "40", name)
        return f"{name}:\n{done.stdout}{done.stderr}"

    def close(self) -> None:
        for name in reversed(self.running):
            self.tried("rm", "--force", "--time", "2", name)
        for name in self.compose["volumes"]:
            self.tried("volume", "rm", "--force", name)
        for name in NETWORKS:
            self.tried("network", "rm", "--force", name)

    # ---- what podman is told

    def address(self, name: str, network: str) -> str:
        return f"{NETWORKS[network]}.{10 + list(self.services).index(name)}"

    def options(self, name: str) -> list[str]:
        service = self.services[name]
        assert service["read_only"]
        # podman would give a read-only container writable folders of its own.
        words = ["--read-only", "--read-only-tmpfs=false", "--no-healthcheck", "--init"]
        words += ["--user", service["user"], *(f"--cap-drop={c}" for c in service["cap_drop"])]
        words += ["--security-opt", "no-new-privileges", *self.volumes(name)]
        # podman would give the folder the mode that it has in the image.
        words += [f"--tmpfs={entry},notmpcopyup" for entry in service["tmpfs"]]
        words += [f"--env={key}={value}" for key, value in service["environment"].items()]
        words += [f"--publish={port}" for port in service.get("ports", [])]
        words += [f"--shm-size={service['shm_size']}"] if "shm_size" in service else []
        for network in service["networks"]:
            words += ["--network", f"{network}:ip={self.address(name, network)}"]
            for other, its in self.services.items():
                if other != name and network in its["networks"]:
                    words.append(f"--add-host={other}:{self.address(other, network)}")
        return words

    def volumes(self, name: str) -> list[str]:
        service, words = self.services[name], []
        for entry in service.get("volumes", []):
            source, target, *options = entry.split(":")
            if source.startswith("."):
                source = str((self.file.parent / source).resolve())
                Path(source).mkdir(exist_ok=True)
            words.append(f"--volume={':'.join([source, target, *options])}")
        for secret in service.get("secrets", []):
            path = self.compose["secrets"][secret]["file"]
            words.append(f"--volume={path}:/run/secrets/{secret}:ro")
        return words

    def start_of(self, name: str) -> list[str]:
        """The image and what its command begins with."""
        service = self.services[name]
        image = self.images.get(name) or self.images[""]
        entry = service.get("entrypoint")
        if entry is None:
            return [image]
        return [f"--entrypoint={json.dumps(entry)}", image]

    def command(self, name: str) -> list[str]:
        return [*self.start_of(name), *self.services[name].get("command", [])]

    def inspected(self, name: str) -> dict[str, Any]:
        return json.loads(self.podman("inspect", name))[0]
