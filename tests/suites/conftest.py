"""Runs of whole suites, each in a pytest of its own from the project's root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from harness.results.schema import Record, Results, read_results

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """A run that left results: pytest's exit status, what it printed, what it filed."""

    status: int
    said: str
    results: Results

    @property
    def records(self) -> tuple[Record, ...]:
        """All records."""
        return self.results.records

    @property
    def red(self) -> list[Record]:
        """The regressions."""
        return [record for record in self.records if record.verdict == "regression"]


@pytest.fixture
def run_suites(tmp_path: Path) -> Callable[..., Finished]:
    """run_suites(*arguments) runs pytest with them and reads the results it must leave."""

    def run(*arguments: str) -> Finished:
        file = tmp_path / "results.json"
        file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        command += [f"--tt-results={file}", *arguments]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert file.exists(), process.stdout[-2000:] + process.stderr[-2000:]
        return Finished(process.returncode, process.stdout, read_results(file))

    return run


@pytest.fixture
def needs_ttnn() -> None:
    """Skips where this Python has no ttnn: ops, refusals and counters of the real one are then not checked."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: what the real ttnn answers is not checked")
