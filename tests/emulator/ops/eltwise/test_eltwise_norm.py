from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode


def bf16(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).bfloat16()


def half_away(x: torch.Tensor) -> torch.Tensor:
    """Float64 to bf16, half away from zero, by integer arithmetic on the float32 bits."""
    return ((x.float().view(torch.int32) + 0x8000) >> 16).to(torch.int16).view(torch.bfloat16)


def test_add_rounds_half_away_from_zero(ttnn, put):
    """A bf16 sum is exact before one rounding half away from zero, which ties show."""
    a, b = bf16(64, 64), bf16(64, 64)
    expected = half_away(a.double() + b.double())
    assert torch.equal(ttnn.to_torch(ttnn.add(put(a), put(b))), expected)
    assert not torch.equal(expected, a + b)  # the data does have ties


def test_subtract_is_add_of_the_negative(ttnn, put):
    """a - b equals a + (-b), bit for bit."""
    a, b = bf16(32, 32), bf16(32, 32)
    assert torch.equal(ttnn.to_torch(ttnn.subtract(put(a), put(b))), ttnn.to_torch(ttnn.add(put(a), put(-b))))


def test_multiply_rounds_half_to_even(ttnn, put):
    """`multiply` is an SFPU op: the float32 product, rounded to even."""
    a, b = bf16(64, 64), bf16(64, 64)
    assert torch.equal(ttnn.to_torch(ttnn.multiply(put(a), put(b))), (a.float() * b.float()).bfloat16())


def test_result_dtype_is_the_first_operands_unless_asked(ttnn, put):
    """Mixed operands give the first one's dtype; `dtype=` overrides it."""
    a, b = put(bf16(32, 32)), put(torch.randn(32, 32), ttnn.float32)
    assert ttnn.add(b, a).dtype is ttnn.float32
    assert ttnn.add(a, b).dtype is ttnn.bfloat16
    assert ttnn.mul(a, a, dtype=ttnn.bfloat8_b).dtype is ttnn.bfloat8_b


def test_fp32_add_is_exact_to_float32(ttnn, put):
    """Two float32 operands are added in float32; one of them bf16, the other is cut to TF32 first."""
    a, b = torch.randn(32, 32), torch.randn(32, 32)
    assert torch.equal(ttnn.to_torch(ttnn.add(put(a, ttnn.float32), put(b, ttnn.float32))), a + b)
    mixed = ttnn.to_torch(ttnn.add(put(a, ttnn.float32), put(torch.zeros(32, 32))))
    error = ((mixed - a) / a).abs().max()
    assert 2.0**-13 < error < 2.0**-10


@pytest.mark.parametrize("shape", [(1, 1, 1, 64), (1, 1, 32, 1), (1, 1, 1, 1), (64,)])
def test_broadcasting(ttnn, put, shape):
    """Rows, columns, single values and lower ranks broadcast as in torch."""
    a, b = bf16(2, 3, 32, 64), bf16(*shape)
    out = ttnn.to_torch(ttnn.mul(put(a), put(b)))
    assert torch.equal(out, (a.float() * b.float()).bfloat16())


def test_shapes_that_do_not_broadcast_are_refused(ttnn, put):
    """Shapes that do not fit are refused with both shapes in the message."""
    with pytest.raises(DeviceError, match=r"ttnn\.add: shapes \[32, 64\] and \[32, 96\]"):
        ttnn.add(put(bf16(32, 64)), put(bf16(32, 96)))


def test_silu_of_the_first_operand_is_fused(ttnn, put):
    """input_tensor_a_activations applies before the op, through a bf16 buffer."""
    a, b = bf16(32, 64), bf16(32, 64)
    out = ttnn.mul(put(a), put(b), input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
    expected = torch.nn.functional.silu(a.double()) * b.double()
    assert ((ttnn.to_torch(out).double() - expected).abs() <= 2.0**-7 * expected.abs() + 1e-30).all()


def test_integers_and_operators(ttnn, put):
    """Python operators are the ops; integers stay integers."""
    a = put(torch.arange(32).int(), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
    assert ttnn.to_torch(a + 1).tolist() == list(range(1, 33))
    x = bf16(32, 32)
    assert torch.equal(ttnn.to_torch(1.0 - put(x)), half_away(1.0 - x.double()))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("row_major", [False, True])
def test_rms_norm(ttnn, put, dtype, row_major):
    """rms_norm equals float64 to its dtype's precision, with TILE and with ROW_MAJOR weights alike."""
    kind = getattr(ttnn, dtype)
    x, w = (torch.randn(1, 1, 32, 576) * 3).bfloat16().float(), torch.randn(576).bfloat16()
    weight = (
        put(w.view(1, 1, 18, 32), layout=ttnn.ROW_MAJOR_LAYOUT) if row_major else put(w.view(1, 1, 1, 576))
    )
    out = ttnn.rms_norm(put(x, kind), weight=weight, epsilon=1e-5)
    assert out.dtype is kind
    expected = x.double() * (x.double().square().mean(-1, keepdim=True) + 1e-5).rsqrt() * w.double()
    tolerance = 2.0**-8 * 1.001 if dtype == "bfloat16" else 1e-6
    assert ((ttnn.to_torch(out).double() - expected).abs() <= tolerance * expected.abs() + 1e-30).all()


def test_rms_norm_refuses_weights_that_do_not_fit(ttnn, put):
    """A weight of another width or a flat ROW_MAJOR one is refused."""
    x = put(torch.zeros(1, 1, 32, 576))
    for weight in (put(torch.zeros(1, 1, 1, 544)), put(torch.zeros(576), layout=ttnn.ROW_MAJOR_LAYOUT)):
        with pytest.raises(DeviceError, match=r"ttnn\.rms_norm: .*weight"):
            ttnn.rms_norm(x, weight=weight)


def test_argmax_takes_the_lowest_index_of_equals(ttnn, put):
    """argmax breaks ties towards the lowest index, in either layout."""
    x = torch.zeros(1, 1, 32, 50000)
    x[..., 40000] = x[..., 123] = x[..., 49999] = 5
    for layout in (ttnn.TILE_LAYOUT, ttnn.ROW_MAJOR_LAYOUT):
        out = ttnn.argmax(put(x, layout=layout), dim=-1)
        assert (out.dtype, out.shape) == (ttnn.uint32, [1, 1, 32])
        assert (ttnn.to_torch(out).int() == 123).all()


def test_plus_one_counts_in_place_and_can_skip_negatives(ttnn, put):
    """plus_one changes the tensor itself; entries below zero stay with skip_negative_entries."""
    x = put(torch.tensor([-1, 0, 7]).int(), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
    ttnn.plus_one(x, skip_negative_entries=True)
    assert ttnn.to_torch(x).tolist() == [-1, 1, 8]
    ttnn.plus_one(x)
    assert ttnn.to_torch(x).tolist() == [0, 2, 9]


@pytest.mark.parametrize("chosen", list(Mode), ids=lambda m: m.value)
def test_activations_go_with_a_number_too(ttnn, put, chosen):
    """Before and after an op of a tensor and a number; strings are no activations, as in ttnn."""
    relu, square = ttnn.UnaryOpType.RELU, ttnn.UnaryOpType.SQUARE
    x = torch.tensor([-2.0, -0.5, 1.0, 3.0]).repeat(32, 8)
    with mode.using(chosen):
        after = ttnn.add(put(x), 1.0, activations=[relu])
        before = ttnn.add(put(x), 1.0, input_tensor_a_activations=[square])
        number = ttnn.multiply(put(x), -3.0, input_tensor_b_activations=[relu])
        reflected = ttnn.subtract(1.0, put(x), input_tensor_b_activations=[relu], activations=[square])
    assert torch.equal(ttnn.to_torch(after).float(), (x + 1).relu())
    assert torch.equal(ttnn.to_torch(before).float(), x.square() + 1)
    assert torch.equal(ttnn.to_torch(number).float().abs(), torch.zeros_like(x))
    assert torch.equal(ttnn.to_torch(reflected).float(), (1 - x.relu()).square())
    with pytest.raises(TypeError, match="not strings"):
        ttnn.add(put(x), 1.0, activations=["relu"])
