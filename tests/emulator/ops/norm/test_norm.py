from __future__ import annotations

import pytest
import torch

from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.ops.norm.norm_steps import Cores, normalise
from harness.emulator.spec.types import DataType, MathFidelity
from tests.emulator.recorded import EXACT, attention_vectors, in_device_modes, recorded, using

HIFI4_FP32, HIFI2, HIFI2_FP32 = (
    Math(MathFidelity.HiFi4, True),
    Math(MathFidelity.HiFi2, False),
    Math(MathFidelity.HiFi2, True),
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def rms_norm(x, weight=None, math=HIFI2, **options):
    return normalise(
        x,
        None,
        weight,
        options.pop("bias", None),
        centred=options.pop("centred", False),
        epsilon=1e-5,
        math=math,
        dtype=options.pop("dtype", DataType.BFLOAT16),
        **options,
    )


@pytest.mark.parametrize(
    ("recording", "source", "weight", "math", "result"),
    [
        ("layer_A", "h_in", "attn_norm_weight", HIFI4_FP32, "attn_norm"),
        ("layer_A", "h_in", "attn_norm_weight", HIFI2, "attn_norm~HiFi2_fp32acc0_tile"),
        ("layer_A", "h_in", "attn_norm_weight", HIFI2_FP32, "attn_norm~HiFi2_fp32acc1_rm"),
        ("layer_A", "resid1", "ffn_norm_weight", HIFI4_FP32, "ffn_norm"),
        ("layer_P", "h_in", "attn_norm_weight", HIFI2, "attn_norm"),
        ("layer_P", "resid1", "ffn_norm_weight", HIFI2, "ffn_norm"),
    ],
)
def test_rms_norm_equals_the_recorded_bits(recording, source, weight, math, result):
    """RMS norm of a real layer's hidden state, bit for bit."""
    arrays = recorded(recording)
    x = recorded("whole_A")["hidden"][0] if source == "h_in" else arrays[source]
    with using(EXACT):
        got = rms_norm(x, attention_vectors()[weight], math)
    assert torch.equal(got, arrays[result].view(got.shape))


@pytest.mark.parametrize("fp32_dest", [False, True])
def test_rms_norm_of_random_rows_equals_the_recorded_bits(fp32_dest):
    """RMS norm of N(0, 1) rows of four tiles, bit for bit."""
    arrays, case = recorded("ops"), "sfpu_rms_norm_HiFi4_fp32acc"
    x, weight = (arrays[f"{case}0.{name}"].bfloat16() for name in ("a", "weight"))
    with using(EXACT):
        got = rms_norm(x, weight.reshape(-1), Math(MathFidelity.HiFi4, fp32_dest))
    assert torch.equal(got, arrays[f"{case}{int(fp32_dest)}.out"])


@in_device_modes
@pytest.mark.parametrize("math", [HIFI2, HIFI4_FP32])
def test_rows_do_not_meet(arithmetic, math):
    """A row's norm is the same whatever the other rows are and however many there are, bit for bit."""
    x, weight = torch.randn(96, 576).bfloat16(), torch.randn(576).bfloat16()
    with using(arithmetic):
        whole, some = rms_norm(x, weight, math), rms_norm(x[7:20], weight, math)
    assert torch.equal(whole[7:20], some)


@in_device_modes
def test_layer_norm_centres_scales_and_shifts(arithmetic):
    """Layer norm with weight and bias is torch's, to the bfloat16 it is packed to."""
    x, weight, bias = (
        torch.randn(32, 192).bfloat16() + 3,
        torch.randn(192).bfloat16(),
        torch.randn(192).bfloat16(),
    )
    expected = torch.nn.functional.layer_norm(x.float(), (192,), weight.float(), bias.float(), 1e-5)
    with using(arithmetic):
        got = rms_norm(x, weight, HIFI4_FP32, centred=True, bias=bias)
    assert float((got - expected).norm() / expected.norm()) < 0.004


@pytest.mark.parametrize("per_row", [4, 2])
def test_sharded_norm_of_powers_of_two_equals_the_interleaved_one(per_row):
    """Where columns and cores are powers of two their inverses are exact, and only the order of sums is another."""
    x = torch.randn(32, 512).bfloat16()
    with using(EXACT):
        alone, shared = (
            rms_norm(x, math=HIFI4_FP32),
            rms_norm(x, math=HIFI4_FP32, cores=Cores(128, 4, per_row)),
        )
    assert float((alone.float() - shared.float()).norm() / alone.float().norm()) < 0.002


def test_sharded_norm_has_the_gain_of_its_cut_factors():
    """1/96 and 1/6, cut to bfloat16, are each 1/256 too small: the result is 0.4% too large."""
    x = torch.randn(32, 576).bfloat16()
    with using(EXACT):
        alone, shared = rms_norm(x, math=HIFI4_FP32), rms_norm(x, math=HIFI4_FP32, cores=Cores(96, 6, 6))
    gain = float(shared.float().norm() / alone.float().norm())
    assert gain == pytest.approx((1 - 1 / 256) ** -1, abs=2e-4)
