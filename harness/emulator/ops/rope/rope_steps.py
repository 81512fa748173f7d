"""Rotary position embedding in the steps of the device's kernels (modes device and exact): three bfloat16 buffers."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import accumulate, formats, fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.spec.types import DataType, MathFidelity

# What the ops use without a compute kernel config: they give the recorded bits of `rotary_embedding_hf`.
DEFAULT = Math(MathFidelity.HiFi4, fp32_dest=False)


def turn(
    x: torch.Tensor, rotated: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, math: Math
) -> torch.Tensor:
    """x * cos + rotated * sin in bfloat16; all [..., rows, D], broadcast."""
    by_sin = _bf16(fpu.multiply(rotated, sin, math))
    by_cos = _bf16(fpu.multiply(x, cos, math))
    return _bf16(fpu.add(by_cos, by_sin, fp32_dest=math.fp32_dest))


def rotate(x: torch.Tensor, transform: torch.Tensor, math: Math) -> torch.Tensor:
    """x [..., D] times the 32x32 transform, tile by tile of columns; or a transform a user, [n, 32, 32] for x [1, n, rows, D]."""
    tile = transform.shape[-1]
    if transform.dim() == 2:
        return _bf16(accumulate.matmul(x.reshape(-1, tile), transform, math)).view(x.shape)
    blocks = x.reshape(transform.shape[0], -1, tile)
    return _bf16(accumulate.matmul(blocks, transform, math)).view(x.shape)


def _bf16(dest: torch.Tensor) -> torch.Tensor:
    return formats.pack_round(dest, DataType.BFLOAT16)
