"""Copies in another dtype, as a kernel without a typecast makes them: by its unpacker and packer."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import casts, formats
from harness.emulator.errors import refuse
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import (
    BufferType,
    DataType,
    TensorMemoryLayout,
)


def converted(x: Tensor, dtype: DataType) -> list[torch.Tensor]:
    """Copies of the shards in `dtype`, as a kernel without a typecast converts: by its unpacker and packer."""
    if dtype is x.dtype:
        return [s.clone() for s in x.shards]
    if dtype in casts.INTEGERS:
        return [casts.typecast(s, x.dtype, dtype) for s in x.shards]  # of 32 bits both: see `require_known`
    rounded = [formats.typecast_round(s, dtype) for s in x.shards]
    return [s.clone() if s is before else s for s, before in zip(rounded, x.shards, strict=True)]


def require_known(name: str, x: Tensor, dtype: DataType) -> None:
    """Refuse a conversion that ttnn leaves to its unpacker and packer where the emulator does not know what comes out."""
    if not casts.moves_bits(x.dtype, dtype):
        refuse(
            name,
            f"copies {x.dtype} to {dtype} without a typecast kernel, and the emulator does not model what the "
            "packer then makes of it; use ttnn.typecast",
        )


def check_no_dram_blocks(name: str, *configs: MemoryConfig) -> None:
    for config in configs:
        if config.buffer_type is BufferType.DRAM and config.memory_layout is TensorMemoryLayout.BLOCK_SHARDED:
            refuse(name, "block sharding in DRAM is not supported")
