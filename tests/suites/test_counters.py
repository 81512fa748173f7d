"""The counters suite sees what leaves the numbers right and costs more: on the real ttnn, without a card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("needs_ttnn")
Run = Callable[..., Any]
FAULT = ("-p", "harness.faults", "--tt-precision=performance")


@pytest.fixture
def count(run_suites: Run) -> Run:
    """count(*arguments) counts on the real ttnn."""
    return lambda *arguments: run_suites("suites/counters", "--tt-target=dryrun", *arguments)


def test_every_policy_costs_what_its_baseline_says(count: Run) -> None:
    """The committed counters hold exactly, for both passes and each module."""
    records = count("--tt-precision=accuracy,performance,bfp4_mlp").records
    assert {record.verdict for record in records} == {"pass"}
    assert {(r.precision, r.phase) for r in records} == {
        (precision, phase)
        for precision in ("accuracy", "performance", "bfp4_mlp")
        for phase in ("prefill", "decode")
    }
    assert {"attention", "mlp", "norm", "lm_head", "model"} <= {record.module for record in records}


def test_an_extra_reshard_is_named(count: Run) -> None:
    """Thirty layers that leave their shards and come back turn the decode step red, and the ops are named."""
    result = count(*FAULT, "--tt-fault=reshard_in_every_layer")
    assert {r.phase for r in result.red} == {"decode"}
    assert "ops 648, baseline 588 (+30 InterleavedToSharded, +30 ShardedToInterleaved)" in result.said
    assert {"ops", "layout_conversions", "dram_read_bytes"} <= {
        r.metric for r in result.red if r.module == "model"
    }


@pytest.mark.slow
def test_heavier_weights_are_seen_in_the_bytes(count: Run) -> None:
    """Weights back to bf16 change no op, and show in the DRAM bytes that the MLP reads."""
    red = {(r.module, r.metric) for r in count(*FAULT, "--tt-fault=bf16_gate_weights").red}
    assert ("mlp", "dram_read_bytes") in red
    assert ("attention", "dram_read_bytes") not in red


def test_no_baseline_is_no_pass(count: Run, tmp_path: Path) -> None:
    """Counters without a baseline are filed as such, and the test fails with what makes one."""
    empty = f"--tt-baselines={tmp_path / 'none'}"
    result = count("--tt-precision=performance", empty)
    assert result.status == 1
    assert {record.verdict for record in result.records} == {"missing_baseline"}
    assert "--tt-update-baselines" in result.said
    count("--tt-precision=performance", empty, "--tt-update-baselines")
    result = count("--tt-precision=performance", empty)
    assert {record.verdict for record in result.records} == {"pass"}


def test_the_emulator_says_that_it_counts_nothing(run_suites: Run) -> None:
    """A target without graph capture skips, and its records say why."""
    records = run_suites("suites/counters").records
    assert {record.verdict for record in records} == {"not_compared"}
    assert all("captures no graph" in record.note for record in records)
