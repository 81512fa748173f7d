"""`ttnn.softmax` in the steps of the device's kernel (modes device and exact).

The kernel is that of the last dimension; the device has others for other dimensions, which here take the same steps.
Intermediate buffers are bfloat16, or float32 with a float32 Dest.
"""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import formats, fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes, rules
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import DataType, MathFidelity

# What ttnn's host code takes without a compute kernel config.
_DEFAULT = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi4)
_LOWEST = -88.5  # to this the approximate exponential lifts what is below


def softmax(
    x: torch.Tensor, dim: int, stable: bool, config: WormholeComputeKernelConfig | None, dtype: DataType
) -> torch.Tensor:
    """A storage tensor's softmax along `dim`, packed to `dtype`; `stable` takes off the largest value first."""
    config = config or _DEFAULT
    math = Math(config.math_fidelity, config.fp32_dest_acc_en)
    return (
        _last(x.movedim(dim, -1), stable, config.math_approx_mode, math, dtype).movedim(-1, dim).contiguous()
    )


def _last(x: torch.Tensor, stable: bool, approx: bool, math: Math, dtype: DataType) -> torch.Tensor:
    fp32 = math.fp32_dest
    buffer = DataType.FLOAT32 if fp32 else DataType.BFLOAT16
    below = fpu.copy(x)
    if stable:
        largest = formats.pack_round(fpu.row_max(x), buffer)
        below = fpu.subtract(x, largest, fp32_dest=fp32)
    if approx:
        weights = lanes.store(exp_approx(below), fp32_dest=fp32)
    else:
        weights = sfpu.exp(below if fp32 else below.bfloat16(), fp32_dest=fp32)
    weights = formats.pack_round(weights, buffer)
    inverse = formats.pack_round(sfpu.reciprocal(fpu.row_sum(weights, math), fp32_dest=fp32), buffer)
    return formats.pack_round(fpu.multiply(weights, inverse, math), dtype)


def exp_approx(x: torch.Tensor) -> torch.Tensor:
    """Schraudolph's exponential with an unsigned integer, so that it holds for large x too."""
    number = lanes.mad(x.clamp(min=_LOWEST), rules.approx_factor(1.0), 32500.818359375)
    integer = (number + 0.5).floor().clamp(0, 65535)  # half away from zero: exact at this size
    return lanes.from_words(integer.long() << 15)
