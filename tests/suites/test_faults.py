"""The suites see what they are for: each planted mistake turns a module test and an accuracy test red."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.faults import FAULTS

ROOT = Path(__file__).parents[2]
Run = Callable[..., Any]
# Where a fault lies only in decode, prefill's accuracy cannot see it.
ACCURACY_TEST = {
    "shift_positions": "test_teacher_forced_decode",
    "values_cached_as_keys": "test_teacher_forced_decode",
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_is_seen_by_a_module_and_by_an_accuracy_test(fault: str, run_suites: Run) -> None:
    """A model with the fault planted fails at least one test of suites/modules and one of suites/accuracy."""
    accuracy = ACCURACY_TEST.get(fault, "test_prefill")
    done = run_suites(
        "suites/modules/test_rope.py",
        "suites/modules/test_attention.py",
        f"suites/accuracy/test_text.py::{accuracy}",
        "--tt-update-goldens",
        "--tt-emulator-mode=fast",
        *("-p", "harness.faults", "--tt-fault", fault),
    )
    assert done.status == 1
    assert {record.test.split("/")[1] for record in done.red} == {"modules", "accuracy"}


def test_an_unknown_fault_is_refused_in_one_line() -> None:
    """A mistyped fault name does not run a healthy model in its place."""
    command = [sys.executable, "-m", "pytest", "suites", "-p", "harness.faults", "--tt-fault", "typo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "fault 'typo': choose one of" in done.stdout + done.stderr
