"""What a tensor of a given spec asks of the allocator: pages of interleaved tensors, shards of sharded ones."""

from __future__ import annotations

import math

from harness.emulator.errors import refuse
from harness.emulator.spec.geometry import CoreCoord, Shape, round_up
from harness.emulator.spec.memory_config import MemoryConfig, shards_needed
from harness.emulator.spec.tiles import BLOCK_FLOATS, TILE_BYTES
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout, ShardOrientation, TensorMemoryLayout

# What one allocation asks for: (num_pages, page_size, shard_bytes_per_core or None).
AllocationPlan = tuple[int, int, int | None]


def plan(
    op: str, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig, grid: CoreCoord
) -> AllocationPlan:
    """How a tensor of this spec lies in memory, on a device of this worker grid; refuses a spec ttnn refuses."""
    if layout is Layout.TILE:
        height = round_up(math.prod(shape[:-2]) * round_up(shape[-2])) if len(shape) > 1 else TILE_SIZE
        width = round_up(shape[-1]) if shape else TILE_SIZE
        page, pages = TILE_BYTES[dtype], (height // TILE_SIZE) * (width // TILE_SIZE)
    else:
        if dtype in BLOCK_FLOATS:
            refuse(op, f"{dtype} needs TILE layout")
        height, width = math.prod(shape[:-1]), (shape[-1] if shape else 1)
        page, pages = width * TILE_BYTES[dtype] // (TILE_SIZE * TILE_SIZE), height
    if not pages or not page:
        refuse(op, f"the emulator does not model an empty tensor, of shape {list(shape)}")
    if not config.sharded:
        return pages, page, None
    return _sharded_plan(op, config, dtype, layout, height, width, grid)


def _sharded_plan(
    op: str, config: MemoryConfig, dtype: DataType, layout: Layout, height: int, width: int, grid: CoreCoord
) -> AllocationPlan:
    spec = config.shard_spec
    if spec is None:
        refuse(op, f"{config.memory_layout} memory config has no shard spec")
    shard_height, shard_width = spec.shape
    if layout is Layout.TILE and (shard_height % TILE_SIZE or shard_width % TILE_SIZE):
        refuse(
            op,
            f"shard shape {spec.shape} is not a multiple of the {TILE_SIZE}x{TILE_SIZE} tile in TILE layout",
        )
    end = spec.grid.bounding_box().end
    if config.buffer_type.name == "L1" and (end.x >= grid.x or end.y >= grid.y):
        refuse(op, f"shard grid {spec.grid} reaches outside the device's {grid.x}x{grid.y} worker grid")
    if config.buffer_type.name == "DRAM" and end.y:
        refuse(op, f"shard grid {spec.grid} in DRAM must lie on row 0: its banks are one row")
    down, across = -(-height // shard_height), -(-width // shard_width)
    if layout is Layout.ROW_MAJOR and width % shard_width:
        refuse(op, f"the emulator does not model rows of {width} in shards of {shard_width}")
    if config.memory_layout is TensorMemoryLayout.BLOCK_SHARDED:
        sides = end.y + 1 - spec.grid.bounding_box().start.y, end.x + 1 - spec.grid.bounding_box().start.x
        rows, columns = sides if spec.orientation is ShardOrientation.ROW_MAJOR else sides[::-1]
        if down > rows or across > columns:
            refuse(
                op,
                f"{down}x{across} blocks of {spec.shape} do not lie on {rows}x{columns} cores, {spec.grid}",
            )
    if config.memory_layout is TensorMemoryLayout.HEIGHT_SHARDED and shard_width != width:
        refuse(op, f"height-sharded shard width {shard_width} must equal the tensor's padded width {width}")
    if config.memory_layout is TensorMemoryLayout.WIDTH_SHARDED and shard_height != height:
        refuse(
            op, f"width-sharded shard height {shard_height} must equal the tensor's padded height {height}"
        )
    if shards_needed(config, height, width) > spec.num_cores():
        refuse(
            op,
            f"{down * across} shards of {spec.shape} cover a tensor of {height}x{width}, "
            f"but the shard grid {spec.grid} has {spec.num_cores()} cores",
        )
    shard_bytes = shard_height * shard_width * TILE_BYTES[dtype] // (TILE_SIZE * TILE_SIZE)
    return down * across, shard_bytes, shard_bytes
