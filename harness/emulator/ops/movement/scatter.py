"""`ttnn.scatter`: values put along a dimension by index."""

from __future__ import annotations

import torch

from harness.emulator.errors import refuse
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of, output_config, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType, Layout

_NAME = "ttnn.scatter"
_INDICES = (DataType.INT32, DataType.UINT32, DataType.UINT16)
_MODELLED = (DataType.BFLOAT16, DataType.FLOAT32, DataType.INT32, DataType.UINT32)


@op(_NAME)
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Tensor, *, memory_config: MemoryConfig | None = None
) -> Tensor:
    """A copy of `input` in which `src` stands at `index` along `dim`: the last one where an index comes twice.

    `src` is at least as large as `index`, and that no larger than `input` beside `dim`. An index outside the input puts nothing.
    """
    require_device(_NAME, input, index, src)
    rank = len(input.shape)
    if not -rank <= dim < rank:
        refuse(_NAME, f"dim {dim} is outside the range [{-rank}, {rank - 1}] of a tensor of rank {rank}")
    if index.dtype not in _INDICES:
        refuse(_NAME, f"index must be one of {', '.join(d.name for d in _INDICES)}, got {index.dtype}")
    if len(index.shape) != rank or len(src.shape) != rank:
        refuse(
            _NAME,
            f"index {list(index.shape)} and src {list(src.shape)} must have the rank of {list(input.shape)}",
        )
    if src.dtype is not input.dtype:
        refuse(_NAME, f"src must have the input's dtype, {input.dtype}, got {src.dtype}")
    axis = dim % rank
    for i, (index_size, source_size, size) in enumerate(
        zip(index.shape, src.shape, input.shape, strict=True)
    ):
        if index_size > source_size or (i != axis and index_size > size):
            refuse(
                _NAME,
                f"index {list(index.shape)} must fit into src {list(src.shape)} and, beside dim {dim}, "
                f"into the input {list(input.shape)}",
            )
    for x in (input, src):
        if x.dtype is DataType.FLOAT32 and x.layout is Layout.TILE:
            refuse(_NAME, f"FLOAT32 must be ROW_MAJOR, got {x!r}")
    if input.dtype not in _MODELLED:
        refuse(
            _NAME, f"the emulator does not model {input.dtype}; it has {', '.join(d.name for d in _MODELLED)}"
        )
    if any(x.config.sharded for x in (input, index, src)):
        refuse(_NAME, "the emulator does not model a sharded operand")
    size = input.shape[axis]

    def put(values: torch.Tensor, places: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        places = places.long()
        # Which of the indices comes last at each place; what lies outside goes to a place of its own.
        places = torch.where((places < 0) | (places >= size), size, places)
        counted = torch.arange(places.shape[axis]).view([-1 if i == axis else 1 for i in range(rank)])
        shape = [size + 1 if i == axis else n for i, n in enumerate(places.shape)]
        last = torch.full(shape, -1).scatter_reduce(axis, places, counted.expand(places.shape), "amax")
        last = last.narrow(axis, 0, size)
        corner = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(places.shape))
        taken = source[corner].gather(axis, last.clamp(min=0))
        result = values.clone()
        result[corner] = torch.where(last < 0, values[corner], taken)
        return result

    def shards() -> list[torch.Tensor]:
        return list(map(put, input.shards, index.shards, src.shards))

    config = output_config(input, memory_config)
    return make_tensor(_NAME, shards, input.shape, input.dtype, input.layout, config, device_of(input))
