"""How a matmul's program cuts K, and in what format partial sums wait between two blocks.

With a 16-bit Dest this decides values, so the program ttnn chooses by itself matters too. Its rules are those of tt-metal's
public `matmul_program_config.cpp`, held against the programs that ttnn 0.81.1 built for some 200 shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.errors import refuse
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.geometry import CoreCoord, CoreGrid, round_up
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.tiles import TILE_BYTES
from harness.emulator.spec.types import TILE_SIZE, BufferType, DataType, TensorMemoryLayout

_NARROW = 8  # beyond this ratio of an output's sides one dimension of cores shares it


@dataclass(frozen=True)
class Sizes:
    """A matmul's sizes in tiles, transposes done; `m` is of one batch."""

    batch_a: int
    batch_b: int
    m: int
    k: int
    n: int

    @staticmethod
    def of(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Sizes:
        sa, sb = (1, *a.shape) if len(a.shape) == 1 else a.shape, b.shape
        m, k = (sa[-1], sa[-2]) if transpose_a else (sa[-2], sa[-1])
        n = sb[-2] if transpose_b else sb[-1]
        tiles = (round_up(side) // TILE_SIZE for side in (m, k, n))
        return Sizes(math.prod(sa[:-2]), math.prod(sb[:-2]), *tiles)


def blocks(
    block_tiles: int | None,
    k_tiles: int,
    config: WormholeComputeKernelConfig,
    out: DataType,
    bias: bool,
) -> Blocks:
    """The blocks of a program with `block_tiles` (None: one block); numerics.md, "Between K blocks"."""
    width = block_tiles or k_tiles
    l1_acc = config.packer_l1_acc and -(-k_tiles // width) > (1 if bias else 2)
    partial = DataType.FLOAT32 if config.fp32_dest_acc_en else DataType.BFLOAT16 if l1_acc else out
    return Blocks(width * TILE_SIZE, partial, l1_acc, bias)


def block_tiles(
    program: Any,
    core_grid: CoreGrid | None,
    sizes: Sizes,
    a: MemoryConfig,
    b: MemoryConfig,
    out: MemoryConfig,
    grid: CoreCoord,
    core_tiles: int = 16,
) -> int | None:
    """`in0_block_w` of the program given or chosen, None where all of K is one block.

    `grid` is the device's; `core_tiles` what `fitting_core_tiles` gives, which matters to tensors in L1 only.
    """
    if program is not None:
        width: int = program.in0_block_w
        return width
    if core_grid is not None:
        return _on_given_grid(core_grid, sizes, a, b)
    if a.sharded:
        return _sharded(sizes, a, b, grid)
    return _interleaved(sizes, a, b, out, grid, core_tiles)


def fitting_core_tiles(
    a: DataType, b: DataType, out: DataType, config: WormholeComputeKernelConfig, room: int
) -> int:
    """Tiles along either side of one core's share of an output, the most whose buffers fit `room` bytes of L1."""
    partial = DataType.FLOAT32 if config.fp32_dest_acc_en or out is DataType.FLOAT32 else DataType.BFLOAT16
    side, area = 4 * (TILE_BYTES[a] + TILE_BYTES[b]), TILE_BYTES[a] + TILE_BYTES[partial]
    fitting = (tiles for tiles in (16, 8, 4, 2) if side * tiles + area * tiles**2 < room)
    return next(fitting, 1)


def check_reuse(
    name: str,
    sizes: Sizes,
    a: MemoryConfig,
    b: MemoryConfig,
    out: MemoryConfig,
    core_grid: CoreGrid | None,
    core_tiles: int,
) -> None:
    """Refuses one in0 for all batches of in1 where the program that ttnn chooses has no way to read it anew.

    Tried on ttnn 0.81.1 with interleaved tensors; `core_tiles` as in `block_tiles`.
    """
    if sizes.batch_a > 1 or sizes.batch_b == 1 or a.sharded or b.sharded or out.sharded:
        return
    shares = (-(-sizes.m // core_tiles), -(-sizes.n // core_tiles))
    if core_grid is not None and 1 in shares:
        refuse(
            name,
            f"one batch of the first tensor for the {sizes.batch_b} of the second cannot have a core_grid",
        )
    in_l1 = any(x.buffer_type is not BufferType.DRAM for x in (a, b, out))
    if core_grid is None and in_l1 and shares == (1, 1) and sizes.k % 2:
        refuse(
            name,
            f"one batch of the first tensor for the {sizes.batch_b} of the second, one of them or the result in L1, needs "
            f"an even number of tiles along K, got {sizes.k}",
        )


def _interleaved(
    sizes: Sizes, a: MemoryConfig, b: MemoryConfig, out: MemoryConfig, grid: CoreCoord, core_tiles: int
) -> int | None:
    """The program for an interleaved in0."""
    interleaved = not (a.sharded or b.sharded or out.sharded)
    in_dram = interleaved and all(x.buffer_type is BufferType.DRAM for x in (a, b, out))
    even = 2 if sizes.k % 2 == 0 else 1
    reused = sizes.batch_a == 1 and sizes.batch_b > 1  # in0 serves every batch of in1
    if interleaved and (reused or _is_narrow(sizes.m, sizes.n, within_tile=in_dram)):
        return even
    if in_dram:
        return sizes.k // grid.x if sizes.k % grid.x == 0 else 1
    rows, columns = -(-sizes.m // core_tiles), -(-sizes.n // core_tiles)
    if out.sharded:
        return even if rows * columns <= grid.x * grid.y else None
    return even if rows * columns > 1 and rows <= grid.y and columns <= grid.x else None


def _on_given_grid(core_grid: CoreGrid, sizes: Sizes, a: MemoryConfig, b: MemoryConfig) -> int:
    """The program for the `core_grid` of a call."""
    if sizes.batch_b > 1:
        return _shard_tiles(a) if a.sharded else 1
    cores = core_grid.x * core_grid.y
    narrow = (
        _is_narrow(sizes.batch_a * sizes.m, sizes.n, within_tile=False) or min(sizes.m, sizes.k, sizes.n) == 1
    )
    if a.memory_layout is TensorMemoryLayout.BLOCK_SHARDED:
        return math.gcd(_shard_tiles(a), sizes.k)
    return _largest_divisor(sizes.k, -(-sizes.k // cores) if narrow or a.sharded else 4)


def _sharded(sizes: Sizes, a: MemoryConfig, b: MemoryConfig, grid: CoreCoord) -> int:
    """The program for a sharded in0: a core's own share of K, as far as it divides K."""
    assert a.shard_spec is not None
    cores = a.shard_spec.num_cores()
    if cores == 1:
        return _on_given_grid(CoreGrid(x=grid.x, y=grid.y), sizes, a, b)
    if sizes.batch_b > 1:
        return _shard_tiles(a)
    if a.memory_layout is TensorMemoryLayout.HEIGHT_SHARDED:
        return sizes.k
    return math.gcd(_shard_tiles(a), sizes.k)


def _is_narrow(height: int, width: int, *, within_tile: bool) -> bool:
    long, short = max(height, width), min(height, width)
    return long // short > _NARROW or (within_tile and short == 1)


def _shard_tiles(memory: MemoryConfig) -> int:
    assert memory.shard_spec is not None
    return memory.shard_spec.shape[1] // TILE_SIZE


def _largest_divisor(whole: int, at_most: int) -> int:
    return next(part for part in range(at_most, 0, -1) if whole % part == 0)
