"""What a configuration is said to report, against what tiny runs of each kind measure."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny import Run

from trainers.config import RESULTS, ConfigError, reported
from trainers.text_vae import train

ABOVE_FLOOR = {
    f"test/nll_{kind}_above_floor{of}" for kind in ("exact", "iw") for of in ("", "_se", "_t")
}
ON_THE_WAY = {"progress", "train/loss", "optim/lr", "kl/weight", "aggressive/on"}


TINY = {
    "size": {"embedding": 4, "encoder": 4, "decoder": 4, "latent": 2},
    "critic": {"hidden": 4, "steps": 1},
    "wasserstein": {"centres": 2},
    "aggressive": {"window": 1, "inner": 3},
    "optim": {"batch": 16, "epochs": 1},
    "evaluate": {"samples": 2, "own_codes": 2},
}
IN_FILES = {"data": "tiny"}
BUILT_IN = {"data": "synthetic_styles", "limits": {"train": 100, "valid": 20, "test": 20}}
IVAE = {"posterior": "implicit", "objective": "dual", "scheme": "adversarial"}
FLOW = {"posterior": "planar_flow", "objective": "wasserstein", "scheme": "aggressive"}
KINDS = {
    "a language model": TINY | IN_FILES | {"model": "language_model"},
    "a language model, built in": TINY | BUILT_IN | {"model": "language_model"},
    "a sequence VAE": TINY | IN_FILES,
    "iVAE, built in": TINY | BUILT_IN | IVAE,
    "WAE-RNF, aggressively": TINY | IN_FILES | FLOW,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[set[str], set[str]]]:
    """Kind -> the names of what was measured on the way, and at last."""
    root = tmp_path_factory.mktemp("runs")
    (root / "tiny").mkdir()
    for split, count in {"train": 48, "valid": 24, "test": 24}.items():
        lines = [
            " ".join("abcd"[n % 4] + "ab"[k % 2] for k in range(1 + n % 3)) for n in range(count)
        ]
        (root / "tiny" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {}
    for number, (kind, config) in enumerate(KINDS.items()):
        *epochs, result = train(config, Run(folder=root / f"run{number}", data=root))
        found[kind] = {name for epoch in epochs for name in epoch}, set(result)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_measured_is_reported_and_but_for_the_floor_nothing_else(kind, measured):
    epochs, result = measured[kind]
    unseen = reported(KINDS[kind]) - (epochs | result)
    assert epochs | result <= reported(KINDS[kind])
    if "limits" in KINDS[kind]:
        assert not unseen
    else:
        assert unseen <= ABOVE_FLOOR | {"test/nll_floor"}
        assert len(unseen) == 4


def test_each_name_is_of_some_configuration(measured):
    seen = {name for epochs, result in measured.values() for name in epochs | result}
    assert len(set(RESULTS)) == len(RESULTS)
    assert set(RESULTS) == seen


def test_only_these_are_in_no_result(measured):
    at_last = {name for _, result in measured.values() for name in result}
    assert set(RESULTS) - at_last == ON_THE_WAY


def test_a_scheme_of_ones_own_may_report_anything():
    assert reported({"data": "tiny", "scheme": "own.schemes:Mine"}) is None
    assert reported({"data": "tiny", "objective": "own.parts:mine"}) == reported({"data": "tiny"})


def test_a_wrong_configuration_reports_nothing():
    with pytest.raises(ConfigError, match="unknown key 'poling'"):
        reported({"data": "tiny", "poling": "max"})


def test_no_torch_is_needed_to_ask():
    code = (
        "import sys; from trainers.config import reported\n"
        "assert 'test/nll_iw' in reported({'data': 'tiny'})\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
