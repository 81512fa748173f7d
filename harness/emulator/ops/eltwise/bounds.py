"""Numbers as bounds: `ttnn.clamp`, `ttnn.clip`, and `ttnn.maximum` and `minimum` with a number."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.arithmetic.mode import Mode, current
from harness.emulator.arithmetic.sfpu import lanes, rules
from harness.emulator.errors import refuse
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import same_spec, write
from harness.emulator.runtime.tensor import Tensor, output_config, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType, Layout

Scalar = int | float
_FLOATS = (DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B, DataType.BFLOAT4_B)
_LARGEST = torch.finfo(torch.float32).max  # ttnn's bound where a caller gives none


@op("ttnn.clamp")
def clamp(
    input_tensor: Tensor,
    min: Scalar | None = None,
    max: Scalar | None = None,
    *,
    memory_config: MemoryConfig | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """At least `min`, then at most `max`: numbers, of which one may be left out."""
    return _clamped("ttnn.clamp", input_tensor, min, max, memory_config, output_tensor)


@op("ttnn.clip")
def clip(
    input_tensor: Tensor,
    min: Scalar | None = None,
    max: Scalar | None = None,
    *,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """`ttnn.clamp` by another name."""
    return _clamped("ttnn.clip", input_tensor, min, max, memory_config, None)


def _clamped(
    name: str,
    x: Tensor,
    low: Scalar | None,
    high: Scalar | None,
    memory_config: MemoryConfig | None,
    output: Tensor | None,
) -> Tensor:
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        refuse(name, "the emulator does not model bounds that are tensors; give numbers")
    if low is None and high is None:
        refuse(name, "min or max must be given")
    low, high = (-_LARGEST if low is None else low), (_LARGEST if high is None else high)
    return bounded(name, x, low, high, memory_config, output)


def bounded(
    name: str,
    x: Tensor,
    low: Scalar | None,
    high: Scalar | None,
    memory_config: MemoryConfig | None,
    output: Tensor | None,
) -> Tensor:
    """An op on the device that holds `x` at or above `low`, then at or below `high`.

    The bounds are float32; a Dest of 16 bits cuts what is stored to it.
    """
    require_device(name, x)
    if x.config.sharded and x.layout is Layout.ROW_MAJOR:
        refuse(name, "the emulator does not model a sharded ROW_MAJOR operand")
    if x.dtype not in _FLOATS:
        refuse(
            name, f"the emulator does not model bounds of {x.dtype}; it has {', '.join(map(str, _FLOATS))}"
        )
    fast, fp32_dest = current() is Mode.FAST, x.dtype is DataType.FLOAT32

    def shard(values: torch.Tensor) -> torch.Tensor:
        y = values.float()
        for bound, largest in ((low, True), (high, False)):
            if bound is None:
                continue
            number = torch.tensor(float(bound))
            if fast:
                y = torch.maximum(y, number) if largest else torch.minimum(y, number)
            else:
                y = lanes.store(rules.extreme(y, number, largest=largest), fp32_dest=fp32_dest)
        return packed(y, x.dtype) if fast else formats.pack_round(y, x.dtype)

    def shards() -> list[torch.Tensor]:
        return [shard(s) for s in x.shards]

    if output is None:
        return same_spec(name, x, shards, output_config(x, memory_config))
    require_device(name, output)
    if (output.shape, output.dtype, output.layout) != (x.shape, x.dtype, x.layout):
        refuse(name, f"output tensor {output!r} must have the result's spec, {x!r}")

    def copy() -> None:
        for mine, new in zip(output.shards, shards(), strict=True):
            mine.copy_(new)

    return write(name, output, copy)
