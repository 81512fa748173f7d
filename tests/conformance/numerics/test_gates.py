"""The suite's gates see what they are for: a mistake planted in the arithmetic turns them red, and only then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.conformance.numerics.faults import FAULTS

ROOT = Path(__file__).parents[3]
LAYER = "suites/numerics/test_layer.py"
# What sees each fault: modules whose gates it must miss when the layer's ops run from their recorded operands.
SEEN_BY = {
    "lower_fidelity": {"matmul"},
    "other_destination": {"matmul"},
    "longer_blocks": {"matmul"},
    "truncating_packer": {"matmul"},
    "stray_softmax_scale": {"attention"},
}


def run_suite(tmp_path: Path, *arguments: str) -> tuple[int, list[dict]]:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
    options = [f"--tt-results={results}", *arguments]
    process = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert results.exists(), process.stdout[-2000:] + process.stderr[-2000:]
    return process.returncode, json.loads(results.read_text())["records"]


def missed(records: list[dict]) -> set[str]:
    return {record["module"] for record in records if record["verdict"] == "regression"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault == "longer_blocks" else pytest.mark.slow)
        for fault in sorted(FAULTS)
    ],
)
def test_each_fault_misses_a_gate_of_the_layer(fault: str, tmp_path: Path) -> None:
    """In mode exact a planted fault makes the op it sits in miss its gate, and moves the chained layer off too."""
    planted = ("-p", "harness.conformance.numerics.faults", "--tt-numerics-fault", fault)
    status, records = run_suite(tmp_path, LAYER, "--tt-emulator-mode=exact", *planted)
    assert status == 1
    assert missed(records) >= SEEN_BY[fault]


def test_a_healthy_emulator_misses_none(tmp_path: Path) -> None:
    """Without a fault the same tests pass, all gates held."""
    status, records = run_suite(tmp_path, LAYER, "--tt-emulator-mode=exact")
    assert status == 0, missed(records)
    assert sum(record["gate"] is not None for record in records) > 100


def test_the_whole_models_gates_see_lower_fidelity(tmp_path: Path) -> None:
    """One fidelity less in every linear, and the whole model is too far from the recorded one."""
    planted = ("-p", "harness.conformance.numerics.faults", "--tt-numerics-fault", "lower_fidelity")
    test = "suites/numerics/test_whole.py::test_prefill[P8]"
    status, records = run_suite(tmp_path, test, "--tt-emulator-mode=exact", *planted)
    assert status == 1
    red = {record["metric"] for record in records if record["verdict"] == "regression"}
    assert {"kl_share", "error_change"} <= red


def test_mode_fast_promises_nothing(tmp_path: Path) -> None:
    """In mode fast every figure of the layer is shown, none is gated, and the records say so."""
    status, records = run_suite(tmp_path, LAYER, "--tt-emulator-mode=fast")
    assert status == 0
    passing = [record for record in records if record["verdict"] == "pass"]
    assert passing
    assert {(record["gate"], record["note"]) for record in passing} == {(None, "not gated in mode fast")}


def test_an_unknown_fault_is_refused() -> None:
    """A mistyped fault name does not run a healthy emulator in its place."""
    command = [sys.executable, "-m", "pytest", LAYER, "-p", "harness.conformance.numerics.faults"]
    options = ["--tt-numerics-fault", "typo"]
    process = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2
