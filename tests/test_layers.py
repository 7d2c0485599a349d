"""The layers of both packages, held over the syntax trees: imports go downward only, a
heavy library is imported in one place, and nothing heavy at all by planning."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lowest first; modules on one line may not import each other.
SWEEPER_LAYERS = [
    {"errors"},
    {"trial", "lookup", "sizes", "pulse", "redaction", "circumstances"},
    {"record", "spec"},
    {"space", "objectives"},
    {"stats", "snapshot"},
    {"importance", "tables", "trainer", "answers", "outline", "changes", "differences", "sharing"},
    {"claims", "design", "comparing", "reported"},
    {"found"},
    {"provenance", "render", "figures", "track", "merges", "memory"},
    {"budget", "halving", "search"},
    {"hang"},
    {"deaths"},
    {"worker", "plan", "searching"},
    {"circuit_breaker", "dispatch", "estimates", "guard", "needed", "report"},
    {"run"},
    {"live", "cleaning", "onlooker"},
    {"live_search"},
    {"doctor"},
    {"cli"},
]
TRAINER_LAYERS = [
    {"kl_schedules", "synthetic", "parts", "lr_rules", "streams", "vocabulary"},
    {"corpora"},
    {"config"},
    {"text", "pooling"},
    {"encoders", "decoders", "posteriors", "critics"},
    {"models"},
    {"objectives", "metrics"},
    {"updates", "generation"},
    {"schemes", "checkpoint", "samples"},
    {"training"},
    {"evaluation"},
    {"text_vae"},
]
ONLY_IMPORTER = {
    "yaml": {"sweeper/spec/loader.py"},
    "ray": {"sweeper/dispatch/ray_cluster.py", "sweeper/dispatch/ray_tune.py"},
    "mlflow": {"sweeper/track/mlflow.py"},
    "fsspec": {"sweeper/track/remote.py"},
    "s3fs": {"sweeper/track/remote.py"},
    "optuna": {"sweeper/search.py"},
    "matplotlib": {"sweeper/figures/drawing.py", "sweeper/figures/drawing_search.py"},
}
HEAVY = {"torch", "ray", "mlflow", "optuna", "pandas", "scipy", "matplotlib", "fsspec", "s3fs"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Absolute names of the modules that `path` imports, at any depth of its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    ("package", "layers"), [("sweeper", SWEEPER_LAYERS), ("trainers", TRAINER_LAYERS)]
)
def test_imports_go_downward_only(package: str, layers: list[set[str]]) -> None:
    height = {name: level for level, names in enumerate(layers) for name in names}
    upward = []
    for path in sources(package):
        own = path.relative_to(ROOT / package).with_suffix("").parts[0]
        if own in ("__init__", "__main__"):
            continue
        assert own in height, f"{path.relative_to(ROOT)} has no layer: give it one"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] != package or len(parts) < 2 or parts[1] == own:
                continue
            if parts[1] in height and height[parts[1]] >= height[own]:
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not upward, "\n".join(upward)


def test_the_two_products_do_not_know_each_other() -> None:
    for path in sources("trainers"):
        foreign = {n.split(".")[0] for n in imported(path)} & {
            "sweeper",
            "ray",
            "mlflow",
            "optuna",
            "yaml",
        }
        assert not foreign, f"{path}: {foreign}"
    for path in sources("sweeper"):
        foreign = {n.split(".")[0] for n in imported(path)} & {"trainers", "torch"}
        assert not foreign, f"{path}: {foreign}"


@pytest.mark.parametrize("library", sorted(ONLY_IMPORTER))
def test_each_heavy_library_has_one_importer(library: str) -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in sources("sweeper")
        if library in {name.split(".")[0] for name in imported(path)}
    }
    assert importers <= ONLY_IMPORTER[library]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "sweeps/table3.yaml"], ["--version"]], ids=" ".join
)
def test_planning_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, json; sys.argv = ['sweeper', *json.loads(sys.argv[1])]\n"
        "from sweeper.cli import main\n"
        "try: main()\n"
        "except SystemExit as exit: assert exit.code in (0, None), exit.code\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        cwd=ROOT,
        env={"PATH": "", "SWEEPER_STORE": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & HEAVY
