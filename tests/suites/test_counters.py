"""The counters suite sees what leaves the numbers right and costs more: on the real ttnn, without a card."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _needs_ttnn() -> None:
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: nothing can be counted")


def run(tmp_path: Path, *arguments: str) -> tuple[str, list[dict]]:
    results = tmp_path / "results.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "suites/counters",
    ]
    command += ["--tt-target=dryrun", f"--tt-results={results}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert results.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout, json.loads(results.read_text())["records"]


def test_every_policy_costs_what_its_baseline_says(tmp_path: Path) -> None:
    """The committed counters hold exactly, for both passes and each module."""
    _, records = run(tmp_path, "--tt-precision=accuracy,performance,bfp4_mlp")
    assert {record["verdict"] for record in records} == {"pass"}
    assert {(r["precision"], r["phase"]) for r in records} == {
        (precision, phase)
        for precision in ("accuracy", "performance", "bfp4_mlp")
        for phase in ("prefill", "decode")
    }
    assert {"attention", "mlp", "norm", "lm_head", "model"} <= {record["module"] for record in records}


def test_an_extra_reshard_is_named(tmp_path: Path) -> None:
    """Thirty layers that leave their shards and come back turn the decode step red, and the ops are named."""
    said, records = run(
        tmp_path, "--tt-precision=performance", "-p", "harness.faults", "--tt-fault=reshard_in_every_layer"
    )
    red = [r for r in records if r["verdict"] == "regression"]
    assert {r["phase"] for r in red} == {"decode"}
    assert "ops 648, baseline 588 (+30 InterleavedToSharded, +30 ShardedToInterleaved)" in said
    assert {"ops", "layout_conversions", "dram_read_bytes"} <= {
        r["metric"] for r in red if r["module"] == "model"
    }


def test_heavier_weights_are_seen_in_the_bytes(tmp_path: Path) -> None:
    """Weights back to bf16 change no op, and show in the DRAM bytes that the MLP reads."""
    _, records = run(
        tmp_path, "--tt-precision=performance", "-p", "harness.faults", "--tt-fault=bf16_gate_weights"
    )
    red = {(r["module"], r["metric"]) for r in records if r["verdict"] == "regression"}
    assert ("mlp", "dram_read_bytes") in red
    assert ("attention", "dram_read_bytes") not in red


def test_no_baseline_is_no_pass(tmp_path: Path) -> None:
    """Counters without a baseline are filed as such, and the test fails with what makes one."""
    empty = f"--tt-baselines={tmp_path / 'none'}"
    said, records = run(tmp_path, "--tt-precision=performance", empty)
    assert {record["verdict"] for record in records} == {"missing_baseline"}
    assert "--tt-update-baselines" in said
    run(tmp_path, "--tt-precision=performance", empty, "--tt-update-baselines")
    _, records = run(tmp_path, "--tt-precision=performance", empty)
    assert {record["verdict"] for record in records} == {"pass"}


def test_the_emulator_says_that_it_counts_nothing(tmp_path: Path) -> None:
    """A target without graph capture skips, and its records say why."""
    results = tmp_path / "results.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "suites/counters",
        f"--tt-results={results}",
    ]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    records = json.loads(results.read_text())["records"]
    assert {record["verdict"] for record in records} == {"not_compared"}
    assert all("captures no graph" in record["note"] for record in records)
