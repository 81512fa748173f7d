from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.emulator.arithmetic.fidelity import eltwise_operands, matmul_operands
from harness.emulator.spec.types import MathFidelity

VECTORS = np.load(Path(__file__).parents[1] / "data" / "fidelity.npz")
FIDELITIES = list(MathFidelity)
# Products are aligned to an 11-bit grid before they are summed, which is all that separates these results from exact ones.
ACCUMULATION = 5e-4


def recorded(name: str) -> Tensor:
    x = torch.from_numpy(VECTORS[name])
    return x.bfloat16() if torch.equal(x.bfloat16().float(), x) else x


def matmul_error(in0: Tensor, in1: Tensor, expected: Tensor) -> float:
    """Relative L2 error of the exact product."""
    return float((in0.double() @ in1.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("case", ["bf16_bf16", "bf16_bfp8", "bf16_bfp4", "fp32_fp32"])
def test_exact_product_of_cut_operands_is_the_recorded_matmul(case: str, fidelity: MathFidelity) -> None:
    """The exact product of the cut operands is the simulator's matmul, but for accumulation."""
    in0, in1 = recorded(f"{case}/in0"), recorded(f"{case}/in1")
    cut = matmul_operands(in0, in1, fidelity, fp32_dest=True)
    assert matmul_error(*cut, recorded(f"{case}/{fidelity.name}")) < ACCUMULATION


@pytest.mark.parametrize("fidelity", [MathFidelity.LoFi, MathFidelity.HiFi2])
def test_recorded_matmul_tells_the_sides_apart(fidelity: MathFidelity) -> None:
    """Neither whole operands nor operands cut on the wrong sides give the simulator's matmul."""
    in0, in1, expected = (
        recorded("bf16_bf16/in0"),
        recorded("bf16_bf16/in1"),
        recorded(f"bf16_bf16/{fidelity.name}"),
    )
    swapped1, swapped0 = matmul_operands(in1, in0, fidelity)
    assert matmul_error(in0, in1, expected) > 5 * ACCUMULATION
    assert matmul_error(swapped0, swapped1, expected) > 5 * ACCUMULATION


@pytest.mark.parametrize("fidelity", [MathFidelity.LoFi, MathFidelity.HiFi2, MathFidelity.HiFi4])
def test_product_of_cut_operands_is_the_recorded_multiply(fidelity: MathFidelity) -> None:
    """The product of the cut operands is the simulator's matrix-unit multiply, bit for bit with a float32 Dest."""
    a, b = eltwise_operands(recorded("mul/a"), recorded("mul/b"), fidelity)
    assert torch.equal(a.float() * b.float(), recorded(f"mul/{fidelity.name}").float())
    a, b = recorded("mul/a"), recorded("mul/b")
    assert (fidelity == MathFidelity.HiFi4) == torch.equal(
        a.float() * b.float(), recorded(f"mul/{fidelity.name}").float()
    )


@pytest.mark.parametrize("fidelity", [MathFidelity.HiFi3, MathFidelity.HiFi4])
def test_whole_operands_come_back_as_they_are(fidelity: MathFidelity) -> None:
    """Where no bit is lost the same tensor object comes back."""
    x, y = torch.randn(4, 4).bfloat16(), torch.randn(4, 4).bfloat16()
    in0, in1 = matmul_operands(x, y, fidelity)
    a, b = eltwise_operands(x, y, fidelity)
    assert in0 is x
    assert in1 is y
    assert a is x
    assert b is y


def test_bits_left_of_a_full_significand() -> None:
    """1.9921875 (eight ones) and its negative keep their top 7 bits in in0 and 5 in in1 at LoFi, all but in0's last at HiFi2."""
    x = torch.tensor([1.9921875, -1.9921875]).bfloat16()
    lofi = matmul_operands(x, x, MathFidelity.LoFi)
    hifi2 = matmul_operands(x, x, MathFidelity.HiFi2)
    assert [t.tolist() for t in lofi] == [[1.984375, -1.984375], [1.9375, -1.9375]]
    assert [t.tolist() for t in hifi2] == [[1.984375, -1.984375], [1.9921875, -1.9921875]]


def test_float32_operands_are_cut_to_what_dest_allows() -> None:
    """Float32 is cut, not rounded, to TF32 with a float32 Dest and to bfloat16 without; SrcA's last TF32 bit is unused."""
    x = torch.tensor([-(2 - 2.0**-23)])
    tf32 = matmul_operands(x, x, MathFidelity.HiFi4, fp32_dest=True)
    bf16 = matmul_operands(x, x, MathFidelity.HiFi4)
    assert [t.item() for t in tf32] == [-(2 - 2.0**-10), -(2 - 2.0**-9)]
    assert [t.item() for t in bf16] == [-(2 - 2.0**-7)] * 2
    assert {t.dtype for t in bf16} == {torch.bfloat16}
