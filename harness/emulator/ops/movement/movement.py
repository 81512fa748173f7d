"""Ops that move or re-arrange data: reshape, permute, slice, concat, pad, repeat, and their kin."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.errors import refuse
from harness.emulator.memory.allocator import L1_BANK_SIZE
from harness.emulator.ops.placement.memory import to_memory_config
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, make_view
from harness.emulator.runtime.tensor import Compute, Tensor, device_of, output_config, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, L1_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.tiles import BLOCK_FLOATS, TILE_BYTES, padded_shape
from harness.emulator.spec.types import TILE_SIZE, BufferType, DataType, Layout

# Bytes of a core's L1 that a reshape of rows needs beside the rows: what the real ttnn's refusals leave over.
_BESIDE_ROWS = 304


@op("ttnn.reshape", kind=Kind.VIEW)
def reshape(
    input_tensor: Tensor,
    shape: Sequence[int],
    *,
    memory_config: MemoryConfig | None = None,
    pad_value: float | None = None,
) -> Tensor:
    """The same logical values in another shape; one dimension may be -1.

    Where the pages in memory stay what they are (last dim unchanged and, in TILE, rows that pad alike) the result is a view
    of the same buffer, as in ttnn; else it is a copy.
    """
    return reshaped("ttnn.reshape", input_tensor, shape, memory_config)


@op("ttnn.unsqueeze_to_4D", kind=Kind.VIEW)
def unsqueeze_to_4D(tensor: Tensor) -> Tensor:
    """Leading ones added up to four dimensions."""
    if len(tensor.shape) > 4:
        refuse("ttnn.unsqueeze_to_4D", f"rank {len(tensor.shape)} of {list(tensor.shape)} is greater than 4")
    return reshaped("ttnn.unsqueeze_to_4D", tensor, tensor.shape.to_rank(4))


@op("ttnn.unsqueeze", kind=Kind.VIEW)
def unsqueeze(input_tensor: Tensor, dim: int) -> Tensor:
    """A dimension of 1 before `dim`."""
    dims = list(input_tensor.shape)
    dims.insert(dim_of("ttnn.unsqueeze", dim, len(dims) + 1), 1)
    return reshaped("ttnn.unsqueeze", input_tensor, dims)


@op("ttnn.squeeze", kind=Kind.VIEW)
def squeeze(input_tensor: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the dimensions of 1 named by `dim`, or without all of them."""
    rank = len(input_tensor.shape)
    axes = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    drop = {dim_of("ttnn.squeeze", d, rank) for d in axes}
    dims = [d for i, d in enumerate(input_tensor.shape) if i not in drop or d != 1]
    return reshaped("ttnn.squeeze", input_tensor, dims)


@op("ttnn.permute")
def permute(
    input_tensor: Tensor,
    dims: Sequence[int],
    *,
    memory_config: MemoryConfig | None = None,
    pad_value: float = 0.0,
) -> Tensor:
    """Dimensions in the order `dims`."""
    return _permute("ttnn.permute", input_tensor, dims, memory_config)


@op("ttnn.transpose")
def transpose(
    input_tensor: Tensor,
    dim1: int,
    dim2: int,
    *,
    memory_config: MemoryConfig | None = None,
    pad_value: float = 0.0,
) -> Tensor:
    """Two dimensions swapped."""
    rank = len(input_tensor.shape)
    if rank < 2 and input_tensor.layout is Layout.TILE:
        refuse("ttnn.transpose", f"needs two dimensions at least, got shape {list(input_tensor.shape)}")
    dim1, dim2 = (dim_of("ttnn.transpose", d, rank) for d in (dim1, dim2))
    order = list(range(rank))
    order[dim1], order[dim2] = order[dim2], order[dim1]
    return _permute("ttnn.transpose", input_tensor, order, memory_config)


@op("ttnn.slice")
def slice(
    input_tensor: Tensor,
    slice_start: Sequence[int] | None = None,
    slice_end: Sequence[int] | None = None,
    slice_step: Sequence[int] | None = None,
    *,
    starts: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """Elements start..end (exclusive) with a step, per dimension; negative bounds count from the end."""
    name = "ttnn.slice"
    require_device(name, input_tensor)
    shape = input_tensor.shape
    slice_start = starts if slice_start is None else slice_start
    slice_end = ends if slice_end is None else slice_end
    slice_step = steps if slice_step is None else slice_step
    if slice_start is None or slice_end is None:
        raise TypeError(f"{name}: needs a start and an end for shape {list(shape)}")
    if slice_step is None:
        slice_step = [1] * len(shape)
    if not len(slice_start) == len(slice_end) == len(slice_step) == len(shape):
        refuse(name, f"start, end and step need {len(shape)} entries each for shape {list(shape)}")
    ranges = []
    for size, start, end, step in zip(shape, slice_start, slice_end, slice_step, strict=True):
        start, end = start + size if start < 0 else start, end + size if end < 0 else end
        if not 0 <= start <= end <= size or step < 1:
            refuse(name, f"{start}:{end}:{step} does not lie in a dimension of {size} (shape {list(shape)})")
        ranges.append(builtins.slice(start, end, step))
    new = Shape(len(range(r.start, r.stop, r.step)) for r in ranges)
    dtype = input_tensor.dtype
    if dtype in BLOCK_FLOATS and any(step > 1 for step in slice_step):
        refuse(name, f"a slice with steps, {list(slice_step)}, of {dtype} is not supported")
    if (
        dtype is DataType.UINT8
        and any(step > 1 for step in slice_step)
        and new != padded_shape(new, Layout.TILE)
    ):
        _through_rows(name, input_tensor)
    if new != shape and 0 not in new and (len(shape) < 2 or any(r.start % TILE_SIZE for r in ranges[-2:])):
        dtype = _through_rows(name, input_tensor)

    def shards() -> list[torch.Tensor]:
        return [copied(x[tuple(ranges)]) for x in input_tensor.shards]

    return rearranged(name, input_tensor, shards, new, memory_config, dtype)


@op("ttnn.concat")
def concat(tensors: Sequence[Tensor], dim: int = 0, *, memory_config: MemoryConfig | None = None) -> Tensor:
    """Tensors of one dtype joined along `dim`; where tiles are broken up BFLOAT8_B becomes BFLOAT16 first."""
    name = "ttnn.concat"
    if not tensors:
        refuse(name, "needs at least one tensor")
    require_device(name, *tensors)
    first = tensors[0]
    if len(tensors) == 1:
        return to_memory_config(first, memory_config or DRAM_MEMORY_CONFIG)
    axis = dim_of(name, dim, len(first.shape))
    for other in tensors[1:]:
        same = len(other.shape) == len(first.shape)
        if not same or any(
            i != axis and a != b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True))
        ):
            refuse(name, f"shapes {list(first.shape)} and {list(other.shape)} differ outside dim {axis}")
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in tensors)
    dtype, layout = first.dtype, first.layout
    mixed = any(t.layout is not layout for t in tensors)
    broken = len(shape) < 2 or any(t.shape[axis] != t.padded_shape[axis] for t in tensors)
    if broken and mixed:
        refuse(
            name, f"all tensors must be in TILE layout to be joined along dim {dim}, where they are padded"
        )
    if mixed and any(t.shape != t.padded_shape for t in tensors):
        layout = Layout.ROW_MAJOR
    dtypes = [t.dtype for t in tensors]
    # Along the last dim ttnn turns all to rows that it then transposes, if the first is of blocks.
    if layout is Layout.TILE and broken and (axis != len(shape) - 1 or dtype is DataType.BFLOAT8_B):
        dtypes = [_through_rows(name, t) for t in tensors]
    elif layout is Layout.TILE and broken:
        _through_rows(name, first)
    dtype = dtypes[0]
    if len(set(dtypes)) > 1:
        refuse(name, f"all tensors must have one dtype, got {', '.join(str(t.dtype) for t in tensors)}")

    def shards() -> list[torch.Tensor]:
        return [torch.cat(pieces, axis) for pieces in zip(*(t.shards for t in tensors), strict=True)]

    config = memory_config or DRAM_MEMORY_CONFIG
    return make_tensor(name, shards, Shape(shape), dtype, layout, config, device_of(first))


@op("ttnn.repeat")
def repeat(
    input_tensor: Tensor, repeat_dims: Sequence[int], *, memory_config: MemoryConfig | None = None
) -> Tensor:
    """The tensor laid end to end `repeat_dims` times per dimension, the last ones if they are fewer."""
    name = "ttnn.repeat"
    require_device(name, input_tensor)
    rank = max(len(repeat_dims), len(input_tensor.shape))
    times = (1,) * (rank - len(repeat_dims)) + tuple(repeat_dims)
    new = Shape(map(operator.mul, input_tensor.shape.to_rank(rank), times))
    cut = rank < 2 or input_tensor.shape[-2:] != input_tensor.padded_shape[-2:]
    if cut and any(t != 1 for t in times[-2:]):
        _through_rows(name, input_tensor)

    def shards() -> list[torch.Tensor]:
        return [x.repeat(times) for x in input_tensor.shards]

    return rearranged(name, input_tensor, shards, new, memory_config)


@op("ttnn.repeat_interleave")
def repeat_interleave(
    input_tensor: Tensor, repeats: int, dim: int, *, memory_config: MemoryConfig | None = None
) -> Tensor:
    """Each element along `dim` `repeats` times in a row."""
    name = "ttnn.repeat_interleave"
    require_device(name, input_tensor)
    shape = list(input_tensor.shape)
    if len(shape) < 2 and input_tensor.dtype in (DataType.UINT16, DataType.UINT8):
        refuse(name, f"{input_tensor.dtype} of shape {shape} is not supported: it needs two dimensions")
    if repeats == 1:
        dim = 0  # ttnn does not look at it
    axis = dim_of(name, dim, len(shape))
    shape[axis] *= repeats

    def shards() -> list[torch.Tensor]:
        return [x.repeat_interleave(repeats, axis) for x in input_tensor.shards]

    return rearranged(name, input_tensor, shards, Shape(shape), memory_config)


def get_item(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[...]`: `ttnn.slice` by Python's rules, then `ttnn.squeeze` of the dimensions indexed by an integer."""
    items = list(index) if isinstance(index, tuple) else [index]
    rank = len(tensor.shape)
    if items.count(Ellipsis) > 1 or len(items) - items.count(Ellipsis) > rank:
        raise IndexError(f"ttnn.Tensor: {index} does not index a tensor of shape {list(tensor.shape)}")
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [builtins.slice(None)] * (rank - len(items) + 1)
    items += [builtins.slice(None)] * (rank - len(items))
    starts, ends, steps, singled = [], [], [], []
    for dim, (item, size) in enumerate(zip(items, tensor.shape, strict=True)):
        if isinstance(item, int):
            if not -size <= item < size:
                raise IndexError(f"ttnn.Tensor: index {item} is outside dimension {dim} of size {size}")
            item = builtins.slice(item % size, item % size + 1)
            singled.append(dim)
        start, end, step = item.indices(size)
        starts.append(start)
        ends.append(end)
        steps.append(step)
    result = slice(tensor, starts, ends, steps)
    return squeeze(result, singled) if singled else result


def dim_of(name: str, dim: int, rank: int) -> int:
    """A dimension counted from the front; refuses one that is not there."""
    if not -rank <= dim < rank:
        refuse(name, f"dim {dim} is out of range: a tensor of rank {rank} has [{-rank}, {rank - 1}]")
    return dim % rank


def _through_rows(name: str, x: Tensor) -> DataType:
    """The dtype of what ttnn makes ROW_MAJOR, cuts at places that are no tile's, and tiles again; refuses what it cannot."""
    if x.layout is Layout.ROW_MAJOR:
        return x.dtype
    if x.dtype in (DataType.BFLOAT4_B, DataType.UINT8):
        refuse(name, f"{x.dtype} can be cut and joined at whole tiles only, the shape is {list(x.shape)}")
    return DataType.BFLOAT16 if x.dtype is DataType.BFLOAT8_B else x.dtype


def copied(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and no alias of anything."""
    return x.clone(memory_format=torch.contiguous_format)


def reshaped(name: str, x: Tensor, shape: Sequence[int], memory_config: MemoryConfig | None = None) -> Tensor:
    """`reshape` for the op `name`."""
    if x.storage is not None:
        require_device(name, x)
    dims = [int(d) for d in shape]
    volume = x.volume()
    if dims.count(-1) == 1:
        count = -math.prod(dims)
        dims[dims.index(-1)] = volume // count if count else 0
    if math.prod(dims) != volume or any(d < 0 for d in dims):
        refuse(name, f"shape {list(x.shape)} with {volume} elements cannot become {list(shape)}")
    new = Shape(dims)
    config = output_config(x, memory_config)

    def views() -> list[torch.Tensor]:
        return [s.view(new) for s in x.shards]

    if x.storage is None:
        return Tensor(views(), new, x.dtype, x.layout, config)
    if config == x.config and is_view(x, new):
        return make_view(views, new, x.dtype, x.layout, config, x.storage)
    if x.dtype in (DataType.UINT16, DataType.UINT8) and new != x.shape and volume > 1:
        refuse(
            name,
            f"{x.dtype} of shape {list(x.shape)} cannot become {list(new)}: its pages in memory would change",
        )
    if x.config.sharded and config.sharded and new != x.shape:
        refuse(name, f"the emulator does not model a sharded {list(x.shape)} reshaped to {list(new)}")
    repacked = x.dtype in BLOCK_FLOATS and x.shape[-1:] != new[-1:]
    if x.layout is Layout.ROW_MAJOR:
        _check_row_buffers(name, x, new)

    def shards() -> list[torch.Tensor]:
        copies = [s.clone().view(new) for s in x.shards]
        return [formats.pack_round(s, x.dtype) for s in copies] if repacked else copies

    return make_tensor(name, shards, new, x.dtype, x.layout, config, device_of(x))


def _check_row_buffers(name: str, x: Tensor, new: Shape) -> None:
    """A core reads rows into buffers of four old and two new ones, as the real ttnn's refusals on an N150 tell."""
    size = TILE_BYTES[x.dtype] // TILE_SIZE**2
    old_row, new_row = (-(-s[-1] * size // 64) * 64 if s else 64 for s in (x.shape, new))
    needed = _BESIDE_ROWS + 4 * old_row + 2 * new_row
    if needed > L1_BANK_SIZE:
        refuse(
            name,
            f"buffers for rows of {list(x.shape)} and of {list(new)} need {needed} B in each core's L1, which has {L1_BANK_SIZE}",
        )


def is_view(x: Tensor, new: Shape) -> bool:
    """Whether a tensor's pages in memory hold the same values in a new shape."""
    old = x.shape
    if not old or not new or old[-1] != new[-1]:
        return False
    if x.layout is Layout.ROW_MAJOR:
        return True
    rows, new_rows = (s[-2] if len(s) > 1 else 1 for s in (old, new))
    return rows == new_rows or (rows % TILE_SIZE == 0 and new_rows % TILE_SIZE == 0)


def _permute(name: str, x: Tensor, dims: Sequence[int], memory_config: MemoryConfig | None) -> Tensor:
    require_device(name, x)
    rank = len(x.shape)
    order = [dim_of(name, d, rank) for d in dims] if len(dims) == rank else []
    if sorted(order) != list(range(rank)):
        refuse(name, f"{list(dims)} is no order of the {rank} dimensions of {list(x.shape)}")
    repacked = x.dtype in BLOCK_FLOATS and order[-1] != rank - 1

    def shards() -> list[torch.Tensor]:
        copies = [copied(s.permute(order)) for s in x.shards]
        return [formats.pack_round(s, x.dtype) for s in copies] if repacked else copies

    return rearranged(name, x, shards, Shape(x.shape[d] for d in order), memory_config)


def rearranged(
    name: str,
    x: Tensor,
    shards: Compute,
    shape: Shape,
    memory_config: MemoryConfig | None,
    dtype: DataType | None = None,
) -> Tensor:
    """A result of another shape: a sharded input's shards do not fit it, so it is interleaved in the same memory."""
    config = output_config(x, memory_config)
    if memory_config is None and config.sharded:
        config = L1_MEMORY_CONFIG if config.buffer_type is BufferType.L1 else DRAM_MEMORY_CONFIG
    return make_tensor(name, shards, shape, dtype or x.dtype, x.layout, config, device_of(x))
