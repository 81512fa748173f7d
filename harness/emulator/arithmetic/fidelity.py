"""Math fidelity: the operand bits that the matrix unit's multiplier phases reach.

The multiplier takes 5 significant bits of SrcA and 7 of SrcB in a phase; a further phase brings in lower bits of one side.
A matmul's in0 (activation) is in SrcB and its in1 (weight) in SrcA; an eltwise op's a is in SrcA and its b in SrcB.

| significant bits     | LoFi | HiFi2 | HiFi3 | HiFi4 |
|----------------------|------|-------|-------|-------|
| SrcA (bf16 / TF32)   | 5    | 8/10  | 8/10  | 8/10  |
| SrcB (bf16 / TF32)   | 7    | 7     | 8/11  | 8/11  |

Bits are cut off, not rounded. HiFi3 also leaves out the product of both lower parts, below 2**-11 of the whole: that is no
property of one operand, so `matmul_operands` and `eltwise_operands` (mode `fast`) do not model it. The phases themselves,
and how Dest rounds what it accumulates, are in `accumulate` and `fpu`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.emulator.spec.types import MathFidelity

# Significant bits, the hidden one included, that enter the product; 8 is all of bfloat16.
_SRC_A_BF16 = {MathFidelity.LoFi: 5, MathFidelity.HiFi2: 8, MathFidelity.HiFi3: 8, MathFidelity.HiFi4: 8}
_SRC_B_BF16 = {MathFidelity.LoFi: 7, MathFidelity.HiFi2: 7, MathFidelity.HiFi3: 8, MathFidelity.HiFi4: 8}
# TF32 has 11; no phase reads the last one of SrcA.
_SRC_A_TF32 = {MathFidelity.LoFi: 5, MathFidelity.HiFi2: 10, MathFidelity.HiFi3: 10, MathFidelity.HiFi4: 10}
_SRC_B_TF32 = {MathFidelity.LoFi: 7, MathFidelity.HiFi2: 7, MathFidelity.HiFi3: 11, MathFidelity.HiFi4: 11}


@dataclass(frozen=True)
class Math:
    """What a compute kernel config says of the matrix unit: its fidelity phases, and whether Dest has 32 bits."""

    fidelity: MathFidelity
    fp32_dest: bool

    @property
    def phases(self) -> int:
        """How many phases run: 0, then SrcA's lower bits (1), SrcB's (2), both (3)."""
        return PHASES[self.fidelity]


PHASES = {MathFidelity.LoFi: 1, MathFidelity.HiFi2: 2, MathFidelity.HiFi3: 3, MathFidelity.HiFi4: 4}


def source(x: Tensor, fp32_dest: bool) -> Tensor:
    """What the unpacker puts into a Src register: bfloat16 as it is, float32 cut to TF32, or to bfloat16 without fp32 Dest."""
    return _cut_tf32(x, 11) if _is_tf32(x, fp32_dest) else _cut_bf16(x, 8)


def significands(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Biased exponent, 11-bit significand (bit 10 hidden) and sign (0 or -1) of Src values, as int32; zero exponent = zero."""
    words = x.float().view(torch.int32)
    exponents = (words >> 23) & 0xFF
    return exponents, torch.where(exponents > 0, ((words >> 13) & 0x3FF) | 0x400, 0), words >> 31


def slice_a(significand: Tensor, phase: int) -> Tensor:
    """The 5 bits of a SrcA significand that `phase` multiplies; in an odd phase they count 2**-5."""
    return (significand >> (1 if phase & 1 else 6)) & 31


def slice_b(significand: Tensor, phase: int) -> Tensor:
    """The 7 bits of a SrcB significand that `phase` multiplies; from phase 2 on they count 2**-7."""
    return (significand & 15) << 3 if phase & 2 else (significand >> 4) & 127


def part_a(x: Tensor, phase: int) -> Tensor:
    """`slice_a` as a value: what `phase` multiplies of float32 or bfloat16 Src values in SrcA, as float32."""
    high = _cut_tf32(x.float(), 5)
    return _cut_tf32(x.float(), 10) - high if phase & 1 else high


def part_b(x: Tensor, phase: int) -> Tensor:
    """`slice_b` as a value: what `phase` multiplies of float32 or bfloat16 Src values in SrcB, as float32."""
    high = _cut_tf32(x.float(), 7)
    return _cut_tf32(x.float(), 11) - high if phase & 2 else high


def matmul_operands(
    in0: Tensor, in1: Tensor, fidelity: MathFidelity, *, fp32_dest: bool = False
) -> tuple[Tensor, Tensor]:
    """Operands of `in0 @ in1` as the multiplier sees them: their exact product is the device's, but for accumulation.

    A bfloat16 operand stays bfloat16, and comes back as the same object where no bit is lost. A float32 operand is cut to
    TF32 (float32 out) with a float32 Dest, else to bfloat16. Any shapes.
    """
    return _src_b(in0, fidelity, fp32_dest), _src_a(in1, fidelity, fp32_dest)


def eltwise_operands(
    a: Tensor, b: Tensor, fidelity: MathFidelity, *, fp32_dest: bool = False
) -> tuple[Tensor, Tensor]:
    """Operands of `a * b` on the matrix unit (not the SFPU, and no fidelity in add or sub); else as `matmul_operands`."""
    return _src_a(a, fidelity, fp32_dest), _src_b(b, fidelity, fp32_dest)


def _src_a(x: Tensor, fidelity: MathFidelity, fp32_dest: bool) -> Tensor:
    return (
        _cut_tf32(x, _SRC_A_TF32[fidelity]) if _is_tf32(x, fp32_dest) else _cut_bf16(x, _SRC_A_BF16[fidelity])
    )


def _src_b(x: Tensor, fidelity: MathFidelity, fp32_dest: bool) -> Tensor:
    return (
        _cut_tf32(x, _SRC_B_TF32[fidelity]) if _is_tf32(x, fp32_dest) else _cut_bf16(x, _SRC_B_BF16[fidelity])
    )


def _is_tf32(x: Tensor, fp32_dest: bool) -> bool:
    return fp32_dest and x.dtype == torch.float32


def _cut_tf32(x: Tensor, significant: int) -> Tensor:
    """Float32 with all but the top `significant` of its 24 significant bits cleared."""
    return (x.view(torch.int32) & -(1 << (24 - significant))).view(torch.float32)


def _cut_bf16(x: Tensor, significant: int) -> Tensor:
    """Bfloat16 with all but the top `significant` of its 8 significant bits cleared; float32 is cut to bfloat16 first."""
    if x.dtype == torch.float32:
        words = (x.view(torch.int32) >> 16).to(torch.int16)
    elif significant == 8:
        return x
    else:
        words = x.view(torch.int16)
    return (words & -(1 << (8 - significant))).view(torch.bfloat16)
