"""How results come to be: memory before values, and what ops are declared to be."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.emulator import Kind, OutOfMemoryError, api, declarations
from harness.emulator.runtime.execution import executing, make_tensor
from harness.emulator.runtime.shapes_only import ShapesOnly


@pytest.fixture
def device() -> Iterator[Any]:
    mesh = api.open_mesh_device(api.MeshShape(1, 1))
    yield mesh
    api.close_mesh_device(mesh)


def result_of(device: Any, shape: tuple[int, ...], compute: Any) -> Any:
    spec = api.Shape(shape), api.bfloat16, api.TILE_LAYOUT, api.L1_MEMORY_CONFIG
    return make_tensor("ttnn.relu", compute, *spec, device)


def test_what_does_not_fit_is_not_computed(device: Any) -> None:
    """Out of memory is found before the work, not after it."""
    with pytest.raises(OutOfMemoryError, match=r"^ttnn\.relu: "):
        result_of(device, (1 << 15, 1 << 15), lambda: pytest.fail("computed"))


def test_a_computation_that_fails_leaves_no_memory_taken(device: Any) -> None:
    """Also while its error is looked at."""
    before = device.allocator.usage(api.L1).allocated
    with pytest.raises(ZeroDivisionError):
        result_of(device, (32, 32), lambda: [torch.zeros(32, 32) / (1 // 0)])
    assert device.allocator.usage(api.L1).allocated == before


def test_shapes_only_computes_nothing(device: Any) -> None:
    """A result has memory and a spec; an op that writes in place writes nothing."""
    x = api.from_torch(torch.ones(32, 32), dtype=api.bfloat16, layout=api.TILE_LAYOUT, device=device)
    with executing(ShapesOnly()):
        y = result_of(device, (32, 64), lambda: pytest.fail("computed"))
        api.copy(api.add(x, 1.0), x)
    assert (tuple(y.shape), y.is_allocated()) == ((32, 64), True)
    assert bool((api.to_torch(x) == 1).all())


@pytest.mark.parametrize("name", [name for name, op in declarations().items() if op.writes])
def test_what_an_op_writes_to_is_an_argument(name: str) -> None:
    """By place or by name it is found in a call."""
    op = declarations()[name]
    names = list(inspect.signature(op.function).parameters)
    assert op.kind in (Kind.IN_PLACE, Kind.TRANSFER)
    assert op.written((), dict(zip(names, names, strict=True))) == list(op.writes)
    last = max(map(names.index, op.writes))
    assert op.written(tuple(names[: last + 1]), {}) == list(op.writes)


def test_ops_in_place_say_what_they_write_to() -> None:
    """No op is in place without it."""
    assert all(op.writes for op in declarations().values() if op.kind is Kind.IN_PLACE)
