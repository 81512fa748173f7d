"""The latency suite without a card: the device model's clock, the same under the emulator and the real ttnn's dry run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.results.schema import Record

Run = Callable[..., Any]
SUITE = ("suites/latency", "--tt-precision=performance", "-k")


def times(records: tuple[Record, ...]) -> dict[tuple[object, ...], float | None]:
    return {(r.test, r.metric): r.value for r in records if r.metric in ("ttft", "step_time")}


@pytest.mark.alone
def test_every_latency_names_its_clock_and_pytest_benchmark_shows_them(run_suites: Run) -> None:
    """Traced and not, one layer and all; the table of pytest-benchmark says that nothing was measured."""
    result = run_suites(*SUITE, "(prefill and 128) or (decode and 8-128)")
    assert result.status == 0
    assert {r.clock for r in result.records} == {"model"}
    latencies = times(result.records)
    assert len(latencies) == 6
    by_name = {str(test).partition("[")[2].rstrip("]"): value for (test, _), value in latencies.items()}
    assert by_name["performance-8-128-trace-model"] < by_name["performance-8-128-no-trace-model"] / 3
    assert by_name["performance-8-128-trace-layer"] < by_name["performance-8-128-trace-model"] / 3
    assert "benchmark 'clock: model, not measured'" in result.said
    assert "Decode step, performance; clock: model, not measured" in result.said


def test_where_nothing_is_traced_the_suites_say_so(run_suites: Run) -> None:
    """Untraced steps have their times; traced ones and what is only about traces say why not, and counters are there."""
    which = "8-128-trace-layer or 8-128-no-trace-layer or greedy_text"
    result = run_suites("-p", "tests.suites.no_traces", "suites/latency", "suites/features", "-k", which)
    assert result.status == 0, result.said
    assert set(times(result.records)) == {
        (next(r.test for r in result.records if f"{kind}-layer" in r.test), "step_time")
        for kind in ("8-128-trace", "8-128-no-trace")
    }
    (traced,) = (r for r in result.records if "8-128-trace-layer" in r.test)
    assert (traced.verdict, traced.value) == ("not_compared", None)
    assert "this target runs no trace (emulated Wormhole, mode device)" in traced.note
    assert traced.details["ops"] > 0
    (skipped,) = (r for r in result.records if "greedy_text" in r.test)
    assert skipped.verdict == "not_compared"
    assert "emulator runs no trace" in skipped.note


@pytest.mark.slow
def test_the_real_ttnn_in_a_worker_gives_the_same_times(run_suites: Run, needs_ttnn: None) -> None:
    """The op logs are the same. There pytest-benchmark is off, and the records say so."""
    few = (*SUITE, "128-layer or 8-128-trace-layer")
    emulated = times(run_suites(*few).records)
    real = run_suites(*few, "--tt-target=dryrun")
    assert times(real.records) == {key: pytest.approx(value, rel=1e-9) for key, value in emulated.items()}
    assert all("pytest-benchmark is off here (pytest-xdist)" in r.note for r in real.records)
