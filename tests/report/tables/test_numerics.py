"""The numerics tables: ops against recorded outputs, chained runs against recorded errors."""

from __future__ import annotations

import io
import itertools
from typing import Any

from rich.console import Console

from harness.report import render
from harness.results.schema import Environment, Record, Results

ENVIRONMENT = Environment.collect(target="emulator", mesh="1x1", model="smollm2", emulator_mode="exact")
MATMUL = "matmul bf16 x bfp8 -> bf16, HiFi2 bf16 dest"


def record(metric: str, value: float, details: dict[str, float | str], **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "test": "suites/numerics/test_ops.py::test_call[x]",
        "module": "matmul",
        "metric": metric,
        "value": value,
        "verdict": "pass",
        "target": "emulator",
        "precision": "none",
        "n": 2048,
        "gate": 1.0,
        "direction": "higher",
        "details": details,
    }
    return Record(**fields | changes)


def agreement(value: float, **details: float | str) -> Record:
    figures = {"setting": MATMUL, "point": "x", "ulps": "50/50/0/0/0/0", "max_ulp": 1.0, "recorded_gap": 1e-6}
    return record("bit_exact", value, figures | details)


def drawn(*records: Record, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    render(Results(ENVIRONMENT, records), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def pairs(text: str) -> list[tuple[str, str]]:
    """Each line with the one below it."""
    return list(itertools.pairwise(text.splitlines()))


def test_cases_of_one_setting_share_a_row() -> None:
    """The row has the worst share and the largest ulp of its cases, all their elements, and the mean histogram."""
    text = drawn(agreement(1.0), agreement(0.99996, ulps="100/0/0/0/0/0", max_ulp=3.0, recorded_gap=2e-6))
    first, second = next(pair for pair in pairs(text) if "99.99%" in pair[0])
    for cell in (" 3 ", "75/25/0", "2.0e-06"):
        assert cell in first
    for cell in ("4096", "0/0/0"):
        assert cell in second
    assert text.count(MATMUL.split(",")[0]) == 1


def test_only_what_is_wholly_equal_reads_100_percent() -> None:
    """A share just below one is cut, not rounded up."""
    assert "100%" in drawn(agreement(1.0))
    assert "100%" not in drawn(agreement(0.9999999))


def test_a_missed_gate_marks_the_row() -> None:
    """The row of an op that missed a gate, of whichever metric, carries a "!"."""
    gap = {"setting": MATMUL, "point": "x"}
    missed = record("gap_share", 0.5, gap, verdict="regression", gate=0.1, direction="lower")
    assert "dest!" not in drawn(agreement(1.0))
    assert "dest!" in drawn(agreement(1.0), missed)


def test_errors_stand_beside_the_recorded_ones() -> None:
    """A chained run's error, the recorded one, and what the first differs by, marked where that is too much."""
    details = {"what": "mean KL to the golden", "ours": 0.0125, "recorded": 0.01}
    change = {"module": "model", "precision": "accuracy", "gate": 0.15, "direction": "lower"}
    text = drawn(record("error_change", 0.25, details, verdict="regression", **change))
    row = next(line for line in text.splitlines() if "mean KL to the golden" in line and "25%" in line)
    for cell in ("accuracy model", "0.0125", "0.01 ", "25%!"):
        assert cell in row


def test_figures_that_are_not_gated_are_no_pass() -> None:
    """A run that only shows figures does not claim to have checked them."""
    output = agreement(0.5)
    free = record(
        "bit_exact", 0.5, dict(output.details), gate=None, direction=None, note="not gated in mode fast"
    )
    assert (
        drawn(free).splitlines()[0] == "VERDICT: none, 1 figures are shown and no gate is held against them"
    )


def test_readable_at_80_columns() -> None:
    """No column is lost on a narrow terminal."""
    figures = {
        "fp32_gap": 1e-5,
        "recorded_fp32_gap": 2e-5,
        "norm_ratio": 0.9781,
        "recorded_norm_ratio": 0.9779,
    }
    text = drawn(agreement(0.5, **figures), width=80)
    for cell in ("0.9781", "0.9779", "1.0e-05", "2.0e-05"):
        assert cell in text
