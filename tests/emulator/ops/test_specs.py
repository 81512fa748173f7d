"""What the real ttnn 0.81.1 answered to the calls of suites/conformance: the emulator must answer the same, also where no
ttnn is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.calls import CASES, STRICTER, scope
from harness.emulator import DeviceError, api


@cache
def names() -> dict[str, Any]:
    return scope(api)


@pytest.mark.parametrize("name", CASES)
def test_emulator_answers_as_recorded_from_ttnn(name: str) -> None:
    """The result's spec, or the refusal, is the one recorded from the real ttnn."""
    known, case = names(), CASES[name]
    if case["outcome"] == "refused" or name in STRICTER:
        with pytest.raises((DeviceError, TypeError), match=r"^ttnn\.[a-z_.0-9A-Z]+: [^\n]+$"):
            eval(case["call"], known)
    else:
        assert known["describe"](eval(case["call"], known)) == case["outcome"]


def test_the_record_is_what_the_installed_ttnn_answers(tmp_path: Path) -> None:
    """Every recorded outcome is what the installed ttnn gives today."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed: compared with recorded outcomes only")
    outcomes = tmp_path / "outcomes.json"
    command = [sys.executable, "-m", "harness.conformance.calls", "dryrun", str(outcomes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(outcomes.read_text()) == {name: case["outcome"] for name, case in CASES.items()}
