"""The dry run as a target: what it offers, what it sets, what it refuses."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from harness.targets import dryrun, silicon, ttsim, wheel

Run = Callable[..., subprocess.CompletedProcess[str]]

OPEN = """
import torch, ttnn
rows, columns = map(int, active().mesh.split("x"))
if columns > 1:
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
mesh = ttnn.open_mesh_device(ttnn.MeshShape(rows, columns))
everywhere = ttnn.ReplicateTensorToMesh(mesh)
x = ttnn.from_torch(
    torch.ones(1, 1, 32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=everywhere
)
"""


@pytest.mark.parametrize(
    ("arch", "mesh", "devices", "cores"),
    [
        ("wormhole_b0", "1x1", 1, "8x8"),
        ("wormhole_b0", "1x2", 2, "8x8"),
        ("wormhole_b0", "1x8", 8, "8x8"),
        pytest.param("wormhole_b0", "2x4", 8, "8x8", marks=pytest.mark.slow),
        pytest.param("wormhole_b0", "8x4", 32, "8x10", marks=pytest.mark.slow),
        ("blackhole", "1x1", 1, "13x10"),
    ],
)
def test_every_cluster_opens_and_runs(dry: Run, arch: str, mesh: str, devices: int, cores: str) -> None:
    """The real ttnn sees the board's devices and worker cores, and runs an op and, over several, a collective."""
    gather = "print(list(ttnn.all_gather(x, dim=3, cluster_axis=1, topology=ttnn.Topology.Linear).shape))"
    columns = int(mesh.partition("x")[2])
    result = dry(
        OPEN
        + "grid = mesh.compute_with_storage_grid_size()\n"
        + "print(mesh.get_num_devices(), f'{grid.x}x{grid.y}', list(ttnn.add(x, x).shape))\n"
        + (gather if devices > 1 else ""),
        mesh,
        arch,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    expected = [f"{devices} {cores} [1, 1, 32, 64]"] + [f"[1, 1, 32, {64 * columns}]"] * (devices > 1)
    assert result.stdout.splitlines() == expected


def test_nothing_is_computed_and_nothing_is_left_behind(dry: Run, tmp_path: Path) -> None:
    """Read-backs are zeros, the target says so, and the current folder stays empty."""
    result = dry(
        OPEN + "print(ttnn.to_torch(ttnn.add(x, x)).abs().max().item(), active().computes, active().what)"
    )
    assert result.returncode == 0, result.stderr[-2000:]
    number, computes, *what = result.stdout.split()
    assert (number, computes) == ("0.0", "False")
    assert what[:3] == ["mock", "N150,", "ttnn"]
    assert not list(tmp_path.iterdir())


REFUSED = {
    "in0_block_w": (
        "ttnn.matmul(x, weight, program_config=ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig("
        "compute_with_storage_grid_size=(8, 8), in0_block_w=3, out_subblock_h=1, out_subblock_w=1, per_core_M=1,"
        " per_core_N=1, fuse_batch=True, fused_activation=None, mcast_in0=True))",
        "Kt (2) must be divisible by in0_block_w (3)",
    ),
    "shard spec": (
        "ttnn.to_memory_config(x, ttnn.create_sharded_memory_config((32, 32),"
        " ttnn.num_cores_to_corerangeset(1, ttnn.CoreCoord(8, 8), True), ttnn.ShardStrategy.WIDTH,"
        " ttnn.ShardOrientation.ROW_MAJOR, use_height_and_width_as_shard_shape=True))",
        "Number of shards along width 2 must not exceed number of cores 1",
    ),
    "L1": (
        "ttnn.to_memory_config(ttnn.zeros((1, 1, 8192, 8192), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT,"
        " device=mesh), ttnn.L1_MEMORY_CONFIG)",
        "Out of Memory: Not enough space to allocate 134217728 B L1 buffer across 64 banks",
    ),
    "layout": (
        "ttnn.rms_norm(ttnn.to_layout(x, ttnn.ROW_MAJOR_LAYOUT), epsilon=1e-5)",
        "does not support ROW_MAJOR input tensors",
    ),
    "arguments": ("ttnn.argmax(x, use_multicore=True)", "incompatible function arguments"),
}


def test_illegal_calls_are_refused_with_ttnns_own_reason(dry: Run) -> None:
    """The op, the line that called it, and why, for each kind of mistake; the process lives on."""
    lines = [OPEN, "from harness.ttnn_calls.refusals import OpRefused, explained"]
    lines += [
        "weight = ttnn.zeros((1, 1, 64, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)"
    ]
    for call, _ in REFUSED.values():
        lines += ["try:", "    with explained():", f"        {call}", "except OpRefused as error:"]
        lines += ["    print(error)", "else:", "    print('accepted')"]
    result = dry("\n".join(lines))
    assert result.returncode == 0, result.stderr[-2000:]
    output = result.stdout.splitlines()
    assert len(output) == len(REFUSED)
    for line, (call, reason) in zip(output, REFUSED.values(), strict=True):
        assert line.startswith(f"{call.partition('(')[0]} at <string>:"), line
        assert reason in line


@pytest.mark.parametrize(
    ("arch", "mesh"), [("wormhole_b0", "2x2"), ("wormhole_b0", "4x8"), ("blackhole", "1x2")]
)
def test_a_mesh_without_a_cluster_is_refused(arch: str, mesh: str) -> None:
    """One line that names the mesh and those there are."""
    with pytest.raises(ValueError, match=f"^mesh '{mesh}': the dry run offers 1x1.*on {arch}") as caught:
        dryrun.activate(mesh, arch)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [dryrun, ttsim, silicon])
def test_a_python_without_ttnn_is_refused(target: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says how to get it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    name = target.__name__.rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"^target '{name}': ttnn is not installed .*pip install ttnn$"):
        target.activate("1x1", "wormhole_b0")


def test_only_a_native_compiler_counts_as_sfpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in sfpi's place is somebody's stand-in; a program is used and named."""
    monkeypatch.setattr(wheel, "SYSTEM_SFPI", tmp_path / "system")
    compiler = tmp_path / "runtime" / "sfpi" / wheel.COMPILER
    assert wheel.real_sfpi(tmp_path) is None
    compiler.parent.mkdir(parents=True)
    compiler.write_text("#!/bin/sh\n")
    assert wheel.real_sfpi(tmp_path) is None
    compiler.write_bytes(b"\x7fELF and so on")
    assert wheel.real_sfpi(tmp_path) == tmp_path / "runtime" / "sfpi"
