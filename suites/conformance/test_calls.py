"""Every op the emulator has, called alone, legally and illegally: it must answer as the real ttnn does."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from harness.conformance.calls import CASES, STRICTER

TIME_LIMIT = 300  # seconds for all calls under one target


def answers(target, folder) -> dict[str, str]:
    file = folder / f"{target}.json"
    command = [sys.executable, "-m", "harness.conformance.calls", target, str(file)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert process.returncode == 0, (
        f"target {target} ended with {process.returncode}: {process.stderr.strip()[-500:]}"
    )
    return json.loads(file.read_text())


def test_emulator_answers_as_the_real_ttnn(tmp_path, recorder):
    """The result's shape, padded shape, dtype, layout, place and shards, or the refusal, of each call."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: nothing to hold the emulator against")
    ours, real = answers("emulator", tmp_path), answers("dryrun", tmp_path)
    assert ours.keys() == real.keys() == CASES.keys()
    unlike = [name for name in CASES if ours[name] != real[name] and name not in STRICTER]
    refused = sum(outcome == "refused" for outcome in real.values())
    details = {
        "legal": float(len(real) - refused),
        "illegal": float(refused),
        "stricter_on_purpose": float(len(STRICTER)),
    }
    told = [f"{name}: {CASES[name]['call']}: emulator {ours[name]}, ttnn {real[name]}" for name in unlike]
    recorder.judge(
        {"op_differences": float(len(unlike))}, len(CASES), "ops", details=details, note="; ".join(told)
    )
