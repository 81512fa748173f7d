"""How an op's result comes to be: the op gives its spec and a function that computes its values, the executor does the rest.

An op checks its arguments, then hands both to `make_tensor`, `make_view` or `write`. The executor in force allocates the memory
and has the values computed: at once (`Executor`), when the trace that is being captured runs (`capture.Capture`), or not
at all (`shapes_only.ShapesOnly`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.emulator.mesh import device
from harness.emulator.mesh.device import MeshDevice, Storage
from harness.emulator.runtime.declarations import UNCOMPILED, Op
from harness.emulator.runtime.distinct_shards import run_distinct
from harness.emulator.runtime.tensor import Compute, Shards, Tensor, device_of
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType, Layout


class Executor:
    """Runs ops when they are called; memory is allocated before anything is computed."""

    def call(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An op's call, its arguments settled."""
        if device.several_opened:
            return run_distinct(op, args, kwargs)
        return op.function(*args, **kwargs)

    def make(self, op: str, compute: Compute, tensor: Tensor, mesh: MeshDevice) -> Tensor:
        """A new tensor; `tensor` has its spec, and neither memory nor values."""
        storage = allocated(op, tensor, mesh)
        try:
            tensor.shards = Shards(compute())
        except BaseException:
            storage.free()
            raise
        tensor.storage = storage
        return tensor

    def view(self, compute: Compute, tensor: Tensor) -> Tensor:
        """Another tensor on memory there is; `tensor` has its spec and memory, and no values."""
        tensor.shards = Shards(compute())
        return tensor

    def write(self, compute: Callable[[], None], target: Tensor) -> None:
        """A tensor is written in place."""
        overwrite(target, compute)

    def host_value(
        self, compute: Callable[[], torch.Tensor], shape: tuple[int, ...], dtype: DataType
    ) -> torch.Tensor:
        """A value that the host computes for the device."""
        return compute()


EAGER = Executor()
_default: Executor = EAGER
in_force: Executor = EAGER


def set_executor(one: Executor) -> Executor:
    """Puts an executor in force; returns the one before."""
    global in_force
    before, in_force = in_force, one
    return before


def default_executor() -> Executor:
    """The one in force outside of captures and `with` blocks."""
    return _default


def set_default_executor(one: Executor) -> None:
    """Makes it the default, in force at once where the default is."""
    global _default, in_force
    if in_force is _default:
        in_force = one
    _default = one


@contextmanager
def executing(one: Executor) -> Iterator[None]:
    """An executor for the length of a `with` block."""
    before = set_executor(one)
    try:
        yield
    finally:
        set_executor(before)


def allocated(op: str, tensor: Tensor, mesh: MeshDevice) -> Storage:
    """New memory for a tensor of this spec."""
    buffer = mesh.allocate(op, tensor.shape, tensor.dtype, tensor.layout, tensor.config, op not in UNCOMPILED)
    return Storage(mesh, buffer)


def make_tensor(
    op: str,
    compute: Compute,
    shape: Shape,
    dtype: DataType,
    layout: Layout,
    config: MemoryConfig,
    mesh: MeshDevice,
) -> Tensor:
    """A new device tensor; `compute` gives its shards (storage dtype, logical shape, aliased by nothing that is written)."""
    return in_force.make(op, compute, Tensor(NO_SHARDS, shape, dtype, layout, config), mesh)


def make_view(
    compute: Compute, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig, storage: Storage
) -> Tensor:
    """Another tensor on the memory of `storage`; `compute` gives views of its shards."""
    return in_force.view(compute, Tensor(NO_SHARDS, shape, dtype, layout, config, storage))


def write(op: str, target: Tensor, compute: Callable[[], None]) -> Tensor:
    """Runs `compute`, which writes to the shards of `target` in place. Returns `target`."""
    mesh = device_of(target)
    mesh.require_program(op, target.shape, target.dtype, target.layout, target.config)
    in_force.write(compute, target)
    return target


def overwrite(target: Tensor, compute: Callable[[], None]) -> None:
    """The writing itself: each device its own shard before, what was derived from them forgotten after."""
    target.own()
    compute()
    target.written()


def same_spec(op: str, like: Tensor, compute: Compute, config: MemoryConfig | None = None) -> Tensor:
    """A tensor with `like`'s shape, dtype and layout, at `config` or where `like` is."""
    return make_tensor(
        op, compute, like.shape, like.dtype, like.layout, config or like.config, device_of(like)
    )


NO_SHARDS = Shards()
