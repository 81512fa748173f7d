"""`ttnn.typecast` on the device, `ttnn.to_dtype` on the host."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import casts, formats, mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.errors import refuse
from harness.emulator.ops.placement.conversion import converted
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Compute, Tensor, device_of, output_config, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.tiles import BLOCK_FLOATS, padded_shape
from harness.emulator.spec.types import (
    DataType,
    Layout,
)


@op("ttnn.typecast")
def typecast(
    input_tensor: Tensor,
    *dtypes: DataType,
    dtype: DataType | None = None,
    input_dtype: DataType | None = None,
    output_dtype: DataType | None = None,
    memory_config: MemoryConfig | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """The values in another dtype: by (dtype), or by (input_dtype, output_dtype), of which the first must be the input's.

    Rounded as the typecast op rounds: block floats once, half away from zero; integers see `casts`.
    """
    name = "ttnn.typecast"
    formats_named = [d for d in (*dtypes, input_dtype, output_dtype, dtype) if d is not None]
    if len(formats_named) not in (1, 2) or not all(isinstance(d, DataType) for d in formats_named):
        raise TypeError(
            f"{name}: expected (tensor, dtype) or (tensor, input_dtype, output_dtype), got {formats_named}"
        )
    if len(formats_named) == 2 and formats_named[0] is not input_tensor.dtype:
        refuse(name, f"input_dtype {formats_named[0]} must be the input tensor's dtype, {input_tensor.dtype}")
    target = formats_named[-1]
    if input_tensor.layout is Layout.ROW_MAJOR and target in BLOCK_FLOATS:
        refuse(name, f"{target} needs TILE layout, the input is ROW_MAJOR")
    if input_tensor.storage is None:
        return _on_host(name, input_tensor, target)
    require_device(name, input_tensor)
    before = input_tensor.dtype
    # The one typecast between floats that has a kernel: the SFPU rounds half to even, then the packer has nothing to do.
    narrows = before is DataType.FLOAT32 and target is DataType.BFLOAT16 and mode.current() is not Mode.FAST

    def shards() -> list[torch.Tensor]:
        if narrows:
            return [formats.pack_round(lanes.round_bf16_even(s), target) for s in input_tensor.shards]
        if before is not target and (before in casts.INTEGERS or target in casts.INTEGERS):
            return [casts.typecast(s, before, target) for s in input_tensor.shards]
        return converted(input_tensor, target)

    if output_tensor is not None:
        return _cast_into(name, output_tensor, shards, input_tensor, target)
    config = output_config(input_tensor, memory_config)
    return make_tensor(
        name, shards, input_tensor.shape, target, input_tensor.layout, config, device_of(input_tensor)
    )


@op("ttnn.to_dtype")
def to_dtype(tensor: Tensor, dtype: DataType) -> Tensor:
    """A host tensor in another dtype."""
    if tensor.storage is not None:
        refuse("ttnn.to_dtype", "converts host tensors; use ttnn.typecast on the device")
    if (
        dtype in BLOCK_FLOATS
        and tensor.layout is Layout.ROW_MAJOR
        and tensor.shape != padded_shape(tensor.shape, Layout.TILE)
    ):
        refuse(
            "ttnn.to_dtype",
            f"{dtype} is TILE, for which {list(tensor.shape)} in ROW_MAJOR must be padded before",
        )
    return _on_host("ttnn.to_dtype", tensor, dtype)


def _on_host(name: str, x: Tensor, dtype: DataType) -> Tensor:
    try:
        shards = [formats.host_round(s, dtype) for s in x.shards]
    except ValueError as error:  # a number that has no value in an integer
        refuse(name, str(error))
    layout = Layout.TILE if dtype in BLOCK_FLOATS else x.layout
    return Tensor(shards, x.shape, dtype, layout, x.config)


def _cast_into(name: str, output: Tensor, shards: Compute, x: Tensor, dtype: DataType) -> Tensor:
    require_device(name, output)
    if (output.shape, output.layout, output.dtype) != (x.shape, x.layout, dtype):
        refuse(name, f"output_tensor {output!r} must be {dtype} and have the input's shape and layout, {x!r}")

    def copied() -> None:
        for target, source in zip(output.shards, shards(), strict=True):
            target.copy_(source)

    return write(name, output, copied)
