"""What holds of a Wormhole's arithmetic for any operands: hypothesis looks for those for which it does not."""

from __future__ import annotations

import struct

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulator.arithmetic import accumulate, formats, fpu, mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.spec.types import DataType, MathFidelity

FLOATS = (DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B)


def bf16(bits: int) -> float:
    """The bfloat16 of 16 bits."""
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


# Any finite bfloat16 whose products and sums stay within range: exponents of 64 to 190.
ordinary = st.builds(
    lambda sign, exponent, mantissa: bf16(sign << 15 | exponent << 7 | mantissa),
    st.integers(0, 1),
    st.integers(97, 157),
    st.integers(0, 127),
)
anything = st.builds(bf16, st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7F80 != 0x7F80))
formats_of = st.sampled_from(FLOATS)
fidelities = st.builds(Math, st.sampled_from(list(MathFidelity)), st.booleans())
rows = st.lists(ordinary, min_size=16, max_size=16)


@given(st.lists(anything, min_size=16, max_size=16), formats_of)
def test_rounding_to_a_format_twice_is_rounding_once(values: list[float], dtype: DataType) -> None:
    """Host packing and the hardware packer, whose bfp4 truncates: a value of the format stays itself."""
    x = torch.tensor([values])
    for round_to in (formats.host_round, formats.pack_round):
        once = round_to(x, dtype)
        assert torch.equal(round_to(once.float(), dtype), once)


@given(ordinary, ordinary, st.booleans())
def test_adding_commutes_and_has_no_preferred_sign(a: float, b: float, fp32_dest: bool) -> None:
    """a + b = b + a, (-a) + (-b) = -(a + b), and x - x is +0, though the adder keeps 11 bits."""
    x, y = torch.tensor([a]), torch.tensor([b])
    total = fpu.add(x, y, fp32_dest=fp32_dest)
    assert torch.equal(total, fpu.add(y, x, fp32_dest=fp32_dest))
    assert torch.equal(fpu.add(-x, -y, fp32_dest=fp32_dest), -total)
    nothing = fpu.subtract(x, x, fp32_dest=fp32_dest)
    assert nothing.item() == 0
    assert not nothing.signbit().item()


@given(ordinary, ordinary)
def test_only_full_fidelity_multiplies_both_ways_alike(a: float, b: float) -> None:
    """At HiFi4 with an fp32 Dest a * b = b * a: every part of both is multiplied. LoFi has 5 bits of one, 7 of the other."""
    x, y = torch.tensor([a]), torch.tensor([b])
    full = Math(MathFidelity.HiFi4, fp32_dest=True)
    assert torch.equal(fpu.multiply(x, y, full), fpu.multiply(y, x, full))
    assert fpu.multiply(x, y, full).item() == a * b


@given(st.lists(ordinary, min_size=2, max_size=2), st.booleans())
def test_the_accurate_exponential_is_monotone(pair: list[float], fp32_dest: bool) -> None:
    """A larger argument never gives a smaller exponential, nor a negative one."""
    low, high = sorted(pair)
    made = sfpu.exp(torch.tensor([low, high]), fp32_dest=fp32_dest)
    assert made[0] >= 0
    assert made[0] <= made[1]


@settings(deadline=None, max_examples=50)
@given(rows, rows, fidelities, st.sampled_from([Mode.DEVICE, Mode.EXACT]))
def test_padding_of_a_tile_never_leaks_into_a_product(
    a: list[float], b: list[float], math: Math, how: Mode
) -> None:
    """Zeros after K, and rows and columns around, change no bit of a product, in one block or in several."""
    x, w = torch.tensor([a]), torch.tensor(b)[:, None]
    wide_x, wide_w = torch.zeros(5, 96), torch.zeros(96, 7)
    wide_x[2, :16], wide_w[:16, 3] = x[0], w[:, 0]
    with mode.using(how):
        alone = accumulate.matmul(x.bfloat16(), w.bfloat16(), math)
        partial = DataType.FLOAT32 if math.fp32_dest else DataType.BFLOAT16  # as ttnn spills what Dest holds
        for blocks in (None, Blocks(32, partial, l1_acc=False)):
            padded = accumulate.matmul(wide_x.bfloat16(), wide_w.bfloat16(), math, blocks)
            assert padded[2, 3] == alone[0, 0]
            assert not padded[:2].any()


@settings(deadline=None, max_examples=50)
@given(rows, rows, fidelities)
def test_the_sign_of_either_operand_does_the_same(a: list[float], b: list[float], math: Math) -> None:
    """(-a) @ b and a @ (-b) are one result, in every fidelity and destination; a product knows no side's sign."""
    x, w = torch.tensor([a]).bfloat16(), torch.tensor(b)[:, None].bfloat16()
    with mode.using(Mode.EXACT):
        assert torch.equal(accumulate.matmul(-x, w, math), accumulate.matmul(x, -w, math))
