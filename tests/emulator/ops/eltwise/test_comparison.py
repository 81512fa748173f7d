"""Comparisons, extremes, quotients, `where`, bounds and the ops in place, against PyTorch and the kernels' rules."""

from __future__ import annotations

import itertools

import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

COMPARISONS = ("eq", "ne", "lt", "gt", "le", "ge")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1.0078125, 2.5, float("inf"), -float("inf"), float("nan")]


@pytest.fixture(params=list(Mode), ids=lambda m: m.value)
def every_mode(request):
    with mode.using(request.param):
        yield request.param


def pairs(dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor]:
    """Every special number beside every other, as a row of 96."""
    a, b = zip(*itertools.product(SPECIAL, SPECIAL), strict=True)
    return tuple(torch.tensor([*x, *[0.5] * 15], dtype=dtype)[None].repeat(32, 1) for x in (a, b))


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparison_is_ieees(ttnn, put, every_mode, op):
    """Zeros are equal, NaN is unlike everything; the result is 1 or 0 in the operands' dtype."""
    a, b = pairs()
    for dtype in (ttnn.bfloat16, ttnn.float32):
        out = getattr(ttnn, op)(put(a, dtype), put(b, dtype))
        assert out.dtype is dtype
        assert torch.equal(ttnn.to_torch(out).float(), getattr(torch, op)(a, b).float())


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparison_of_integers_with_numbers_and_by_operators(ttnn, put, every_mode, op):
    """Integers compare as integers, also with a number; the operator is the op, but for == and != (numerics.md)."""
    a, b = torch.randint(-3, 4, (32, 32)), torch.randint(-3, 4, (32, 32))
    x, y = put(a.int(), ttnn.int32), put(b.int(), ttnn.int32)
    compare = getattr(torch, op)
    assert torch.equal(ttnn.to_torch(getattr(ttnn, op)(x, y)), compare(a, b).int())
    assert torch.equal(ttnn.to_torch(getattr(ttnn, op)(x, -1)), compare(a, -1).int())
    if op not in ("eq", "ne"):
        assert torch.equal(ttnn.to_torch(getattr(x, f"__{op}__")(-1)), compare(a, -1).int())


def test_mixed_formats_are_compared_by_the_matrix_units_difference(ttnn, put):
    """1 and 1 - 2**-12 differ in float32; the difference with a bfloat16 is rounded away."""
    near = torch.full((32, 32), 1 - 2.0**-12)
    one = torch.ones(32, 32)
    with mode.using(Mode.EXACT):
        alike = ttnn.eq(put(near, ttnn.float32), put(one, ttnn.float32))
        mixed = ttnn.eq(put(near, ttnn.float32), put(one))
    assert ttnn.to_torch(alike).sum() == 0
    assert ttnn.to_torch(mixed).sum() == 1024


@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_extremes_of_two(ttnn, put, every_mode, op):
    """The larger or smaller of two, broadcast; with a number too, cut to the bfloat16 Dest in modes that have one."""
    a, b = torch.randn(2, 32, 64).bfloat16(), torch.randn(1, 64).bfloat16()
    assert torch.equal(ttnn.to_torch(getattr(ttnn, op)(put(a), put(b))), getattr(torch, op)(a, b))
    number = torch.tensor(0.3).bfloat16()
    cut = (
        number
        if every_mode is Mode.FAST
        else (torch.tensor([0.3]).view(torch.int32) & -65536).view(torch.float32)
    )
    assert torch.equal(
        ttnn.to_torch(getattr(ttnn, op)(put(a), 0.3)).float(), getattr(torch, op)(a.float(), cut)
    )


def test_bounds(ttnn, put, every_mode):
    """`clamp` holds values between two numbers, or at one side of one; `clip` is the same."""
    x = torch.randn(32, 64).bfloat16() * 2
    assert torch.equal(ttnn.to_torch(ttnn.clamp(put(x), -1.0, 0.5)), x.clamp(-1.0, 0.5))
    assert torch.equal(ttnn.to_torch(ttnn.clip(put(x), min=-0.25)), x.clamp(min=-0.25))
    assert torch.equal(ttnn.to_torch(ttnn.clamp(put(x), max=1.5)), x.clamp(max=1.5))
    with pytest.raises(DeviceError, match=r"ttnn\.clamp: min or max must be given"):
        ttnn.clamp(put(x))


def test_where_takes_by_the_predicate(ttnn, put, every_mode):
    """Tensors and numbers, broadcast; whatever is not zero is true."""
    p = torch.randint(0, 3, (2, 32, 64)).bfloat16()
    a, b = torch.randn(2, 32, 64).bfloat16(), torch.randn(1, 32, 1).bfloat16()
    assert torch.equal(ttnn.to_torch(ttnn.where(put(p), put(a), put(b))), torch.where(p != 0, a, b))
    assert torch.equal(ttnn.to_torch(ttnn.where(put(p), put(a), -1.5)), torch.where(p != 0, a, -1.5))
    assert torch.equal(ttnn.to_torch(ttnn.where(put(p), 1.0, 0.0)), (p != 0).bfloat16())
    whole = torch.arange(64).int().repeat(2, 32, 1)
    out = ttnn.where(put(p), put(whole, ttnn.int32), put(-whole, ttnn.int32))
    assert torch.equal(ttnn.to_torch(out), torch.where(p != 0, whole, -whole))


def test_where_says_what_it_does_not_take(ttnn, put):
    x = put(torch.zeros(32, 64))
    with pytest.raises(DeviceError, match=r"ttnn\.where: shapes .*31.* do not broadcast"):
        ttnn.where(x, put(torch.zeros(31, 64)), x)
    with pytest.raises(TypeError, match=r"ttnn\.where: a value must be .* got 'one'"):
        ttnn.where(x, "one", x)


@pytest.mark.parametrize("wide", [False, True], ids=["bf16", "fp32"])
def test_quotient_is_within_an_ulp(ttnn, put, every_mode, wide):
    """a / b in the last bit of its format, in every mode; by zero Inf or NaN."""
    dtype, ulp = (ttnn.float32, 2.0**-22) if wide else (ttnn.bfloat16, 2.0**-7)
    a, b = torch.randn(64, 64).bfloat16().float(), torch.randn(64, 64).bfloat16().float()
    out = ttnn.to_torch(ttnn.div(put(a, dtype), put(b, dtype))).double()
    expected = a.double() / b.double()
    assert ((out - expected).abs() <= expected.abs() * ulp).all()
    by_zero = ttnn.to_torch(ttnn.divide(put(a, dtype), put(torch.zeros(64, 64), dtype)))
    assert by_zero.isinf().all()


def test_rsub_turns_the_operands(ttnn, put, every_mode):
    a, b = torch.randn(32, 64).bfloat16(), torch.randn(32, 64).bfloat16()
    assert torch.equal(ttnn.to_torch(ttnn.rsub(put(a), put(b))), ttnn.to_torch(ttnn.sub(put(b), put(a))))


@pytest.mark.parametrize(
    "op", ["add", "sub", "subtract", "multiply", "mul", "divide", "div", "rsub", *COMPARISONS]
)
def test_in_place_is_the_op_into_its_first_operand(ttnn, put, every_mode, op):
    a, b = torch.randn(32, 64).bfloat16(), torch.randn(1, 64).bfloat16()
    x, y = put(a), put(b)
    expected = ttnn.to_torch(getattr(ttnn, op)(x, y))
    out = getattr(ttnn, f"{op}_")(x, y)
    assert out.buffer_address() == x.buffer_address()
    assert torch.equal(ttnn.to_torch(x), expected)
    with pytest.raises(DeviceError, match="the result"):
        getattr(ttnn, f"{op}_")(y, x)


@pytest.mark.parametrize("op", ["eqz", "nez", "ltz", "gtz", "lez", "gez", "logical_not"])
def test_comparisons_with_zero(ttnn, put, every_mode, op):
    compare = {"z": lambda x: getattr(torch, op[:2])(x, torch.zeros_like(x)), "t": torch.logical_not}[op[-1]]
    a, _ = pairs()
    a = a if op != "logical_not" else a.nan_to_num()
    assert torch.equal(ttnn.to_torch(getattr(ttnn, op)(put(a))).float(), compare(a).float())
    whole = torch.randint(-2, 3, (32, 32)).int()
    assert torch.equal(ttnn.to_torch(getattr(ttnn, op)(put(whole, ttnn.int32))), compare(whole).int())


def test_in_place_in_a_trace(ttnn):
    """Each run of the trace adds again."""
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=2**20)
    try:
        x, y = (
            ttnn.from_torch(each, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)
            for each in (torch.zeros(32, 32), torch.ones(32, 32))
        )
        ttnn.add_(x, y)
        trace = ttnn.begin_trace_capture(mesh, cq_id=0)
        ttnn.add_(x, y)
        ttnn.end_trace_capture(mesh, trace, cq_id=0)
        for _ in range(3):
            ttnn.execute_trace(mesh, trace, cq_id=0, blocking=True)
        assert torch.equal(ttnn.to_torch(x).float(), torch.full((32, 32), 4.0))
    finally:
        ttnn.close_mesh_device(mesh)
