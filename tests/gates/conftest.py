"""A baseline, and runs held against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.results.schema import Record
from tests.gates.runs import RECORDS, Said, command, results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def baseline(folder: Path) -> Path:
    path = folder / "baseline.json"
    result = command(
        "baseline", "update", results(folder / "old.json"), "--baseline", path, "--reason", "the first"
    )
    assert result.status == 0, result
    return path


@pytest.fixture
def gate(folder: Path, baseline: Path) -> Callable[..., Said]:
    """gate(records, **environment) holds a run against the baseline of RECORDS."""

    def run(records: Iterable[Record] = RECORDS, *options: object, **environment: Any) -> Said:
        return command(
            "gate", results(folder / "new.json", records, **environment), "--baseline", baseline, *options
        )

    return run
