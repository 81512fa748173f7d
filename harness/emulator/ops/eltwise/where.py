"""`ttnn.where`: one of two values, element by element, by a predicate."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.arithmetic.mode import Mode, current
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.errors import refuse
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Tensor, device_of, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType, Layout

_NAME = "ttnn.where"
_FLOATS = (DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B)
_INTEGERS = (DataType.INT32, DataType.UINT32)
Value = Tensor | int | float


@op(_NAME)
def where(
    predicate: Tensor,
    true_value: Value,
    false_value: Value,
    *,
    memory_config: MemoryConfig | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """`true_value` where the predicate's bits are not all zero (so -0 is true), `false_value` elsewhere. Shapes broadcast.

    The result has the dtype of the values; of two numbers the predicate's.
    """
    tensors = [x for x in (predicate, true_value, false_value) if isinstance(x, Tensor)]
    require_device(_NAME, predicate, *tensors)
    for x in tensors:
        if x.layout is not Layout.TILE:
            refuse(_NAME, f"tensor of shape {list(x.shape)} has {x.layout}, the op needs TILE")
        if x.dtype not in (*_FLOATS, *_INTEGERS):
            refuse(_NAME, f"the emulator does not model {x.dtype}; it has {_listed()}")
        if x.config.sharded:
            refuse(_NAME, f"the emulator does not model a sharded operand, {x!r}")
    values = tensors[1:]
    dtype = values[0].dtype if values else predicate.dtype
    for number in (true_value, false_value):
        if not isinstance(number, Tensor | int | float):
            raise TypeError(f"{_NAME}: a value must be a ttnn.Tensor or a number, got {number!r}")
    if len(values) == 2 and values[1].dtype is not dtype:
        refuse(_NAME, f"the emulator does not model values of {dtype} and {values[1].dtype}; typecast one")
    if len(values) < 2:
        # A number goes through the kernel of binary ops, which knows one dtype.
        if dtype is not predicate.dtype:
            refuse(_NAME, f"mixed dtypes are not supported with a number: {predicate.dtype} and {dtype}")
        if dtype in _INTEGERS:
            refuse(_NAME, f"the emulator does not model numbers with {dtype}; give tensors")
    shape = _broadcast([x.shape for x in tensors])
    fp32_dest, fast = dtype is DataType.FLOAT32, current() is Mode.FAST

    def part(value: Value, device: int) -> torch.Tensor:
        if isinstance(value, Tensor):
            return value.shards[device]
        number = torch.tensor(float(value))
        return number if fast else lanes.store(number[None], fp32_dest=fp32_dest)[0]

    def shard(device: int) -> torch.Tensor:
        p = predicate.shards[device]
        result = torch.where(_set(p), part(true_value, device), part(false_value, device)).broadcast_to(shape)
        if dtype in _INTEGERS:
            return result.contiguous()
        return formats.pack_round(result.contiguous(), dtype)

    def shards() -> list[torch.Tensor]:
        return [shard(device) for device in range(len(predicate.shards))]

    if output_tensor is None:
        config = memory_config or predicate.config
        return make_tensor(_NAME, shards, shape, dtype, Layout.TILE, config, device_of(predicate))
    require_device(_NAME, output_tensor)
    if (output_tensor.shape, output_tensor.dtype) != (shape, dtype):
        refuse(
            _NAME,
            f"output_tensor is {output_tensor.dtype} {list(output_tensor.shape)}, the result {dtype} {list(shape)}",
        )

    def copy() -> None:
        for mine, new in zip(output_tensor.shards, shards(), strict=True):
            mine.copy_(new)

    return write(_NAME, output_tensor, copy)


def _set(predicate: torch.Tensor) -> torch.Tensor:
    """Where a word has any bit set."""
    if predicate.is_floating_point():
        return (predicate != 0) | predicate.signbit()
    return predicate != 0


def _broadcast(shapes: list[Shape]) -> Shape:
    try:
        return Shape(torch.broadcast_shapes(*map(tuple, shapes)))
    except RuntimeError:
        refuse(_NAME, f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast")


def _listed() -> str:
    return ", ".join(d.name for d in (*_FLOATS, *_INTEGERS))
