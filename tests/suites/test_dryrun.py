"""The suites under the dry run: real ops, no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("needs_ttnn")
Run = Callable[..., Any]
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

# Mistakes of a model, each in a function of its own, with ttnn's reason for refusing it.
MODEL = """
import torch
import ttnn


def tile(mesh_device, *shape):
    return ttnn.zeros(shape, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device)


def wrong_in0_block_w(mesh_device):
    x, weight = tile(mesh_device, 1, 1, 32, 64), tile(mesh_device, 1, 1, 64, 64)
    program = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=(8, 8), in0_block_w=3, out_subblock_h=1, out_subblock_w=1, per_core_M=1,
        per_core_N=1, fuse_batch=True, fused_activation=None, mcast_in0=True,
    )
    return ttnn.linear(x, weight, program_config=program)


def wrong_shard_spec(mesh_device):
    x = tile(mesh_device, 1, 1, 32, 64)
    spec = ttnn.create_sharded_memory_config(
        (32, 32), ttnn.num_cores_to_corerangeset(1, ttnn.CoreCoord(8, 8), True), ttnn.ShardStrategy.WIDTH,
        ttnn.ShardOrientation.ROW_MAJOR, use_height_and_width_as_shard_shape=True,
    )
    return ttnn.to_memory_config(x, spec)


def more_than_l1(mesh_device):
    x = tile(mesh_device, 1, 1, 8192, 8192)
    return ttnn.to_memory_config(x, ttnn.L1_MEMORY_CONFIG)


def wrong_layout(mesh_device):
    x = ttnn.to_layout(tile(mesh_device, 1, 1, 32, 64), ttnn.ROW_MAJOR_LAYOUT)
    return ttnn.rms_norm(x, epsilon=1e-5)


def host_read_in_a_trace(mesh_device):
    x = tile(mesh_device, 1, 1, 32, 64)
    ttnn.add(x, x)
    trace = ttnn.begin_trace_capture(mesh_device, cq_id=0)
    try:
        return ttnn.to_torch(ttnn.add(x, x))
    finally:
        ttnn.end_trace_capture(mesh_device, trace, cq_id=0)


def gather_over_a_wrong_dim(mesh_device):
    x = tile(mesh_device, 1, 1, 32, 64)
    return ttnn.all_gather(x, dim=4, topology=ttnn.Topology.Linear)
"""
MODEL_TESTS = """
import model
import pytest
import ttnn


@pytest.fixture(scope="module")
def mesh(tt_session):
    rows, columns = tt_session.mesh_shape
    if columns > 1:
        ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    device = ttnn.open_mesh_device(ttnn.MeshShape(rows, columns), trace_region_size=1 << 20)
    yield device
    ttnn.close_mesh_device(device)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_model(mesh, mistake):
    getattr(model, mistake)(mesh)
"""
REFUSALS = {
    "1x1": {
        "wrong_in0_block_w": ("ttnn.linear(x", "Kt (2) must be divisible by in0_block_w (3)"),
        "wrong_shard_spec": (
            "ttnn.to_memory_config(x, spec",
            "Number of shards along width 2 must not exceed",
        ),
        "more_than_l1": ("ttnn.to_memory_config(x, ttnn.L1", "Out of Memory: Not enough space to allocate"),
        "wrong_layout": ("ttnn.rms_norm(", "does not support ROW_MAJOR"),
        "host_read_in_a_trace": ("ttnn.to_torch(", "inside the capture of trace"),
    },
    "1x2": {"gather_over_a_wrong_dim": ("ttnn.all_gather(", "Invalid gather dim 4")},
}


@pytest.fixture
def dry(run_suites: Run) -> Run:
    """dry(*arguments) runs on the real ttnn with a mock cluster."""
    return lambda *arguments: run_suites("--tt-target=dryrun", *arguments)


@pytest.mark.parametrize(
    ("mesh", "precision"),
    [("1x1", "accuracy,bfp4_mlp"), pytest.param("1x2", "accuracy,performance", marks=pytest.mark.slow)],
)
def test_the_whole_model_is_legal_and_nothing_is_compared(dry: Run, mesh: str, precision: str) -> None:
    """On an N150 and an N300 modules and model pass, every record says that no number was compared, and why."""
    result = dry("suites/modules", "suites/model", f"--tt-mesh={mesh}", f"--tt-precision={precision}")
    assert result.status == 0, result.said[-3000:]
    assert len(result.records) > 200
    assert {record.verdict for record in result.records} == {"not_compared"}
    assert {record.note for record in result.records if "computes no" not in record.note} == set()
    assert result.results.environment.weights_digest is None, "no weights were read"


def test_a_refused_op_is_one_failing_test(dry: Run, tmp_path: Path) -> None:
    """Its first line names op, file and line, and ttnn's reason; a result of a wrong shape fails too."""
    tests = tmp_path / "test_mine.py"
    tests.write_text(WRONG)
    result = dry(str(tests))
    assert result.status == 1, result.said[-3000:]
    assert "2 failed, 1 passed" in result.said
    line = WRONG.splitlines().index("    ttnn.matmul(x, x)") + 1
    legal, refused, wrong_shape = result.records
    assert legal.verdict == "not_compared", "it ran, on zeros"
    assert f"ttnn.matmul at {tests}:{line}: The width of the first tensor must be equal" in refused.note
    assert refused.verdict == "regression"
    assert wrong_shape.verdict == "regression"


def test_a_native_crash_and_a_hang_are_one_failed_test_each(dry: Run, tmp_path: Path) -> None:
    """The real ttnn dies of a norm of a host tensor: its failure names op, file and line, and the next tests still run."""
    tests = tmp_path / "test_dying.py"
    tests.write_text(DYING)
    result = dry(str(tests), "--tt-time-limit=8")
    assert result.status == 1, result.said[-3000:]
    assert "2 failed, 1 passed" in result.said
    line = DYING.splitlines().index("    ttnn.rms_norm(x)") + 1
    records = {record.test.partition("::")[2]: record for record in result.records}
    crash, hang, after = records["test_crash"], records["test_hang"], records["test_after"]
    assert crash.note == f"ttnn.rms_norm at {tests}:{line}: the process crashed (Segmentation fault)"
    assert hang.note.startswith("time.sleep at ")
    assert hang.note.endswith("no answer within 8 s (--tt-time-limit)")
    assert (crash.verdict, hang.verdict, after.verdict) == ("regression", "regression", "not_compared")


@pytest.mark.parametrize("mesh", sorted(REFUSALS))
def test_each_mistake_of_a_model_is_one_failing_test(dry: Run, tmp_path: Path, mesh: str) -> None:
    """Its first line names the op, the model's file and line, and ttnn's own reason, on one device and on two."""
    expected = REFUSALS[mesh]
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    tests = tmp_path / "test_model.py"
    tests.write_text(MODEL_TESTS.replace("MISTAKES", repr(list(expected))))
    result = dry(str(tests), f"--tt-mesh={mesh}", f"--rootdir={tmp_path}", "-o", f"pythonpath={tmp_path}")
    assert result.status == 1, result.said[-3000:]
    assert f"{len(expected)} failed" in result.said
    notes = {record.test.partition("[")[2].rstrip("]"): record.note for record in result.records}
    for mistake, (call, reason) in expected.items():
        line = next(n for n, text in enumerate(MODEL.splitlines(), 1) if call in text)
        op = call.partition("(")[0]
        assert f"{op} at {model}:{line}: " in notes[mistake], notes[mistake]
        assert reason in notes[mistake]


def test_the_emulator_takes_the_real_ops_on_two_devices(run_suites: Run) -> None:
    """The op streams of a split model, collectives included, are the same op by op."""
    result = run_suites("suites/conformance/test_stream.py", "--tt-mesh=1x2", "--tt-precision=accuracy")
    assert result.status == 0, result.said[-3000:]
    (record,) = result.records
    assert (record.metric, record.value, record.mesh) == ("op_differences", 0, "1x2")
    assert record.n > 1000
