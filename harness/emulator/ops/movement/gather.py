"""`ttnn.gather`: values along a dimension by index."""

from __future__ import annotations

import torch

from harness.emulator.errors import refuse
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of, output_config, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType

_NAME = "ttnn.gather"
_INDICES = (DataType.UINT32, DataType.UINT16)
_MODELLED = (DataType.BFLOAT16, DataType.FLOAT32, DataType.INT32, DataType.UINT32, DataType.UINT16)


@op(_NAME)
def gather(input: Tensor, dim: int, index: Tensor, *, memory_config: MemoryConfig | None = None) -> Tensor:
    """`input`'s value at `index` along `dim`, at its own place along the others: the index's shape, the input's dtype.

    `index` may be smaller than the input in the other dimensions. Raises DeviceError for an index beyond the input.
    """
    require_device(_NAME, input, index)
    rank = len(input.shape)
    if index.dtype not in _INDICES:
        refuse(_NAME, f"index must be UINT32 or UINT16, got {index.dtype}")
    if len(index.shape) != rank:
        refuse(_NAME, f"index of shape {list(index.shape)} must have the input's rank, {list(input.shape)}")
    if not -rank <= dim < rank:
        refuse(_NAME, f"dim {dim} is outside the range [{-rank}, {rank - 1}] of a tensor of rank {rank}")
    axis = dim % rank
    if any(
        i != axis and mine > size for i, (mine, size) in enumerate(zip(index.shape, input.shape, strict=True))
    ):
        refuse(
            _NAME,
            f"index of shape {list(index.shape)} is larger than the input, {list(input.shape)}, beside dim {dim}",
        )
    if input.dtype not in _MODELLED or index.layout is not input.layout:
        refuse(_NAME, f"the emulator does not model {input!r} with {index!r}")
    if input.config.sharded or index.config.sharded:
        refuse(_NAME, "the emulator does not model a sharded operand")

    def taken(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        places = places.long()
        if places.numel() and int(places.max()) >= input.shape[axis]:
            refuse(_NAME, f"index {int(places.max())} is beyond dim {dim} of {list(input.shape)}")
        return values.gather(axis, places)

    def shards() -> list[torch.Tensor]:
        return list(map(taken, input.shards, index.shards))

    config = output_config(input, memory_config)
    return make_tensor(_NAME, shards, index.shape, input.dtype, input.layout, config, device_of(input))
