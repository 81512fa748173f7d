"""The suites under the dry run: real ops, no numbers."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from harness.records import read_results

ROOT = Path(__file__).parents[2]
WRONG = """
import torch
import ttnn


def tile(mesh_device, *shape):
    return ttnn.from_torch(torch.zeros(shape), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device)


def test_legal(mesh_device):
    ttnn.matmul(tile(mesh_device, 1, 1, 32, 64), tile(mesh_device, 1, 1, 64, 32))


def test_illegal(mesh_device):
    x = tile(mesh_device, 1, 1, 32, 64)
    ttnn.matmul(x, x)


def test_wrong_shape(mesh_device, recorder):
    recorder.compare(ttnn.to_torch(tile(mesh_device, 1, 1, 32, 64)), torch.zeros(1, 1, 64, 32), "mlp")
"""

DYING = """
import time

import torch
import ttnn


def test_crash():
    x = ttnn.from_torch(torch.zeros(1, 1, 32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
    ttnn.rms_norm(x)


def test_hang():
    time.sleep(600)


def test_after(mesh_device, recorder):
    recorder.compare(torch.zeros(32, 64), torch.zeros(32, 64), "mlp")
"""


@pytest.fixture(autouse=True)
def _needs_ttnn() -> None:
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: the dry run cannot be tried")


def run(results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tt-target", "dryrun"]
    command += ["--tt-mesh", "1x1", "--tt-results", str(results), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_whole_model_is_legal_and_nothing_is_compared(tmp_path: Path) -> None:
    """Modules and model pass, every record says that no number was compared, and why."""
    done = run(
        tmp_path / "results.json", "suites/modules", "suites/model", "--tt-precision", "accuracy,bfp4_mlp"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    results = read_results(tmp_path / "results.json")
    assert len(results.records) > 200
    assert {record.verdict for record in results.records} == {"not_compared"}
    assert {record.note for record in results.records if "computes none" not in record.note} == set()
    assert results.environment.weights_digest is None, "no weights were read"


def test_a_refused_op_is_one_failing_test(tmp_path: Path) -> None:
    """Its first line names op, file and line, and ttnn's reason; a result of a wrong shape fails too."""
    tests = tmp_path / "test_mine.py"
    tests.write_text(WRONG)
    done = run(tmp_path / "results.json", str(tests), "--tb=short")
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert "2 failed, 1 passed" in done.stdout
    line = WRONG.splitlines().index("    ttnn.matmul(x, x)") + 1
    refused, wrong_shape = read_results(tmp_path / "results.json").records
    assert f"ttnn.matmul at {tests}:{line}: The width of the first tensor must be equal" in refused.note
    assert refused.verdict == "regression"
    assert wrong_shape.verdict == "regression"


def test_a_native_crash_and_a_hang_are_one_failed_test_each(tmp_path: Path) -> None:
    """The real ttnn dies of a norm of a host tensor: its failure names op, file and line, and the next tests still run."""
    tests = tmp_path / "test_dying.py"
    tests.write_text(DYING)
    done = run(tmp_path / "results.json", str(tests), "--tt-time-limit=8")
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert "2 failed, 1 passed" in done.stdout
    line = DYING.splitlines().index("    ttnn.rms_norm(x)") + 1
    records = {
        record.test.partition("::")[2]: record for record in read_results(tmp_path / "results.json").records
    }
    crash, hang, after = records["test_crash"], records["test_hang"], records["test_after"]
    assert crash.note == f"ttnn.rms_norm at {tests}:{line}: the process crashed (Segmentation fault)"
    assert hang.note.startswith("time.sleep at ")
    assert hang.note.endswith("no answer within 8 s (--tt-time-limit)")
    assert (crash.verdict, hang.verdict, after.verdict) == ("regression", "regression", "not_compared")
