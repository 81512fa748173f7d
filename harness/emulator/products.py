"""The products of mode `fast`: operands as they are, one float32 sum, the result rounded once.

Where the CPU has units for bfloat16 they multiply, else its float32 units do: bfloat16 numbers and their products are exact
there, so that only the order of the sum differs. `form` makes an operand what `multiply` wants; keep it with the operand.
"""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

import torch
from torch import Tensor

from harness.emulator import cpu

# A weight's float32 form is kept if it takes at most this share of the memory that is free; else it is made at each use.
_KEPT = 1 / 16
_NOTHING = torch.zeros(1, 1, 1)


class Numbers(Enum):
    """What the operands hold, and what the result is to hold."""

    BFLOAT16 = auto()  # bfloat16, rounded to bfloat16 (half to even)
    WIDE = auto()  # bfloat16, the float32 sum
    TF32 = auto()  # TF32 in float32, the float32 sum


def form(x: Tensor, numbers: Numbers, *, weight: bool = False) -> Tensor:
    """An operand, bfloat16 or float32 of any shape, for `multiply`; may be `x` itself. A `weight` is to be kept for long."""
    if x.dtype is torch.float32 or (numbers is Numbers.BFLOAT16 and cpu.capability().bf16_units):
        return x
    return x if weight and x.numel() * 4 > _KEPT * _free_memory() else x.float()


def multiply(a: Tensor, b: Tensor, numbers: Numbers) -> Tensor:
    """a [..., M, K] @ b [..., K, N] of two forms, with torch.matmul's rules of shapes; bfloat16 or float32 as `numbers` says."""
    if numbers is Numbers.BFLOAT16:
        if cpu.capability().bf16_units:
            return torch.matmul(a, b)
        return torch.matmul(a.float(), b.float()).bfloat16()
    if numbers is Numbers.WIDE and cpu.capability().bf16_units:
        return _on_bf16_units(a.float(), b.float())
    return torch.matmul(a.float(), b.float())


def scores(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """scale * queries [B, M, D] @ keys [B, D, S], bfloat16 or its forms: the scale acts on the float32 sum, then it is rounded."""
    result = torch.baddbmm(_NOTHING.to(queries.dtype), queries, keys, beta=0, alpha=scale)
    return result.bfloat16()


def _on_bf16_units(a: Tensor, b: Tensor) -> Tensor:
    """Float32 operands that are exact in bfloat16, summed in float32: a fifth of the time on the float32 units."""
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        return torch.matmul(a, b)
    finally:
        settings.fp32_precision = before


def _free_memory() -> int:
    """Bytes; where the system does not say, none."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = next((line for line in lines if line.startswith("MemAvailable:")), "MemAvailable: 0 kB")
    return int(found.split()[1]) * 1024
