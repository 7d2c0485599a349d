"""A trainer, and copiers to be killed, for tests of the mirror."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1])]


def train(config: Mapping[str, Any], run: Any) -> Iterator[Mapping[str, float]]:
    """Each update's loss depends on all before it; continues from its checkpoint. Says of each
    update that it makes, in a file of the config's, which trial made it."""
    kept = run.folder / "checkpoints" / "state"
    kept.parent.mkdir(exist_ok=True)
    done, state = 0, f"seed {run.seed}"
    if kept.exists():
        first, state = kept.read_text().split()
        done = int(first)
    weights = os.urandom(config.get("bytes", 0))
    for update in range(done + 1, config["steps"] + 1):
        began = time.perf_counter()
        time.sleep(config["pause"])
        state = hashlib.sha256(f"{state} {update}".encode()).hexdigest()
        if config.get("calls"):
            with open(config["calls"], "a") as calls:
                calls.write(f"{run.seed} {update}\n")
        yield {
            "cost/updates": update,
            "loss": int(state[:8], 16) / 2**32,
            "progress": update / config["steps"],
            "step_seconds": time.perf_counter() - began,
        }
        draft = kept.with_name("draft")
        draft.write_text(f"{update} {state}")
        os.replace(draft, kept)
        if weights and update % 20 == 0:
            draft.write_bytes(weights)
            os.replace(draft, kept.with_name("weights"))
    (run.folder / "artifacts").mkdir(exist_ok=True)
    (run.folder / "artifacts" / "course.txt").write_text(state)


def copy_and_die(url: str, folder: str, after: int) -> None:
    """Copies a trial, and is killed before the object that would be the `after`th."""
    from sweeper.track import mirror
    from sweeper.track.remote import Remote

    sent = 0
    really = Remote.put

    def put(self: Remote, key: str, content: bytes) -> None:
        nonlocal sent
        if sent == after:
            os.kill(os.getpid(), signal.SIGKILL)
        sent += 1
        really(self, key, content)

    Remote.put = put
    mirror.Copy(remote=Remote(url), folder=Path(folder)).bring_up_to_date()


def bring_and_die(url: str, folder: str, after: int) -> None:
    """Brings a trial, and is killed before the file that would be the `after`th in its place, or
    out of it."""
    from sweeper.track import mirror

    done = 0

    def counted(really: Any) -> Any:
        def act(*arguments: Any) -> Any:
            nonlocal done
            if done == after:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return really(*arguments)

        return act

    os.replace, os.rename = counted(os.replace), counted(os.rename)
    mirror.bring(mirror.Mirror(url), Path(folder))


if __name__ == "__main__":
    {"copy": copy_and_die, "bring": bring_and_die}[sys.argv[1]](
        sys.argv[2], sys.argv[3], int(sys.argv[4])
    )
