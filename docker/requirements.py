"""pyproject.toml in, what it requires out, a line each; for the image, which installs that
before our own code.

    requirements.py PYPROJECT [EXTRA...]
    requirements.py --path FOLDER VENV     lets the environment VENV import from FOLDER
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def required(pyproject: Path, extras: list[str]) -> list[str]:
    project = tomllib.loads(pyproject.read_text())["project"]
    return project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]


def add_path(folder: str, venv: Path) -> None:
    (site,) = venv.glob("lib/python3.*/site-packages")
    (site / "sweeper.pth").write_text(f"{folder}\n")


if __name__ == "__main__":
    if sys.argv[1] == "--path":
        add_path(sys.argv[2], Path(sys.argv[3]))
    else:
        print("\n".join(required(Path(sys.argv[1]), sys.argv[2:])))
