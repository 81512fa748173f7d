"""Two arms of results files: regressions, new bests, and states where nothing can be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.results.schema import Environment, Record, write_results

STEP: dict[str, Any] = {
    "test": "suites/latency/test_latency.py::test_decode[32]",
    "module": "model",
    "target": "silicon",
    "precision": "performance",
    "phase": "decode",
    "batch": 32,
    "seq_len": 128,
    "verdict": "pass",
}


def session(folder: Path, name: str, *records: Record) -> str:
    environment = Environment.collect(target="silicon", mesh="1x1", model="m")
    write_results(folder / f"{name}.json", environment, records)
    return str(folder / f"{name}.json")


def timed(seconds: float, clock: Any = "host", **details: float) -> Record:
    samples = tuple(seconds * (1 + 0.001 * i) for i in range(5))
    return Record(
        **STEP, metric="step_time", value=seconds, clock=clock, samples=samples, details={**details}
    )


def arm(folder: Path, name: str, seconds: float, sessions: int = 3) -> str:
    return ",".join(session(folder, f"{name}{i}", timed(seconds * (1 + 0.001 * i))) for i in range(sessions))


def compare(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["compare", *arguments])
    return result.exit_code, result.output


def test_a_slowdown_is_a_regression_and_a_speed_up_never_is(tmp_path: Path) -> None:
    """10% either way, three sessions an arm."""
    slow, fast = arm(tmp_path, "slow", 0.011), arm(tmp_path, "fast", 0.010)
    status, output = compare(fast, slow)
    assert status == 1
    assert output.startswith(
        "regression: performance model decode, batch 32, seq 128, mesh 1x1: step_time [test_decode[32]]: +10"
    )
    status, output = compare(slow, fast)
    assert status == 0
    assert "new best" in output
    assert "can be the new one" in output


def test_two_sessions_are_inconclusive_and_say_what_to_run(tmp_path: Path) -> None:
    """However large the difference."""
    status, output = compare(arm(tmp_path, "a", 0.01, 2), arm(tmp_path, "b", 0.02, 2))
    assert status == 2
    assert "inconclusive: " in output
    assert "give 3 or more" in output


def test_a_missing_baseline_and_a_vanished_figure_are_named(tmp_path: Path) -> None:
    """The first is no verdict, the second a regression."""
    empty = session(tmp_path, "empty")
    full = session(tmp_path, "full", timed(0.01))
    assert compare(empty, full)[0] == 2
    assert "missing baseline: " in compare(empty, full)[1]
    assert compare(full, empty)[0] == 1
    assert "vanished: " in compare(full, empty)[1]
    assert compare(empty, empty)[0] == 2


def test_modelled_times_compare_exactly_and_name_the_op(tmp_path: Path) -> None:
    """One session an arm is enough; the op whose time grew is the cause."""
    before = timed(0.0100, "model", **{"op linear": 0.008, "op add": 0.002})
    after = timed(
        0.0101, "model", **{"op linear": 0.008, "op add": 0.002, "op sharded_to_interleaved": 0.0001}
    )
    status, output = compare(session(tmp_path, "a", before), session(tmp_path, "b", after))
    assert status == 1
    assert "+1.0%, modelled (sharded_to_interleaved +100 us)" in output


def test_counters_are_exact_and_clocks_do_not_mix(tmp_path: Path) -> None:
    """One op more is a regression; a measured time is not held against a modelled one."""
    ops = [Record(**STEP, metric="ops", value=value) for value in (100.0, 101.0)]
    files = [session(tmp_path, f"c{i}", record) for i, record in enumerate(ops)]
    status, output = compare(*files)
    assert status == 1
    assert "ops [test_decode[32]]: 101, baseline 100" in output
    status, output = compare(
        session(tmp_path, "h", timed(0.01)), session(tmp_path, "m", timed(0.01, "model"))
    )
    assert status == 2
    assert "host and model clocks, which cannot be compared" in output


def test_files_that_are_not_results_end_it_in_one_line(tmp_path: Path) -> None:
    """Status 2, and the file is named."""
    status, output = compare(str(tmp_path / "none.json"), arm(tmp_path, "a", 0.01))
    assert status == 2
    assert output == f"error: cannot read results {tmp_path / 'none.json'}: No such file or directory\n"


def test_history_keeps_runs_and_finds_the_one_that_was_slower(tmp_path: Path) -> None:
    """Ten runs, 8% slower from the seventh on; a run is never overwritten; the plot is an SVG."""
    store = tmp_path / "history"
    for run in range(10):
        results = session(tmp_path, "r", timed(0.01 * (1.08 if run >= 6 else 1) * (1 + 0.002 * (run % 3))))
        added = CliRunner().invoke(app, ["history", str(store), "--add", results, "--run", f"run{run}"])
        assert added.exit_code == 0, added.output
    plot = tmp_path / "steps.svg"
    output = CliRunner().invoke(app, ["history", str(store), "--plot", str(plot)])
    assert output.output.splitlines()[0].startswith("run6: performance model decode")
    assert "7.9% slower" in output.output
    assert "1 figures over 10 runs, 1 with a step" in output.output
    assert plot.read_text().startswith("<svg")
    again = CliRunner().invoke(app, ["history", str(store), "--add", results, "--run", "run3"])
    assert again.exit_code == 2
    assert "File exists" in again.output


@pytest.mark.parametrize("arguments", [["--run", "x"], ["--add", "x.json", "--run", "a/b"]])
def test_history_refuses_half_of_a_run(tmp_path: Path, arguments: list[str]) -> None:
    """A run has a name, and a name no slash."""
    result = CliRunner().invoke(app, ["history", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert result.output.startswith("error: give --add and --run together")
