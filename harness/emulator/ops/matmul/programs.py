"""What ttnn checks of a matmul's program config, and the shard spec a sharded output gets."""

from __future__ import annotations

import math
from typing import Any

from harness.emulator.errors import refuse
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.geometry import Shape, num_cores_to_corerangeset, round_up
from harness.emulator.spec.memory_config import MemoryConfig, ShardSpec
from harness.emulator.spec.program_configs import (
    MatmulMultiCoreReuseMultiCast1DProgramConfig,
    MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig,
    MatmulMultiCoreReuseMultiCastProgramConfig,
    MatmulMultiCoreReuseProgramConfig,
    WormholeComputeKernelConfig,
)
from harness.emulator.spec.types import TILE_SIZE, TensorMemoryLayout

_PROGRAMS = (
    MatmulMultiCoreReuseProgramConfig,
    MatmulMultiCoreReuseMultiCastProgramConfig,
    MatmulMultiCoreReuseMultiCast1DProgramConfig,
    MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig,
)


def check_program(
    name: str,
    program: Any,
    a: Tensor,
    b: Tensor,
    shape: Shape,
    config: WormholeComputeKernelConfig,
    device: MeshDevice,
) -> None:
    """Refuse what the real matmul refuses of `program` for these inputs; each combination is checked once."""
    if not isinstance(program, _PROGRAMS):
        raise TypeError(
            f"{name}: program_config {program!r} is not a matmul program config the emulator models"
        )
    key = (name, program, a.shape, a.config, b.shape, b.config, config.fp32_dest_acc_en)
    if key in device.checked_programs:
        return
    label = f"{name}: {type(program).__name__}"
    k_tiles = round_up(a.shape[-1]) // TILE_SIZE
    n_tiles = round_up(shape[-1]) // TILE_SIZE
    m_tiles = round_up(shape[-2]) // TILE_SIZE
    if getattr(program, "fuse_batch", True):  # otherwise the batch is computed one after the other
        m_tiles *= math.prod(shape[:-2])
    if k_tiles % program.in0_block_w:
        refuse(label, f"Kt ({k_tiles}) must be divisible by in0_block_w ({program.in0_block_w})")
    if a.config.sharded and a.config.memory_layout is not TensorMemoryLayout.HEIGHT_SHARDED:
        assert a.config.shard_spec is not None
        shard_tiles = a.config.shard_spec.shape[1] // TILE_SIZE
        if shard_tiles % program.in0_block_w:
            refuse(
                label,
                f"shard width of in0 ({shard_tiles} tiles) must be divisible by in0_block_w ({program.in0_block_w})",
            )
    if not isinstance(program, MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig):
        _check_blocks(label, program, m_tiles, n_tiles, config, device)
    device.checked_programs.add(key)


def _check_blocks(
    label: str,
    program: Any,
    m_tiles: int,
    n_tiles: int,
    config: WormholeComputeKernelConfig,
    device: MeshDevice,
) -> None:
    grid, device_grid = program.compute_with_storage_grid_size, device.compute_with_storage_grid_size()
    if grid.x > device_grid.x or grid.y > device_grid.y:
        refuse(
            label,
            f"compute_with_storage_grid_size ({grid.x}, {grid.y}) must fit within device grid "
            f"({device_grid.x}, {device_grid.y})",
        )
    block_h = getattr(program, "out_block_h", None) or program.per_core_M
    block_w = getattr(program, "out_block_w", None) or program.per_core_N
    sub_h, sub_w = program.out_subblock_h, program.out_subblock_w
    # Dest holds 8 bf16 or 4 fp32 tiles, twice that with full sync.
    room = (4 if config.fp32_dest_acc_en else 8) * (2 if config.dst_full_sync_en else 1)
    if sub_h * sub_w > room:
        refuse(
            label,
            f"out_subblock_w {sub_w} times out_subblock_h {sub_h} needs to be at most {room} to fit in hardware",
        )
    for what, whole, part in (
        ("per_core_M", program.per_core_M, block_h),
        ("per_core_N", program.per_core_N, block_w),
        ("out_block_h", block_h, sub_h),
        ("out_block_w", block_w, sub_w),
    ):
        if whole % part:
            divisor = "out_subblock" if what.startswith("out") else "out_block"
            refuse(
                label,
                f"{what} ({whole}) must be divisible by {divisor}_{'h' if what[-1] in 'hM' else 'w'} ({part})",
            )
    blocks_m, blocks_n = -(-m_tiles // program.per_core_M), -(-n_tiles // program.per_core_N)
    if isinstance(program, MatmulMultiCoreReuseMultiCastProgramConfig):
        if program.transpose_mcast:
            blocks_m, blocks_n = blocks_n, blocks_m
        if blocks_m > grid.y:
            refuse(
                label, f"output blocks along y ({blocks_m}) exceed the rows of the compute grid ({grid.y})"
            )
        if blocks_n > grid.x:
            refuse(
                label, f"output blocks along x ({blocks_n}) exceed the columns of the compute grid ({grid.x})"
            )
    elif blocks_m * blocks_n > grid.x * grid.y and isinstance(
        program, MatmulMultiCoreReuseMultiCast1DProgramConfig
    ):
        refuse(
            label,
            f"number of blocks exceeds number of cores: {blocks_m * blocks_n} blocks > {grid.x * grid.y} cores",
        )


def output_shard_spec(
    name: str, memory: MemoryConfig, shape: Shape, program: Any, a: Tensor, device: MeshDevice
) -> MemoryConfig:
    """`memory` with the shard spec ttnn derives: per_core_M x per_core_N tiles a core, over as many cores as it takes.

    Without a program config the automatic one decides; a width-sharded output then takes the least per_core_N that fits the
    cores of in0's shard grid (or the whole grid).
    """
    grid = device.compute_with_storage_grid_size()
    n_tiles = round_up(shape[-1]) // TILE_SIZE
    m_tiles = round_up(shape[-2]) // TILE_SIZE * math.prod(shape[:-2])
    layout = memory.memory_layout
    if program is not None:
        per_m, per_n = program.per_core_M, program.per_core_N
    elif layout is TensorMemoryLayout.WIDTH_SHARDED:
        cores = a.config.shard_spec.num_cores() if a.config.shard_spec is not None else grid.x * grid.y
        per_m, per_n = m_tiles, -(-n_tiles // cores)
    elif layout is TensorMemoryLayout.HEIGHT_SHARDED:
        per_m, per_n = -(-m_tiles // (grid.x * grid.y)), n_tiles
    else:
        per_m, per_n = -(-m_tiles // grid.y), -(-n_tiles // grid.x)
    down, across = -(-m_tiles // per_m), -(-n_tiles // per_n)
    if layout is TensorMemoryLayout.BLOCK_SHARDED:
        from harness.emulator.spec.geometry import CoreRange, CoreRangeSet

        cores_set = CoreRangeSet([CoreRange((0, 0), (across - 1, down - 1))])
    else:
        limit = getattr(program, "compute_with_storage_grid_size", None) or grid
        if down * across > limit.x * limit.y:
            refuse(
                name,
                f"output needs {down * across} shards of {per_m}x{per_n} tiles, the grid has {limit.x * limit.y} cores",
            )
        cores_set = num_cores_to_corerangeset(down * across, limit, True)
    return memory.with_shard_spec(ShardSpec(cores_set, (per_m * TILE_SIZE, per_n * TILE_SIZE)))
