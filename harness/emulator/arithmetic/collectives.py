"""How a Wormhole mesh reduces: the order, the grouping and the rounding of its collectives (numerics.md, "Collectives").

Arguments are one tensor a device, in the order of the devices along the reduced axis. Every sum of two is an add of the
matrix unit, packed to the tensor's dtype: partial sums live in that dtype. The rules are the same in every emulator mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from harness.emulator.arithmetic import formats, fpu, fpu_rules
from harness.emulator.spec.tiles import TILE_BYTES
from harness.emulator.spec.types import TILE_SIZE, DataType

RING_CHUNK = 8  # tiles of a slice that a ring reduces one way before it turns
# Bytes a device of input up to which a ring without tuning arguments sends directly
DIRECT_LIMIT = 512 * 1024


class Reduction(Enum):
    """The three programs ttnn chooses from; they differ in bits."""

    LINE = "line"
    DIRECT_RING = "direct ring"
    RING = "ring"


def reduction(ring: bool, tuned: bool, shape: Sequence[int], dtype: DataType) -> Reduction:
    """The program for a device's input of this shape: `ring` is the fabric, `tuned` whether a tuning argument was given."""
    if not ring:
        return Reduction.LINE
    tiles = math.prod(shape[:-2]) * -(-shape[-2] // TILE_SIZE) * -(-shape[-1] // TILE_SIZE)
    small = tiles * TILE_BYTES[dtype] <= DIRECT_LIMIT
    return Reduction.DIRECT_RING if small and not tuned else Reduction.RING


def gather(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """All devices' tensors side by side: an exact copy."""
    return torch.cat(list(tensors), dim)


def reduce_scatter(tensors: Sequence[Tensor], dim: int, dtype: DataType, how: Reduction) -> list[Tensor]:
    """The sum over all devices, of which device s keeps slice s along `dim`."""
    sliced = [tensor.chunk(len(tensors), dim) for tensor in tensors]
    reduce = {Reduction.LINE: _line, Reduction.DIRECT_RING: _direct_ring, Reduction.RING: _ring}[how]
    return [reduce([slices[s] for slices in sliced], s, dtype) for s in range(len(tensors))]


def sum_in_order(tensors: Sequence[Tensor], dtype: DataType) -> Tensor:
    """Device after device into one Dest, packed once: what an all-reduce does that cannot scatter."""
    total = tensors[0].float()
    for tensor in tensors[1:]:
        total = fpu.add(total, tensor, fp32_dest=dtype is DataType.FLOAT32)
    return formats.pack_round(total, dtype)


def scatter_dim(shape: Sequence[int], devices: int) -> int | None:
    """The last dimension that an all-reduce can scatter: whole tiles, divisible by the devices; None if there is none."""
    for dim in range(len(shape) - 1, -1, -1):
        units = shape[dim] / TILE_SIZE if dim >= len(shape) - 2 else shape[dim]
        if units == int(units) and int(units) % devices == 0:
            return dim
    return None


def _line(x: list[Tensor], s: int, dtype: DataType) -> Tensor:
    """(x_s + what came from below) + what came from above, each summed on its way."""
    total = x[s]
    for side in (x[:s], x[:s:-1]):
        if side:
            total = _add(total, _chain(side, dtype), dtype)
    return total


def _direct_ring(x: list[Tensor], s: int, dtype: DataType) -> Tensor:
    """Its own slice and those of all others by index, two at a time into one Dest."""
    nothing = torch.zeros_like(x[s])
    ordered = [x[s], *x[:s], *x[s + 1 :], nothing]
    dest = torch.zeros(x[s].shape)
    for a, b in zip(ordered[0 : len(x) : 2], ordered[1 : len(x) + 1 : 2], strict=True):
        dest = _accumulate(dest, a, b, dtype)
    return formats.pack_round(dest, dtype)


def _ring(x: list[Tensor], s: int, dtype: DataType) -> Tensor:
    """Half of the devices come one way and half the other; the farthest joins them in turn, chunk by chunk."""
    n, half = len(x), len(x) // 2
    forward = [x[(s - half + i) % n] for i in range(1, half)]  # from the farthest to the neighbour
    backward = [x[(s + half - i) % n] for i in range(1, half)]
    farthest = x[(s + half) % n]
    both = []
    for extra in (True, False):
        fwd = _chain([farthest, *forward] if extra else forward, dtype)
        bwd = _chain(backward if extra else [farthest, *backward], dtype)
        both.append(formats.pack_round(_accumulate(bwd.float(), fwd, x[s], dtype), dtype))
    even, odd = both
    return torch.where(_odd_chunks(x[s].shape), odd, even)


def _odd_chunks(shape: torch.Size) -> Tensor:
    """Where the elements of every second chunk of tiles lie, tiles counted row by row."""
    across = -(-shape[-1] // TILE_SIZE)
    down = -(-shape[-2] // TILE_SIZE)
    rows = torch.arange(shape[-2]).div(TILE_SIZE, rounding_mode="floor")
    columns = torch.arange(shape[-1]).div(TILE_SIZE, rounding_mode="floor")
    matrices = torch.arange(math.prod(shape[:-2])).view(*shape[:-2], 1, 1)
    tiles = (matrices * down + rows[:, None]) * across + columns
    return tiles.div(RING_CHUNK, rounding_mode="floor") % 2 == 1


def _chain(tensors: Sequence[Tensor], dtype: DataType) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = _add(total, tensor, dtype)
    return total


def _add(a: Tensor, b: Tensor, dtype: DataType) -> Tensor:
    return formats.pack_round(fpu.add(a, b, fp32_dest=dtype is DataType.FLOAT32), dtype)


def _accumulate(dest: Tensor, a: Tensor, b: Tensor, dtype: DataType) -> Tensor:
    return fpu_rules.add(a, b, dtype is DataType.FLOAT32, dest)
