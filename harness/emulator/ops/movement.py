"""Ops that move or re-arrange data: reshape, permute, slice, concat, pad, repeat, and their kin."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from harness.emulator import casts, formats
from harness.emulator.device import BLOCK_FLOATS, padded_shape
from harness.emulator.errors import refuse
from harness.emulator.geometry import Shape
from harness.emulator.memory_config import DRAM_MEMORY_CONFIG, L1_MEMORY_CONFIG, MemoryConfig
from harness.emulator.registry import op
from harness.emulator.tensor import (
    Compute,
    Shards,
    Tensor,
    device_of,
    make_tensor,
    make_view,
    output_config,
    require_device,
)
from harness.emulator.types import TILE_SIZE, BufferType, DataType, Layout


@op("ttnn.reshape")
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


@op("ttnn.unsqueeze_to_4D")
def unsqueeze_to_4D(tensor: Tensor) -> Tensor:
    """Leading ones added up to four dimensions."""
    return reshaped("ttnn.unsqueeze_to_4D", tensor, tensor.shape.to_rank(4))


@op("ttnn.unsqueeze")
def unsqueeze(input_tensor: Tensor, dim: int) -> Tensor:
    """A dimension of 1 before `dim`."""
    dims = list(input_tensor.shape)
    dims.insert(dim if dim >= 0 else dim + len(dims) + 1, 1)
    return reshaped("ttnn.unsqueeze", input_tensor, dims)


@op("ttnn.squeeze")
def squeeze(input_tensor: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the dimensions of 1 named by `dim`, or without all of them."""
    rank = len(input_tensor.shape)
    named = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    drop = {d % rank for d in named}
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
    order = list(range(len(input_tensor.shape)))
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

    def shards() -> Shards:
        return [_copy(x[tuple(ranges)]) for x in input_tensor.shards]

    return _rearranged(name, input_tensor, shards, new, memory_config)


@op("ttnn.concat")
def concat(tensors: Sequence[Tensor], dim: int = 0, *, memory_config: MemoryConfig | None = None) -> Tensor:
    """Tensors of one dtype joined along `dim`."""
    name = "ttnn.concat"
    if not tensors:
        refuse(name, "needs at least one tensor")
    require_device(name, *tensors)
    first = tensors[0]
    axis = dim % len(first.shape)
    for other in tensors[1:]:
        if other.dtype is not first.dtype:
            refuse(name, f"all tensors must have one dtype, got {first.dtype} and {other.dtype}")
        same = len(other.shape) == len(first.shape)
        if not same or any(
            i != axis and a != b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True))
        ):
            refuse(name, f"shapes {list(first.shape)} and {list(other.shape)} differ outside dim {axis}")
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in tensors)
    repacked = first.dtype in BLOCK_FLOATS and axis == len(shape) - 1

    def shards() -> Shards:
        joined = [torch.cat(pieces, axis) for pieces in zip(*(t.shards for t in tensors), strict=True)]
        return [formats.pack_round(s, first.dtype) for s in joined] if repacked else joined

    layout = Layout.TILE if any(t.layout is Layout.TILE for t in tensors) else Layout.ROW_MAJOR
    config = memory_config or DRAM_MEMORY_CONFIG
    return make_tensor(name, shards, Shape(shape), first.dtype, layout, config, device_of(first))


@op("ttnn.pad")
def pad(
    input_tensor: Tensor,
    *how: Any,
    padding: Sequence[Sequence[int]] | None = None,
    output_padded_shape: Sequence[int] | None = None,
    input_tensor_start: Sequence[int] | None = None,
    value: float | None = None,
    use_multicore: bool = True,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """`value` added around: by (padding, value), before and after each of the last dimensions, or, of four dimensions, by
    (output_padded_shape, input_tensor_start, value). TILE tensors pad after only.

    The input itself where nothing is added. Within its tiles a TILE tensor stays where it is, whatever the memory config.
    """
    name, x = "ttnn.pad", input_tensor
    if x.storage is not None:
        require_device(name, x)
    given = [*how, *(each for each in (padding, output_padded_shape, input_tensor_start) if each is not None)]
    if value is not None:
        given.append(value)
    around = _around(name, x, given, padding, output_padded_shape)
    number = given[-1]
    if not any(low or high for low, high in around):
        return x
    if x.layout is Layout.TILE and any(low for low, _ in around):
        refuse(name, "a tensor in TILE layout cannot be padded in front on the device")
    if x.dtype is DataType.UINT8 and x.storage is not None:
        refuse(name, f"{x.dtype} cannot be padded on the device")
    if x.storage is None and x.layout is Layout.TILE:
        refuse(name, "a host tensor in TILE layout keeps its shape; pad it before it is tilized")
    flat = [edge for pair in reversed(around) for edge in pair]
    new = Shape(size + low + high for size, (low, high) in zip(x.shape, around, strict=True))
    within = x.layout is Layout.TILE and padded_shape(new, x.layout) == x.padded_shape
    if x.layout is Layout.TILE and not within and (len(new) < 2 or x.dtype is DataType.BFLOAT4_B):
        refuse(name, f"{x.dtype} of shape {list(x.shape)} cannot grow beyond its tiles, to {list(new)}")
    fill = number
    if x.dtype in casts.INTEGERS:
        low, high = formats.INTEGER_RANGE[x.dtype]
        if not low <= number <= high:
            refuse(
                name, f"the emulator does not model padding {x.dtype} with {number}; it holds {low} to {high}"
            )
        fill = int(number)

    def shards() -> Shards:
        padded = [_copy(F.pad(s, flat, value=fill)) for s in x.shards]
        return [formats.typecast_round(s, x.dtype) for s in padded] if x.dtype in BLOCK_FLOATS else padded

    if x.storage is None:
        return Tensor(shards(), new, x.dtype, x.layout, x.config)
    return _rearranged(name, x, shards, new, None if within else memory_config)


def _around(
    name: str, x: Tensor, given: list[Any], padding: object, shape: Sequence[int] | None
) -> list[tuple[int, int]]:
    """Before and after each dimension of `x`, from `pad`'s arguments in the order of either of its two forms."""
    rank = len(x.shape)
    edges = given[0] if given and isinstance(given[0], Sequence) else None
    pairs = edges is not None and all(isinstance(each, Sequence) and len(each) == 2 for each in edges)
    if len(given) == 2 and pairs and shape is None and _number(given[1]):
        assert edges is not None
        if any(low < 0 or high < 0 for low, high in edges):
            refuse(name, f"padding {list(edges)} must not be negative")
        if len(edges) > rank:
            refuse(name, f"padding {list(edges)} names more dimensions than shape {list(x.shape)} has")
        return [(0, 0)] * (rank - len(edges)) + [(low, high) for low, high in edges]
    four = [isinstance(each, Sequence) and len(each) == 4 for each in given[:2]]
    if len(given) == 3 and all(four) and padding is None and _number(given[2]):
        new, start = given[0], given[1]
        if rank != 4:
            refuse(name, f"a shape and a start pad tensors of four dimensions, got {list(x.shape)}")
        after = [n - low - size for n, low, size in zip(new, start, x.shape, strict=True)]
        room = x.layout is Layout.TILE and padded_shape(Shape(new), x.layout) == x.padded_shape
        if any(high < 0 for high in after) and not room:
            refuse(name, f"{list(new)} is too small for {list(x.shape)} at {list(start)}")
        return list(zip(start, after, strict=True))
    raise TypeError(
        f"{name}: expected (padding, value), or (output_padded_shape, input_tensor_start, value) of four dimensions, "
        f"got {tuple(given)}"
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float)


@op("ttnn.repeat")
def repeat(
    input_tensor: Tensor, repeat_dims: Sequence[int], *, memory_config: MemoryConfig | None = None
) -> Tensor:
    """The tensor laid end to end `repeat_dims` times per dimension."""
    require_device("ttnn.repeat", input_tensor)
    sizes = input_tensor.shape.to_rank(len(repeat_dims))
    new = Shape(size * times for size, times in zip(sizes, repeat_dims, strict=True))

    def shards() -> Shards:
        return [x.repeat(tuple(repeat_dims)) for x in input_tensor.shards]

    return _rearranged("ttnn.repeat", input_tensor, shards, new, memory_config)


@op("ttnn.repeat_interleave")
def repeat_interleave(
    input_tensor: Tensor, repeats: int, dim: int, *, memory_config: MemoryConfig | None = None
) -> Tensor:
    """Each element along `dim` `repeats` times in a row."""
    require_device("ttnn.repeat_interleave", input_tensor)
    shape = list(input_tensor.shape)
    shape[dim] *= repeats

    def shards() -> Shards:
        return [x.repeat_interleave(repeats, dim) for x in input_tensor.shards]

    return _rearranged("ttnn.repeat_interleave", input_tensor, shards, Shape(shape), memory_config)


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


def _copy(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and no alias of anything."""
    return x.clone(memory_format=torch.contiguous_format)


def reshaped(name: str, x: Tensor, shape: Sequence[int], memory_config: MemoryConfig | None = None) -> Tensor:
    """`reshape` for the op `name`."""
    if x.storage is not None:
        require_device(name, x)
    dims = [int(d) for d in shape]
    volume = x.volume()
    if dims.count(-1) == 1:
        known = -math.prod(dims)
        dims[dims.index(-1)] = volume // known if known else 0
    if math.prod(dims) != volume or any(d < 0 for d in dims):
        refuse(name, f"shape {list(x.shape)} with {volume} elements cannot become {list(shape)}")
    new = Shape(dims)
    config = output_config(x, memory_config)

    def views() -> Shards:
        return [s.view(new) for s in x.shards]

    if x.storage is None:
        return Tensor(views(), new, x.dtype, x.layout, config)
    if config == x.config and _same_pages(x, new):
        return make_view(views, new, x.dtype, x.layout, config, x.storage)
    repacked = x.dtype in BLOCK_FLOATS and x.shape[-1] != new[-1]

    def shards() -> Shards:
        copies = [s.clone().view(new) for s in x.shards]
        return [formats.pack_round(s, x.dtype) for s in copies] if repacked else copies

    return make_tensor(name, shards, new, x.dtype, x.layout, config, device_of(x))


def _same_pages(x: Tensor, new: Shape) -> bool:
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
    order = [d % rank for d in dims] if len(dims) == rank else []
    if sorted(order) != list(range(rank)):
        refuse(name, f"{list(dims)} is no order of the {rank} dimensions of {list(x.shape)}")
    repacked = x.dtype in BLOCK_FLOATS and order[-1] != rank - 1

    def shards() -> Shards:
        copies = [_copy(s.permute(order)) for s in x.shards]
        return [formats.pack_round(s, x.dtype) for s in copies] if repacked else copies

    return _rearranged(name, x, shards, Shape(x.shape[d] for d in order), memory_config)


def _rearranged(
    name: str, x: Tensor, shards: Compute, shape: Shape, memory_config: MemoryConfig | None
) -> Tensor:
    """A result of another shape: a sharded input's shards do not fit it, so it is interleaved in the same memory."""
    config = output_config(x, memory_config)
    if memory_config is None and config.sharded:
        config = L1_MEMORY_CONFIG if config.buffer_type is BufferType.L1 else DRAM_MEMORY_CONFIG
    return make_tensor(name, shards, shape, x.dtype, x.layout, config, device_of(x))
