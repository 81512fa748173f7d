"""Math fidelity: the operand bits that the matrix unit's multiplier phases reach.

The multiplier takes 5 significant bits of SrcA and 7 of SrcB in a phase; a further phase brings in lower bits of one side.
A matmul's in0 (activation) is in SrcB and its in1 (weight) in SrcA; an eltwise op's a is in SrcA and its b in SrcB.

| significant bits     | LoFi | HiFi2 | HiFi3 | HiFi4 |
|----------------------|------|-------|-------|-------|
| SrcA (bf16 / TF32)   | 5    | 8/10  | 8/10  | 8/10  |
| SrcB (bf16 / TF32)   | 7    | 7     | 8/11  | 8/11  |

Bits are cut off, not rounded. HiFi3 also leaves out the product of both lower parts, below 2**-11 of the whole: not
modelled here, as it is no property of one operand. How Dest rounds what it accumulates is not modelled here either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.emulator.types import MathFidelity

# Significant bits, the hidden one included, that enter the product; 8 is all of bfloat16.
_SRC_A_BF16 = {MathFidelity.LoFi: 5, MathFidelity.HiFi2: 8, MathFidelity.HiFi3: 8, MathFidelity.HiFi4: 8}
_SRC_B_BF16 = {MathFidelity.LoFi: 7, MathFidelity.HiFi2: 7, MathFidelity.HiFi3: 8, MathFidelity.HiFi4: 8}
# TF32 has 11; no phase reads the last one of SrcA.
_SRC_A_TF32 = {MathFidelity.LoFi: 5, MathFidelity.HiFi2: 10, MathFidelity.HiFi3: 10, MathFidelity.HiFi4: 10}
_SRC_B_TF32 = {MathFidelity.LoFi: 7, MathFidelity.HiFi2: 7, MathFidelity.HiFi3: 11, MathFidelity.HiFi4: 11}


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
