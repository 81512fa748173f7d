"""The plots of the latency suite."""

from __future__ import annotations

from typing import Any

from harness.report.pictures.latency import pictures
from harness.results.schema import Record

BASE: dict[str, Any] = {
    "test": "t",
    "module": "model",
    "target": "emulator",
    "precision": "performance",
    "verdict": "pass",
    "clock": "model",
    "note": "traced",
}


def step(mesh: str, batch: int, seconds: float) -> Record:
    details = {"op linear": 0.7 * seconds, "op all_reduce": 0.3 * seconds, "flops": 1e9, "dram_bytes": 1e8}
    return Record(
        **BASE,
        metric="step_time",
        phase="decode",
        mesh=mesh,
        batch=batch,
        seq_len=128,
        value=seconds,
        samples=(seconds,),
        details=details,
    )


def test_speed_ops_and_roofline_are_drawn_and_said_in_words() -> None:
    """Each plot says its figures in its text, with the clock in its title."""
    speed, stack, roofline = pictures([step("1x1", 8, 0.010), step("1x2", 8, 0.008), step("1x1", 1, 0.009)])
    assert all("clock: model" in picture.title for picture in (speed, stack, roofline))
    assert "performance, batch 8: 100 on 1, 125 on 2" in speed.alt
    assert "1x2 performance: linear 5.60 ms, all_reduce 2.40 ms" in stack.alt
    assert "3 passes; the best reaches 0.12 TFLOP/s" in roofline.alt


def test_without_times_there_is_nothing_to_draw() -> None:
    """Other suites' records give no plot."""
    assert pictures([]) == []
    assert pictures([Record(**{**BASE, "clock": None}, metric="pcc", value=0.99)]) == []
