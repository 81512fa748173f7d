from __future__ import annotations

import pytest
import torch

from harness.emulator.arithmetic import formats, fpu
from harness.emulator.ops.reduction.softmax_steps import softmax
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import DataType, MathFidelity
from tests.emulator.recorded import EXACT, in_device_modes, recorded, using


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def config(fidelity: str, fp32_dest: bool, approx: bool = False) -> WormholeComputeKernelConfig:
    return WormholeComputeKernelConfig(
        math_fidelity=MathFidelity[fidelity], fp32_dest_acc_en=fp32_dest, math_approx_mode=approx
    )


@pytest.mark.parametrize(("fidelity", "fp32_dest"), [("HiFi4", False), ("LoFi", True)])
def test_softmax_of_random_rows_equals_the_recorded_bits(fidelity, fp32_dest):
    """Softmax of N(0, 1) rows of four tiles, bit for bit."""
    arrays = recorded("ops")
    x = arrays["sfpu_rms_norm_HiFi4_fp32acc0.a"].bfloat16()  # the same operand, kept once
    with using(EXACT):
        got = softmax(x, -1, True, config(fidelity, fp32_dest), DataType.BFLOAT16)
    assert torch.equal(got, arrays[f"sfpu_softmax_{fidelity}_fp32acc{int(fp32_dest)}.out"])


@pytest.mark.parametrize(
    ("layer", "compute"), [("layer_A", config("HiFi4", True)), ("layer_P", config("HiFi2", False))]
)
def test_softmax_of_masked_scores_equals_the_recorded_bits(layer, compute):
    """A real layer's attention weights from its scaled scores and a causal mask of -1e9, bit for bit."""
    arrays = recorded(layer)
    hidden = torch.ones(32, 32).triu(1).bool().repeat(3, 1)
    mask = torch.zeros(96, 32).masked_fill(hidden, -1e9).bfloat16()
    with using(EXACT):
        masked = formats.pack_round(fpu.add((arrays["qk"].float() / 8).bfloat16(), mask), DataType.BFLOAT16)
        got = softmax(masked, -1, True, compute, DataType.BFLOAT16)
    assert torch.equal(got, arrays["probs"])


@in_device_modes
@pytest.mark.parametrize("approx", [False, True])
@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("dim", [-1, -2])
def test_softmax_is_torchs_within_its_exponential(arithmetic, approx, stable, dim):
    """Along either dimension, to the half percent of bfloat16 weights, or to the 3% of the approximate exponential."""
    x = torch.randn(2, 64, 96).bfloat16() - 3
    with using(arithmetic):
        got = softmax(x, dim, stable, config("HiFi4", True, approx), DataType.BFLOAT16)
    expected = torch.softmax(x.float(), dim)
    assert float(((got - expected) / expected).abs().max()) < (0.07 if approx else 0.01)
