from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.emulator import kernels
from harness.emulator.arithmetic.formats import pack_round
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes, rules
from harness.emulator.ops.attention import sfpu_steps
from harness.emulator.spec.types import DataType
from tests.emulator.arithmetic.test_fpu import (
    INSTRUCTION_SETS,
    arithmetic,
    as_bf16,
    bits,
    floats,
    library_for,
    random_bits,
    scattered,
)

VECTORS = np.load(Path(__file__).parents[1] / "data" / "sfpu.npz")
INSTRUCTIONS = {
    "mad": lambda a, b, c: lanes.mad(a, b, c),
    "mul": lambda a, b, c: lanes.mul(a, b),
    "add": lambda a, b, c: lanes.add(a, b),
    "rnd_bf16": lambda a, b, c: lanes.round_bf16(a),
    "store_bf16": lambda a, b, c: lanes.store(a, fp32_dest=False),
    "store_fp32": lambda a, b, c: lanes.store(a, fp32_dest=True),
}
TRUE = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "recip": torch.reciprocal,
    "abs": torch.abs,
    "square": torch.square,
    "neg": torch.neg,
    "identity": lambda x: x,
}
__all__ = ["arithmetic"]  # the fixture


def every_bf16() -> torch.Tensor:
    """All finite bfloat16 from the smallest up, no denormals, as float32."""
    x = (torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16).view(torch.float32)
    return x[x.isfinite() & ((x == 0) | (x.abs() >= 2.0**-126))].sort().values


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instruction_is_the_recorded_one(name, arithmetic):
    """Every recorded lane of an instruction is reproduced bit for bit, NaN and what is left in them too."""
    operands = [floats(VECTORS[f"instruction/{operand}"]) for operand in "abc"]
    assert torch.equal(bits(INSTRUCTIONS[name](*operands)), bits(floats(VECTORS[f"instruction/{name}"])))


@pytest.mark.parametrize(
    "name", [n for n in VECTORS.files if n.startswith("function/") and n != "function/x"]
)
def test_function_is_the_recorded_one(name, arithmetic):
    """Every recorded result of a function is reproduced bit for bit, on any float32."""
    x, expected = floats(VECTORS["function/x"]), floats(VECTORS[name])
    function, *scale, dest = name.removeprefix("function/").replace("exp_approx", "approx").split("_")
    if function == "approx":
        actual = sfpu.exp(x, fp32_dest=True, approx=True, scale=float(*scale))
    elif dest == "fp32":
        actual = sfpu.apply(function, x, fp32_dest=True)
    else:
        # The public function takes Dest values, all bfloat16 there; the recorded kernel ran on float32 lanes.
        actual = lanes.store(sfpu.RULES[function](x, False), fp32_dest=False)
    assert torch.equal(bits(actual), bits(expected))


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", ["exp", "recip", "rsqrt", "sigmoid", "silu"])
def test_compiled_function_equals_torch(march, name, monkeypatch):
    """On any bits, on common values and near the exponential's reduction points, compiled and torch agree."""
    library = library_for(march)
    whole = torch.arange(-200, 200).repeat_interleave(20) * 0.6931471805599453
    near_whole = whole * (1 + torch.linspace(-1, 1, len(whole)) * 1e-6)
    for x in (random_bits(10_003), scattered(5_000), torch.linspace(-130, 130, 5_001), near_whole):
        monkeypatch.setattr(kernels, "load", lambda: library)
        compiled = sfpu.apply(name, x, fp32_dest=True)
        if name == "exp":
            compiled = sfpu.exp(x, fp32_dest=True)
            scaled, approximate = (sfpu.exp(x, fp32_dest=True, approx=a, scale=0.125) for a in (False, True))
        monkeypatch.setattr(kernels, "load", lambda: None)
        assert torch.equal(bits(compiled), bits(sfpu.apply(name, x, fp32_dest=True)))
        if name == "exp":
            assert torch.equal(bits(scaled), bits(sfpu.exp(x, fp32_dest=True, scale=0.125)))
            assert torch.equal(bits(approximate), bits(sfpu.exp(x, fp32_dest=True, approx=True, scale=0.125)))


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize("scale", [0.125, 96**-0.5])
def test_compiled_functions_of_attention_equal_torch(march, scale, monkeypatch):
    """On any bits and on what lies below a row's maximum, hidden keys among it: of scores and of earlier sums."""
    library = library_for(march)
    for x in (
        random_bits(10_003),
        scattered(5_000),
        -torch.logspace(-40, 4, 5_001),
        torch.tensor([-torch.inf, 0.0]),
    ):
        monkeypatch.setattr(kernels, "load", lambda: library)
        weights = sfpu.exp_of_product(x, scale)
        factors = sfpu_steps.correction(x, scale, approx=False, fp32_dest=True)
        monkeypatch.setattr(kernels, "load", lambda: None)
        assert torch.equal(bits(weights), bits(sfpu.exp_of_product(x, scale)))
        expected = sfpu_steps.correction(x, scale, approx=False, fp32_dest=True)
        assert torch.equal(bits(factors), bits(expected))


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
def test_compiled_multiply_add_equals_torch(march, monkeypatch):
    """Operands of any bits, single numbers among them, give the same lanes compiled and in torch."""
    library = library_for(march)
    x, y, z = (random_bits(33, 41, seed=seed) for seed in range(3))
    near = -x * y * (1 + 2.0**-20)  # most of the sum cancels
    for operands in (
        (x, y, z),
        (x, y, near),
        (x, 1.5, z),
        (scattered(33, 41), y, -0.75),
        (x, y[:1], z[:, :1]),
    ):
        monkeypatch.setattr(kernels, "load", lambda: library)
        compiled = lanes.mad(*operands)
        monkeypatch.setattr(kernels, "load", lambda: None)
        assert torch.equal(bits(compiled), bits(lanes.mad(*operands)))


@pytest.mark.parametrize("name", sfpu.RULES)
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_a_table_answers_as_the_rule(name, fp32_dest):
    """A bfloat16 tensor, and whatever a bfloat16 Dest holds, is looked up: the result is the rule's, in the tensor's shape."""
    x = as_bf16(random_bits(30, 40))
    expected = lanes.store(sfpu.RULES[name](x.float(), fp32_dest), fp32_dest=fp32_dest)
    assert torch.equal(bits(sfpu.apply(name, x, fp32_dest=fp32_dest)), bits(expected))
    if not fp32_dest:
        assert torch.equal(bits(sfpu.apply(name, x.float(), fp32_dest=False)), bits(expected))


@pytest.mark.parametrize("name", sfpu.RULES)
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_a_bfloat16_result_is_the_packed_one(name, fp32_dest):
    """`dtype` asks for what the packer writes of the Dest to BFLOAT16, whichever way the result comes."""
    for x in (random_bits(30, 40), as_bf16(random_bits(30, 40))):
        packed = sfpu.apply(name, x, fp32_dest=fp32_dest, dtype=torch.bfloat16)
        expected = pack_round(sfpu.apply(name, x, fp32_dest=fp32_dest), DataType.BFLOAT16)
        assert packed.dtype is torch.bfloat16
        assert torch.equal(bits(packed), bits(expected))


# Largest errors in ulp of the result, as numerics.md has them or, for the others, as measured over every bfloat16.
@pytest.mark.parametrize(
    ("name", "bf16", "fp32"),
    [
        ("exp", 0.92, 0.8),
        ("recip", 0.5, 0.9),
        ("rsqrt", 0.5, 0.9),
        ("sqrt", 0.51, 0.9),
        ("sigmoid", 0.9, 2.2),
        ("silu", 0.98, 2.2),
        ("tanh", 0.9, 2.0),
        ("gelu", 0.52, 3.1),
        ("gelu_tanh", 0.501, 2.4),
        ("square", 0.51, 0.51),
        ("relu", 0.0, 0.0),
        ("abs", 0.0, 0.0),
        ("neg", 0.0, 0.0),
        ("identity", 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_error_in_ulp(name, bf16, fp32, fp32_dest):
    """Over every bfloat16 from -1 to 80 the function is within its kernel's error of the true one."""
    x = every_bf16()
    x = x[(x > -1) & (x < 80)]
    true = TRUE[name](x.double())
    held = true.isfinite() & (true.abs() >= 2.0**-120)
    ulp = torch.ldexp(torch.ones_like(true), torch.frexp(true)[1] - (24 if fp32_dest else 8))
    error = (sfpu.apply(name, x, fp32_dest=fp32_dest) - true).abs() / ulp
    assert error[held].max() <= (fp32 if fp32_dest else bf16)


@pytest.mark.parametrize(
    ("name", "fp32_dest"),
    [("exp", False), ("exp", True), ("sigmoid", False), ("sigmoid", True), ("tanh", False)],
)
def test_monotonic(name, fp32_dest):
    """A larger bfloat16 never gives a smaller exponential or sigmoid, nor a smaller tanh in a bfloat16 Dest."""
    y = sfpu.apply(name, every_bf16(), fp32_dest=fp32_dest)
    assert (y[1:] >= y[:-1]).all()


def test_approximate_exp_is_schraudolphs():
    """exp(0) is 0.9785, errors are 2% rms and 3.1% at most, below -88 they turn negative, above 0.69 they saturate."""
    x = torch.linspace(-87, 0, 20_001)
    approximate = sfpu.exp(x, fp32_dest=True, approx=True)
    error = approximate / x.double().exp() - 1
    assert error.square().mean().sqrt().item() == pytest.approx(0.0203, abs=5e-4)
    assert error.abs().max().item() == pytest.approx(0.0312, abs=5e-4)
    assert (approximate.diff() >= 0).all()
    edges = sfpu.exp(torch.tensor([0.0, -90.0, 0.72, 50.0]), fp32_dest=True, approx=True)
    assert edges[0].item() == 0.978515625
    assert edges[1] < 0
    assert edges[2].item() == edges[3].item() == 1.99609375


@pytest.mark.parametrize("name", ["tanh", "recip"])
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_odd_functions(name, fp32_dest):
    """tanh and 1/x keep the sign and nothing else of it."""
    x = every_bf16()
    assert torch.equal(sfpu.apply(name, -x, fp32_dest=fp32_dest), -sfpu.apply(name, x, fp32_dest=fp32_dest))


@pytest.mark.parametrize("fp32_dest", [False, True])
def test_edges(fp32_dest):
    """1/0 is Inf, 1/Inf is 0, overflow is Inf and underflow 0; a root of a negative number is NaN, Inf in bfloat16."""
    x = torch.tensor([0.0, torch.inf, -torch.inf])
    assert sfpu.reciprocal(x, fp32_dest=fp32_dest).tolist() == [torch.inf, 0.0, 0.0]
    assert sfpu.exp(torch.tensor([100.0, -100.0]), fp32_dest=fp32_dest).tolist() == [torch.inf, 0.0]
    root = sfpu.rsqrt(torch.tensor([-1.0]), fp32_dest=fp32_dest)
    assert root.isnan().item() if fp32_dest else root.item() == torch.inf


def test_a_multiply_add_is_not_fused():
    """Bits beyond 3 below the significand are cut before the sum, so a cancelled product loses what a fused one keeps."""
    x = torch.tensor([1 + 2.0**-23])
    assert lanes.mad(x, x, -(1 + 2.0**-22)).item() == 2.0**-26 != 2.0**-46


def test_int16_conversion_saturates_half_away():
    """Halves go away from zero, and magnitudes stop at 32767."""
    x = torch.tensor([0.5, -0.5, 2.5, 0.49, 32766.5, 4e4, -1e30, torch.inf])
    assert lanes.to_int16(x).tolist() == [1, -1, 3, 0, 32767, 32767, -32767, 32767]


def test_scale_of_the_accurate_exp_is_a_bfloat16():
    """The accurate exponential multiplies by the scale rounded to bfloat16."""
    x = scattered(1000)
    scale = torch.tensor(0.3).bfloat16().item()
    expected = rules.exp(lanes.mul(x, scale), False)
    assert torch.equal(sfpu.exp(x, fp32_dest=False, scale=0.3), expected)
