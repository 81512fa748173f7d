"""Packages that others publish, unmodified, on target shadow: a T3K on a mock cluster, and how their results are judged."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.metrics import pcc
from harness.targets import active, shadow

GATE = 0.999  # PCC to PyTorch in the module's own precision

sys.path.insert(0, str(Path(__file__).parent))  # for what its tests share
os.environ.setdefault("MESH_DEVICE", "T3K")  # tt-symbiote's modules admit no other


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Collected on target shadow only: `.ci/foreign` runs them, with the packages installed."""
    return True if collection_path.name.startswith("test_") and active().name != "shadow" else None


@pytest.fixture(scope="session")
def t3k() -> Iterator[Any]:
    """All eight devices, linked in a ring; for a run with `--tt-mesh 1x8`."""
    import ttnn

    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D_RING)
    yield from _opened(8)


@pytest.fixture(scope="session")
def one() -> Iterator[Any]:
    """One device; for a run with `--tt-mesh 1x1`. tt-symbiote knows one mesh a process."""
    yield from _opened(1)


def _opened(devices: int) -> Iterator[Any]:
    import ttnn

    mesh = ttnn.open_mesh_device(mesh_shape=ttnn.MeshShape(1, devices), trace_region_size=50_000_000)
    yield mesh
    ttnn.close_mesh_device(mesh)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Seeded, without gradients."""
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def no_fallback() -> Iterator[None]:
    """tt-symbiote runs PyTorch where ttnn raises, with a warning: what it then computes says nothing of the device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="TTNN forward failed")
        warnings.filterwarnings("error", message="set_device: failed")
        yield


@pytest.fixture
def as_pytorch() -> Callable[[Any, torch.Tensor], None]:
    """as_pytorch(actual, expected): every value is known, none is a fallback's, and PCC is at least `GATE`."""

    def check(actual: Any, expected: torch.Tensor) -> None:
        import ttnn

        values = (
            ttnn.to_torch(actual) if isinstance(actual, ttnn.Tensor) else getattr(actual, "to_torch", actual)
        )
        assert shadow.coverage().weakest_read in (shadow.Source.EXACT, shadow.Source.GOLDEN), unknown()
        assert pcc(values.float().reshape(expected.shape), expected.float()) >= GATE

    def unknown() -> dict[str, str]:
        found = shadow.coverage().reasons
        return {op: why for (op, source), why in found.items() if source is shadow.Source.NONE}

    return check
