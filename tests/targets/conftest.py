"""A process of its own for each look at the real ttnn: a target is for good."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from harness.targets import wheel

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty harness cache, shared by the session's processes: the first of them runs cold."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def needs_ttnn() -> None:
    """Skips where this Python has no ttnn: what the real one does is then not checked."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: what the real one does is not checked")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Environment variables of the test's own, which a target may set, and a cache in the test's folder."""
    monkeypatch.setattr(os, "environ", os.environ | {"TT_HARNESS_CACHE": str(tmp_path / "cache")})
    return monkeypatch


@pytest.fixture
def wheel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a ttnn 0.81.1 that is said to be installed and can be imported; it has no compiler, nor has the system."""
    folder = tmp_path / "ttnn"
    monkeypatch.setattr(wheel, "installed", lambda target: (folder, "0.81.1"))
    monkeypatch.setattr(wheel, "imported", lambda target, version: None)
    monkeypatch.setattr(wheel, "SYSTEM_SFPI", tmp_path / "system")
    return folder


@pytest.fixture
def dry(needs_ttnn: None, kernel_cache: Path, tmp_path: Path) -> Run:
    """dry(source, mesh="1x1", arch="wormhole_b0"): runs Python source after the dry run is activated; its stdout."""

    def run(source: str, mesh: str = "1x1", arch: str = "wormhole_b0") -> subprocess.CompletedProcess[str]:
        head = f"from harness.targets import activate, active\nactivate('dryrun', mesh={mesh!r}, arch={arch!r})\n"
        return subprocess.run(
            [sys.executable, "-c", head + source],
            env=os.environ | {"TT_HARNESS_CACHE": str(kernel_cache)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def shadow(needs_ttnn: None, kernel_cache: Path, tmp_path: Path) -> Run:
    """shadow(source, mesh="1x1", mode="exact"): runs Python source with a mesh open on target shadow; it must not fail.

    The source has ttnn, torch, `mesh`, `tile(values, dtype)` on the device, `back(tensor)` in float32, `packed(values)` as the
    packer rounds them to bfloat16, `coverage()` and `source_of(op)`.
    """

    def run(source: str, mesh: str = "1x1", mode: str = "exact") -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [sys.executable, "-c", SHADOWED.format(mesh=mesh, mode=mode) + source],
            env=os.environ | {"TT_HARNESS_CACHE": str(kernel_cache)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr[-3000:]
        return process

    return run


SHADOWED = """
from harness.targets import activate
activate("shadow", mesh="{mesh}", mode="{mode}")
import torch, ttnn
from harness.targets.shadow import Source, coverage
rows, columns = map(int, "{mesh}".split("x"))
if rows * columns > 1:
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
mesh = ttnn.open_mesh_device(ttnn.MeshShape(rows, columns), trace_region_size=1 << 20, num_command_queues=2)
torch.manual_seed(0)
def tile(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, **more):
    return ttnn.from_torch(values, dtype=dtype, layout=layout, device=mesh, **more)
def back(tensor, **more):
    return ttnn.to_torch(tensor, **more).float()
def packed(values):
    from harness.emulator.arithmetic import formats
    from harness.emulator.spec.types import DataType
    return formats.pack_round(values, DataType.BFLOAT16).float()
def source_of(op):
    return [source for name, source in coverage().counts if name == op]
"""
