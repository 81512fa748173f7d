"""`ttnn.pad`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from harness.emulator.arithmetic import casts, formats
from harness.emulator.errors import refuse
from harness.emulator.ops.movement.movement import copied, rearranged
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import Tensor, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.tiles import BLOCK_FLOATS, padded_shape
from harness.emulator.spec.types import DataType, Layout


@op("ttnn.pad")
def pad(
    input_tensor: Tensor,
    *how: Any,
    padding: Sequence[Sequence[int]] | None = None,
    output_padded_shape: Sequence[int] | None = None,
    input_tensor_start: Sequence[int] | None = None,
    value: float | None = None,
    use_multicore: bool = True,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """`value` added around: by (padding, value), before and after each of the last dimensions, or, of four dimensions, by
    (output_padded_shape, input_tensor_start, value). TILE tensors pad after only.

    The input itself where nothing is added. Within its tiles a TILE tensor stays where it is, whatever the memory config.
    """
    name, x = "ttnn.pad", input_tensor
    if x.storage is not None:
        require_device(name, x)
    settings = [
        *how,
        *(each for each in (padding, output_padded_shape, input_tensor_start) if each is not None),
    ]
    if value is not None:
        settings.append(value)
    around = _around(name, x, settings, padding, output_padded_shape)
    number = settings[-1]
    if not any(low or high for low, high in around):
        return x
    if x.layout is Layout.TILE and any(low for low, _ in around):
        refuse(name, "a tensor in TILE layout cannot be padded in front on the device")
    if x.dtype is DataType.UINT8 and x.storage is not None:
        refuse(name, f"{x.dtype} cannot be padded on the device")
    if x.storage is None and x.layout is Layout.TILE:
        refuse(name, "a host tensor in TILE layout keeps its shape; pad it before it is tilized")
    flat = [edge for pair in reversed(around) for edge in pair]
    new = Shape(size + low + high for size, (low, high) in zip(x.shape, around, strict=True))
    within = x.layout is Layout.TILE and padded_shape(new, x.layout) == x.padded_shape
    if x.layout is Layout.TILE and not within and (len(new) < 2 or x.dtype is DataType.BFLOAT4_B):
        refuse(name, f"{x.dtype} of shape {list(x.shape)} cannot grow beyond its tiles, to {list(new)}")
    fill = number
    if x.dtype in casts.INTEGERS:
        low, high = formats.INTEGER_RANGE[x.dtype]
        if not low <= number <= high:
            refuse(
                name, f"the emulator does not model padding {x.dtype} with {number}; it holds {low} to {high}"
            )
        fill = int(number)

    def shards() -> list[torch.Tensor]:
        padded = [copied(F.pad(s, flat, value=fill)) for s in x.shards]
        return [formats.typecast_round(s, x.dtype) for s in padded] if x.dtype in BLOCK_FLOATS else padded

    if x.storage is None:
        return Tensor(shards(), new, x.dtype, x.layout, x.config)
    return rearranged(name, x, shards, new, None if within else memory_config)


def _around(
    name: str, x: Tensor, settings: list[Any], padding: object, shape: Sequence[int] | None
) -> list[tuple[int, int]]:
    """Before and after each dimension of `x`, from `pad`'s arguments in the order of either of its two forms."""
    rank = len(x.shape)
    edges = settings[0] if settings and isinstance(settings[0], Sequence) else None
    pairs = edges is not None and all(isinstance(each, Sequence) and len(each) == 2 for each in edges)
    if len(settings) == 2 and pairs and shape is None and _number(settings[1]):
        assert edges is not None
        if any(low < 0 or high < 0 for low, high in edges):
            refuse(name, f"padding {list(edges)} must not be negative")
        if len(edges) > rank:
            refuse(name, f"padding {list(edges)} names more dimensions than shape {list(x.shape)} has")
        return [(0, 0)] * (rank - len(edges)) + [(low, high) for low, high in edges]
    four = [isinstance(each, Sequence) and len(each) == 4 for each in settings[:2]]
    if len(settings) == 3 and all(four) and padding is None and _number(settings[2]):
        new, start = settings[0], settings[1]
        if rank != 4:
            refuse(name, f"a shape and a start pad tensors of four dimensions, got {list(x.shape)}")
        after = [n - low - size for n, low, size in zip(new, start, x.shape, strict=True)]
        room = x.layout is Layout.TILE and padded_shape(Shape(new), x.layout) == x.padded_shape
        if any(high < 0 for high in after) and not room:
            refuse(name, f"{list(new)} is too small for {list(x.shape)} at {list(start)}")
        return list(zip(start, after, strict=True))
    raise TypeError(
        f"{name}: expected (padding, value), or (output_padded_shape, input_tensor_start, value) of four dimensions, "
        f"got {tuple(settings)}"
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float)
