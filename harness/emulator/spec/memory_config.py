"""Where a tensor lies: `MemoryConfig`, `ShardSpec`, the named configs and `create_sharded_memory_config`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.emulator.errors import refuse
from harness.emulator.spec.geometry import CoreGrid, CoreRange, CoreRangeSet, round_up
from harness.emulator.spec.types import BufferType, ShardOrientation, ShardStrategy, TensorMemoryLayout


class ShardSpec:
    """Which cores hold a sharded tensor and the (height, width) of the piece each one holds, in elements."""

    __slots__ = ("_hash", "grid", "orientation", "shape")

    def __init__(
        self,
        grid: CoreRangeSet,
        shard_shape: Sequence[int],
        shard_orientation: ShardOrientation = ShardOrientation.ROW_MAJOR,
    ) -> None:
        self.grid, self.shape, self.orientation = grid, [int(d) for d in shard_shape], shard_orientation
        self._hash = hash((grid, *self.shape, shard_orientation))

    def num_cores(self) -> int:
        return self.grid.num_cores()

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ShardSpec)
            and (self.grid, self.shape, self.orientation) == (other.grid, other.shape, other.orientation)
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"ShardSpec(grid={self.grid}, shape={self.shape}, orientation={self.orientation})"


class MemoryConfig:
    """Memory layout, buffer type and, when sharded, the shard spec. Immutable and hashable."""

    __slots__ = ("_hash", "buffer_type", "memory_layout", "shard_spec", "sharded")

    def __init__(
        self,
        memory_layout: TensorMemoryLayout = TensorMemoryLayout.INTERLEAVED,
        buffer_type: BufferType = BufferType.DRAM,
        shard_spec: ShardSpec | None = None,
    ) -> None:
        self.memory_layout, self.buffer_type, self.shard_spec = memory_layout, buffer_type, shard_spec
        self.sharded = memory_layout is not TensorMemoryLayout.INTERLEAVED
        self._hash = hash((memory_layout, buffer_type, shard_spec))

    def is_sharded(self) -> bool:
        return self.sharded

    @property
    def interleaved(self) -> bool:
        return not self.sharded

    def with_shard_spec(self, spec: ShardSpec | None) -> MemoryConfig:
        return MemoryConfig(self.memory_layout, self.buffer_type, spec)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, MemoryConfig)
            and self.memory_layout is other.memory_layout
            and self.buffer_type is other.buffer_type
            and self.shard_spec == other.shard_spec
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return (
            f"MemoryConfig(memory_layout={self.memory_layout}, buffer_type={self.buffer_type}, "
            f"shard_spec={self.shard_spec})"
        )


DRAM_MEMORY_CONFIG = MemoryConfig()
L1_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.INTERLEAVED, BufferType.L1)
L1_BLOCK_SHARDED_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.BLOCK_SHARDED, BufferType.L1)
L1_HEIGHT_SHARDED_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.HEIGHT_SHARDED, BufferType.L1)
L1_WIDTH_SHARDED_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.WIDTH_SHARDED, BufferType.L1)

_STRATEGY_LAYOUT = {
    ShardStrategy.HEIGHT: TensorMemoryLayout.HEIGHT_SHARDED,
    ShardStrategy.WIDTH: TensorMemoryLayout.WIDTH_SHARDED,
    ShardStrategy.BLOCK: TensorMemoryLayout.BLOCK_SHARDED,
}


def create_sharded_memory_config(
    shape: Sequence[int],
    core_grid: CoreGrid | CoreRangeSet,
    strategy: ShardStrategy,
    orientation: ShardOrientation | None = None,
    use_height_and_width_as_shard_shape: bool = False,
) -> MemoryConfig:
    """An L1 sharded config for a tensor of `shape`, or of shards of `shape` with `use_height_and_width_as_shard_shape`."""
    op = "ttnn.create_sharded_memory_config"
    if strategy not in _STRATEGY_LAYOUT:
        refuse(op, f"strategy {strategy!r} is not a ttnn.ShardStrategy")
    orientation = orientation or ShardOrientation.ROW_MAJOR
    if isinstance(core_grid, CoreGrid):
        grid = CoreRangeSet([CoreRange((0, 0), (core_grid.x - 1, core_grid.y - 1))])
        rows, columns = core_grid.y, core_grid.x
    elif isinstance(core_grid, CoreRangeSet):
        grid, rows, columns = core_grid, 1, 1
        if not use_height_and_width_as_shard_shape:
            refuse(op, "a CoreRangeSet needs use_height_and_width_as_shard_shape=True and the shard's shape")
    else:
        refuse(op, f"core_grid {core_grid!r} is neither a CoreGrid nor a CoreRangeSet")
    height, width = shape[-2], shape[-1]
    if use_height_and_width_as_shard_shape:
        if orientation is ShardOrientation.COL_MAJOR:
            height, width = width, height
    else:
        height = math.prod(shape[:-1])
        if orientation is ShardOrientation.COL_MAJOR:
            rows, columns = columns, rows
        down = {ShardStrategy.HEIGHT: grid.num_cores(), ShardStrategy.WIDTH: 1, ShardStrategy.BLOCK: rows}[
            strategy
        ]
        across = {
            ShardStrategy.HEIGHT: 1,
            ShardStrategy.WIDTH: grid.num_cores(),
            ShardStrategy.BLOCK: columns,
        }[strategy]
        if height % down or width % across:
            refuse(op, f"a tensor of {height}x{width} does not divide into {down}x{across} shards")
        height, width = height // down, width // across
    return MemoryConfig(
        _STRATEGY_LAYOUT[strategy], BufferType.L1, ShardSpec(grid, (height, width), orientation)
    )


def shards_needed(memory_config: MemoryConfig, padded_height: int, padded_width: int) -> int:
    """How many shards a tensor of the padded height (all leading dims folded in) and width cuts into."""
    assert memory_config.shard_spec is not None
    height, width = memory_config.shard_spec.shape
    return (round_up(padded_height, height) // height) * (round_up(padded_width, width) // width)
