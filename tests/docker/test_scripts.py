"""docker/service.sh and docker/slurm.sh as they run: the shell is real, and so is `sweeper`;
what a cluster would give (srun, scontrol, ray on its nodes) is a script that writes down what
it was asked."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docker"
TOKEN = "0123456789abcdef" * 4

SWEEP = """
name: patient
trainer: {function: patient:train}
axes: {seed: [0, 1]}
metrics: {loss: {from: valid/loss, goal: min}}
profiles: {quick: {}}
tables: {patient: {rows: seed, values: [loss]}}
"""

TRAINER = """
import time
from pathlib import Path

def train(config, run):
    until = time.monotonic() + 60
    Path("begun").touch()
    for step in range(1, 1000):
        yield {"cost/updates": step, "valid/loss": 1 / step}
        if Path("hurry").exists():
            return
        assert time.monotonic() < until
        time.sleep(0.05)
"""


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def stub(folder: Path, name: str, body: str = "") -> None:
    """A program that appends its name, arguments and RAY_ settings to `asked`, and does `body`."""
    text = f"""#!/bin/bash
echo "{name} $* mode=${{RAY_AUTH_MODE-}} token=${{RAY_AUTH_TOKEN_PATH-}}" >> "$ASKED"
{body}
"""
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    # Less what would be the test's own: a store, a tracking server, a token.
    kept = ("SWEEPER_", "MLFLOW_", "RAY_", "SLURM_")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(kept)}
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return plain | {"PATH": path, "ASKED": str(folder / "asked"), "HOME": str(folder)} | more


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def until(what, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it has not come to it"
        time.sleep(0.05)


# ---- service.sh


def service(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FOLDER / "service.sh", *arguments],
        env=surroundings(folder, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )


def secret(folder: Path, text: str = TOKEN + "\n") -> str:
    path = folder / "secret"
    path.write_text(text)
    return str(path)


def test_mlflow_gets_the_password_by_its_environment_only(bin_folder):
    stub(bin_folder, "mlflow", 'echo "uri=$MLFLOW_BACKEND_STORE_URI"')
    done = service(bin_folder, "mlflow", POSTGRES_PASSWORD_FILE=secret(bin_folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"uri=postgresql+psycopg2://mlflow:{TOKEN}@postgres/mlflow\n"
    (line,) = asked(bin_folder)
    assert TOKEN not in line
    assert "--allowed-hosts mlflow:5000,localhost:5000,127.0.0.1:5000 " in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("hunter2\n", "shorter than 32"),
        ("p@ss/word?x=1&" * 4, "letters and digits"),
        (TOKEN + "\n" + TOKEN, "letters and digits"),
        (None, "cannot be read"),
    ],
)
@pytest.mark.parametrize("role", ["mlflow", "ray-head", "ray-node", "sweep"])
def test_a_service_does_not_start_without_a_proper_secret(bin_folder, role, text, said):
    for name in ("mlflow", "ray", "sweeper"):
        stub(bin_folder, name)
    path = str(bin_folder / "none") if text is None else secret(bin_folder, text)
    done = service(
        bin_folder,
        role,
        POSTGRES_PASSWORD_FILE=path,
        RAY_AUTH_TOKEN_PATH=path,
        RAY_NODE_CPUS="2",
    )
    assert done.returncode == 3
    assert said in done.stderr
    assert not text or text.strip() == "" or text.strip() not in done.stderr
    assert asked(bin_folder) == []


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("ray-head", "--head --port 6379 --num-cpus 0 --num-gpus 0 --include-dashboard false"),
        ("ray-node", "--address ray-head:6379 --num-cpus 2 --block"),
    ],
)
def test_nodes_of_ray_start_with_the_token(bin_folder, role, expected):
    stub(bin_folder, "ray")
    path = secret(bin_folder)
    done = service(bin_folder, role, RAY_AUTH_TOKEN_PATH=path, RAY_NODE_CPUS="2")
    assert done.returncode == 0, done.stderr
    (line,) = asked(bin_folder)
    assert line.startswith("ray start --disable-usage-stats ")
    assert expected in line
    assert line.endswith(f"mode=token token={path}")


def test_a_sweep_joins_the_cluster_and_passes_its_arguments_on(bin_folder):
    stub(bin_folder, "ray")
    stub(bin_folder, "sweeper", "exit 75")
    path = secret(bin_folder)
    done = service(bin_folder, "sweep", "run", "a b.yaml", RAY_AUTH_TOKEN_PATH=path)
    assert done.returncode == 75
    joined, ran = asked(bin_folder)
    assert "--address ray-head:6379 --num-cpus 0 --num-gpus 0" in joined
    assert ran.startswith("sweeper run a b.yaml ")


def test_health_is_what_the_checks_say(bin_folder):
    stub(bin_folder, "ray", "exit 1")
    assert service(bin_folder, "well", "ray").returncode == 1
    assert asked(bin_folder)[0].startswith("ray health-check --address ray-head:6379 mode=token")
    stub(bin_folder, "python3", "exit 7")
    assert service(bin_folder, "well", "mlflow").returncode == 7
    assert service(bin_folder, "well", "nobody").returncode == 3
    assert service(bin_folder, "nothing").returncode == 3


# ---- slurm.sh on one node, with a real run


@pytest.fixture
def job(bin_folder, tmp_path):
    """Starts slurm.sh on a sweep whose trials take a minute, and waits until one has begun."""
    (tmp_path / "patient.yaml").write_text(SWEEP)
    (tmp_path / "patient.py").write_text(TRAINER)
    stub(bin_folder, "scontrol")
    started = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [FOLDER / "slurm.sh", "patient.yaml", "--dispatch", "inline"],
            env=surroundings(bin_folder, SLURM_JOB_ID="4711", SLURM_JOB_NUM_NODES="1"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        until(lambda: (tmp_path / "begun").exists() or process.poll() is not None)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_warned_job_stops_and_is_put_back_into_the_queue(job, bin_folder, tmp_path):
    first = job()
    first.send_signal(signal.SIGUSR1)  # to the script only, as Slurm's B: does
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 75, said
    assert [line.partition(" mode")[0] for line in asked(bin_folder)] == ["scontrol requeue 4711"]

    (tmp_path / "hurry").touch()
    again = job()
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert len(asked(bin_folder)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_cancelled_job_stops_and_is_not_put_back(job, bin_folder, number):
    cancelled = job()
    cancelled.send_signal(number)
    said, _ = cancelled.communicate(timeout=120)
    assert cancelled.returncode == 75, said
    assert asked(bin_folder) == []


@pytest.mark.parametrize("code", [0, 1, 3, 5])
def test_a_job_that_ends_by_itself_ends_with_its_code(bin_folder, code):
    stub(bin_folder, "sweeper", f"exit {code}")
    stub(bin_folder, "scontrol")
    done = subprocess.run(
        [FOLDER / "slurm.sh", "a.yaml", "--profile", "paper"],
        env=surroundings(bin_folder, SLURM_JOB_ID="4711", SLURM_JOB_NUM_NODES="1"),
        timeout=60,
    )
    assert done.returncode == code
    assert [line.partition(" mode")[0] for line in asked(bin_folder)] == [
        "sweeper run a.yaml --profile paper"
    ]


def requeued(folder: Path, tmp_path: Path, nap: str) -> subprocess.Popen[str]:
    """Of a job that ran on another node before: sweeper is refused once, and `sleep` does this."""
    once = tmp_path / "refused"
    stub(folder, "sweeper", f"[ ! -e {once} ] || exit 0; touch {once}; exit 3")
    stub(folder, "sleep", nap)
    stub(folder, "scontrol")
    more = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "1", "SLURM_RESTART_COUNT": "1"}
    return subprocess.Popen([FOLDER / "slurm.sh", "a.yaml"], env=surroundings(folder, **more))


def test_a_job_that_was_put_back_waits_until_its_dead_one_has_grown_old(bin_folder, tmp_path):
    assert requeued(bin_folder, tmp_path, "").wait(60) == 0
    called = [line.partition(" mode")[0] for line in asked(bin_folder)]
    assert called == ["sweeper run a.yaml", "sleep 70", "sweeper run a.yaml"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_waits_so_hears_signals(bin_folder, tmp_path, number):
    nap = f"touch {tmp_path}/naps; exec {shutil.which('sleep')} 60"
    job = requeued(bin_folder, tmp_path, nap)
    until(lambda: (tmp_path / "naps").exists())
    job.send_signal(number)
    assert job.wait(30) == 75
    put_back = [line for line in asked(bin_folder) if line.startswith("scontrol requeue 4711")]
    assert len(put_back) == (number == signal.SIGUSR1)


# ---- slurm.sh on several nodes


def cluster(folder: Path, joined: str = "3", healthy: str = "exit 0", nodes: str = "3"):
    """slurm.sh, in an allocation whose programs are stubs: `srun` runs here what it is given,
    and `ray start` stays until it is killed."""
    stub(folder, "scontrol", '[ "$1" != show ] || printf "node7\\nnode8\\nnode9\\n"')
    stub(
        folder,
        "srun",
        'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    )
    stub(folder, "hostname", "echo 10.1.2.3 192.168.0.1")
    stub(folder, "ray", f'[ "$1" = health-check ] && {healthy}; exec sleep 600')
    stub(folder, "python3", f"cat >/dev/null; echo {joined}")
    stub(folder, "sleep", f'[ "$1" != 600 ] || exec {shutil.which("sleep")} 600')
    stub(folder, "sweeper", 'stat -c "%a $(cat "$RAY_AUTH_TOKEN_PATH")" "$RAY_AUTH_TOKEN_PATH"')
    done = subprocess.run(
        [FOLDER / "slurm.sh", "a.yaml"],
        env=surroundings(
            folder,
            SLURM_JOB_ID="4711",
            SLURM_JOB_NUM_NODES=nodes,
            SLURM_JOB_NODELIST="node[7-9]",
            SLURM_CPUS_PER_TASK="8",
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return done, asked(folder)


def test_a_cluster_is_started_with_a_token_of_its_own(bin_folder):
    done, lines = cluster(bin_folder)
    assert done.returncode == 0, done.stdout
    mode, token = done.stdout.splitlines()[0].split()
    assert mode == "600"
    assert len(token) == 64
    assert not any(token in line for line in lines)

    starts = [line for line in lines if line.startswith("ray start ")]
    head = next(line for line in starts if "--head" in line)
    others = next(line for line in starts if "--head" not in line)
    assert "--node-ip-address 10.1.2.3 --port 24711 --num-cpus 8" in head
    assert "--include-dashboard false" in head
    assert "--address 10.1.2.3:24711 " in others
    for line in starts:
        assert "--block" in line
        assert "--disable-usage-stats" in line
        assert "mode=token token=/" in line
    steps = [line for line in lines if line.startswith("srun ")]
    assert any("--nodes=1 --ntasks=1 --nodelist=node7" in line for line in steps)
    assert any("--nodes=2 --ntasks=2 --exclude=node7" in line for line in steps)
    ran = next(line for line in lines if line.startswith("sweeper "))
    assert ran.startswith("sweeper run a.yaml --address 10.1.2.3:24711 ")


def test_what_was_started_for_a_cluster_ends_with_the_job(bin_folder):
    done, lines = cluster(bin_folder)
    path = Path(lines[-1].rpartition("token=")[2])
    assert done.returncode == 0
    assert path.parent == bin_folder
    assert not path.exists()
    until(lambda: not running_with(str(path)), 20)


def running_with(text: str) -> list[int]:
    """Processes of this user with `text` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("broken", [{"joined": "2"}, {"healthy": "exit 1"}])
def test_no_sweep_starts_on_half_a_cluster(bin_folder, broken):
    done, lines = cluster(bin_folder, **broken)
    assert done.returncode == 3
    assert not any(line.startswith("sweeper ") for line in lines)


def test_scripts_can_be_run():
    for name in ("service.sh", "slurm.sh"):
        assert (FOLDER / name).stat().st_mode & stat.S_IXUSR
