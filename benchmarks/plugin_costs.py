"""What the plugin costs a test: CPU time of pytest over many tests that file six records each, beside the same tests without it.

    python benchmarks/plugin_costs.py

Each figure is the slope between a short and a long run, so that starting up does not count; runs with and without the plugin
take turns. The records are of values at hand: what a test computes is not the plugin's cost.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

FEW, MANY, TURNS = 100, 1100, 3  # tests of a run; turns
WITH = """
import pytest

VALUES = {"pcc": 1.0, "worst_row_pcc": 1.0, "rel_l2": 0.0, "worst_row_rel_l2": 0.0, "norm_error": 0.0, "nonfinite": 0.0}

@pytest.mark.parametrize("i", range(%d))
def test_it(recorder, tt_precision, i):
    recorder.judge(VALUES, n=1024, module="mlp")
"""
WITHOUT = """
import pytest

@pytest.mark.parametrize("i", range(%d))
def test_it(i):
    pass
"""


def cpu_seconds(source: str, tests: int, *options: str) -> float:
    """Of one run of pytest, user and system."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_it.py").write_text(source % tests, encoding="utf-8")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def slope(source: str, *options: str) -> float:
    """Seconds a test."""
    return (cpu_seconds(source, MANY, *options) - cpu_seconds(source, FEW, *options)) / (MANY - FEW)


def main() -> None:
    """Prints milliseconds a test."""
    ours, plain = [], []
    for _ in range(TURNS):
        ours.append(slope(WITH, "--tt-results=results.json"))
        plain.append(slope(WITHOUT, "-p", "no:tt_harness"))
    cost = median(ours) - median(plain)
    print(
        f"with the plugin {1e3 * median(ours):.2f} ms a test of six records, without {1e3 * median(plain):.2f} ms"
    )
    print(f"the plugin: {1e3 * cost:.2f} ms a test (CPU time, median of {TURNS} turns)")


if __name__ == "__main__":
    main()
