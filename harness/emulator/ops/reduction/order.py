"""Values in order, with their places: `ttnn.topk` and `ttnn.sort`.

The kernels compare as SFPSWAP does and move values whole; of equal ones only `stable=True` says which comes first. Without it the
device's network decides; here the lower index comes first in both cases (numerics.md, "Ops without ground truth").
"""

from __future__ import annotations

from functools import partial

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.arithmetic.sfpu import rules
from harness.emulator.errors import refuse
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import (
    Compute,
    Tensor,
    device_of,
    output_config,
    require_device,
    require_layout,
)
from harness.emulator.spec.geometry import CoreRangeSet, Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType, Layout

_TOPK = (DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.FLOAT32)
_SORT = (DataType.BFLOAT16, DataType.FLOAT32)
_INDICES = (DataType.UINT16, DataType.UINT32, DataType.INT32)
_WIDEST = 2**16  # elements that an index of 16 bits can tell apart


@op("ttnn.topk")
def topk(
    input_tensor: Tensor,
    k: int = 32,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    memory_config: MemoryConfig | None = None,
    sub_core_grids: CoreRangeSet | None = None,
    indices_tensor: Tensor | None = None,
    output_tensor: tuple[Tensor, Tensor] | None = None,
    stable: bool = False,
) -> list[Tensor]:
    """The `k` largest (or smallest) values along `dim` in order, and their indices: [.., k] twice.

    Indices are UINT16, UINT32 of FLOAT32 or of more than 65,536 elements; or what `indices_tensor`, of the input's shape, has in
    their places, in its dtype. With `sorted=False` the order is the sorted one too. `output_tensor` is written in place.
    """
    name, x = "ttnn.topk", input_tensor
    axis = _axis(name, x, dim)
    require_layout(name, Layout.TILE, x)
    if x.dtype not in _TOPK:
        refuse(name, f"dtype {x.dtype} is not one of {', '.join(d.name for d in _TOPK)}")
    if not 1 <= k <= x.shape[axis]:
        refuse(name, f"k must be from 1 to the dimension's size, {x.shape[axis]}; got {k}")
    if indices_tensor is not None:
        _check_indices(name, x, axis, indices_tensor)
    return _ordered(name, x, axis, k, largest, memory_config, indices_tensor, output_tensor)


@op("ttnn.sort")
def sort(
    input_tensor: Tensor,
    dim: int = -1,
    descending: bool = False,
    stable: bool = False,
    *,
    memory_config: MemoryConfig | None = None,
) -> list[Tensor]:
    """All values along `dim` in order, and their indices: the input's shape twice. Indices as `topk`'s."""
    name, x = "ttnn.sort", input_tensor
    axis = _axis(name, x, dim)
    if x.dtype is DataType.UINT16:
        refuse(name, f"the emulator does not model {x.dtype}; it has {', '.join(d.name for d in _SORT)}")
    if x.dtype not in _SORT:
        refuse(name, f"dtype {x.dtype} is not one of BFLOAT16, FLOAT32, UINT16")
    return _ordered(name, x, axis, x.shape[axis], descending, memory_config)


def _axis(name: str, x: Tensor, dim: int) -> int:
    require_device(name, x)
    rank = len(x.shape)
    if not -rank <= dim < rank:
        refuse(name, f"dim {dim} is outside the range [{-rank}, {rank - 1}] of a tensor of rank {rank}")
    if x.config.sharded:
        refuse(name, "the emulator does not model a sharded operand")
    return dim % rank


def _check_indices(name: str, x: Tensor, axis: int, indices: Tensor) -> None:
    require_device(name, indices)
    require_layout(name, Layout.TILE, indices)
    if axis != len(x.shape) - 1:
        refuse(name, f"indices_tensor goes with the last dimension only, got dim {axis} of {list(x.shape)}")
    if indices.shape != x.shape:
        refuse(name, f"indices_tensor has shape {list(indices.shape)}, the input {list(x.shape)}")
    narrow = indices.dtype is DataType.UINT16
    if narrow and x.shape[axis] > _WIDEST:
        refuse(name, f"indices_tensor must be UINT32 for rows of {x.shape[axis]} values, got UINT16")
    if indices.dtype not in _INDICES or (narrow and x.dtype is DataType.FLOAT32):
        refuse(name, f"the emulator does not model indices_tensor of {indices.dtype} with {x.dtype}")


def _ordered(
    name: str,
    x: Tensor,
    axis: int,
    count: int,
    largest: bool,
    memory_config: MemoryConfig | None,
    named: Tensor | None = None,
    outputs: tuple[Tensor, Tensor] | None = None,
) -> list[Tensor]:
    shape = Shape(count if i == axis else size for i, size in enumerate(x.shape))
    wide = x.dtype is DataType.FLOAT32 or x.shape[axis] > _WIDEST
    indices = DataType.UINT32 if wide else DataType.UINT16
    if named is not None:
        indices = named.dtype
    config, mesh = output_config(x, memory_config), device_of(x)

    def places() -> list[torch.Tensor]:
        keys = (rules.order(s.float()) for s in x.shards)
        orders = (key.sort(dim=axis, descending=largest, stable=True).indices for key in keys)
        return [order.narrow(axis, 0, count).contiguous() for order in orders]

    def values() -> list[torch.Tensor]:
        picked = (s.gather(axis, place) for s, place in zip(x.shards, places(), strict=True))
        return [formats.pack_round(each, x.dtype) for each in picked]

    def stored() -> list[torch.Tensor]:
        if named is not None:
            return [s.gather(axis, place) for s, place in zip(named.shards, places(), strict=True)]
        return [formats.host_round(place, indices) for place in places()]

    if outputs is not None:
        return _written(name, outputs, (values, stored), shape, (x.dtype, indices), x.layout)
    return [
        make_tensor(name, values, shape, x.dtype, x.layout, config, mesh),
        make_tensor(name, stored, shape, indices, x.layout, config, mesh),
    ]


def _written(
    name: str,
    outputs: tuple[Tensor, Tensor],
    made: tuple[Compute, Compute],
    shape: Shape,
    dtypes: tuple[DataType, DataType],
    layout: Layout,
) -> list[Tensor]:
    """Values and indices into tensors there are."""
    for output, dtype in zip(outputs, dtypes, strict=True):
        require_device(name, output)
        if (output.shape, output.dtype, output.layout) != (shape, dtype, layout):
            refuse(name, f"{output!r} in output_tensor must be {list(shape)} of {dtype} in {layout}")

    def fill(output: Tensor, compute: Compute) -> None:
        for mine, new in zip(output.shards, compute(), strict=True):
            mine.copy_(new)

    for output, compute in zip(outputs, made, strict=True):
        write(name, output, partial(fill, output, compute))
    return list(outputs)
