"""`ttnn.typecast` into and out of integers: tables of values worked out from the Wormhole kernels' instructions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.emulator.arithmetic import casts, formats
from harness.emulator.spec.types import DataType

INF, NAN = math.inf, math.nan
TOP = 2**31

# A float, and what UINT8, UINT16, INT32 and UINT32 hold of it.
OF_FLOATS = [
    (0.0, 0, 0, 0, 0),
    (-0.0, 0, 0, 0, 0),
    (0.49, 0, 0, 0, 0),
    (0.5, 0, 1, 0, 0),
    (0.9, 0, 1, 0, 0),
    (1.5, 1, 2, 1, 1),
    (2.5, 2, 3, 2, 2),
    (-0.5, 0, 0, 0, 0),
    (-0.9, 0, 0, 0, 0),
    (-1.0, 255, 0, -1, 0),
    (-1.5, 255, 0, -1, 0),
    (-300.0, 212, 0, -300, 0),
    (254.5, 254, 255, 254, 254),
    (255.5, 255, 256, 255, 255),
    (256.0, 0, 256, 256, 256),
    (65534.5, 254, 65535, 65534, 65534),
    (65535.5, 255, 65535, 65535, 65535),
    (65536.0, 0, 65535, 65536, 65536),
    (70000.0, 112, 65535, 70000, 70000),
    (2147483520.0, 128, 65535, 2147483520, 2147483520),
    (2147483648.0, 0, 65535, TOP - 1, TOP),
    (-2147483648.0, 0, 0, -TOP, 0),
    (4294967040.0, 0, 65535, TOP - 1, 4294967040),
    (4294967296.0, 0, 65535, TOP - 1, 2 * TOP - 1),
    (1e30, 0, 65535, TOP - 1, 2 * TOP - 1),
    (-1e30, 0, 0, -TOP, 0),
    (INF, 0, 65535, TOP - 1, 2 * TOP - 1),
    (-INF, 0, 0, -TOP, 0),
    (NAN, 0, 65535, TOP - 1, 2 * TOP - 1),
    (1e-40, 0, 0, 0, 0),
]
INTO = (DataType.UINT8, DataType.UINT16, DataType.INT32, DataType.UINT32)
# An integer of a dtype, and what the others hold of it.
OF_INTEGERS = [
    (DataType.INT32, -1, {DataType.UINT8: 255, DataType.UINT16: 0, DataType.UINT32: 2 * TOP - 1}),
    (DataType.INT32, -TOP, {DataType.UINT8: 0, DataType.UINT16: 0, DataType.UINT32: TOP}),
    (DataType.INT32, 300, {DataType.UINT8: 44, DataType.UINT16: 300, DataType.UINT32: 300}),
    (DataType.INT32, 65536, {DataType.UINT8: 0, DataType.UINT16: 65535, DataType.UINT32: 65536}),
    (DataType.UINT32, 65536, {DataType.UINT8: 0, DataType.UINT16: 65535, DataType.INT32: 65536}),
    (DataType.UINT32, 2 * TOP - 1, {DataType.UINT8: 255, DataType.UINT16: 65535, DataType.INT32: -1}),
    (DataType.UINT16, 65535, {DataType.UINT8: 255, DataType.INT32: 65535, DataType.UINT32: 65535}),
    (DataType.UINT8, 200, {DataType.UINT16: 200, DataType.INT32: 200, DataType.UINT32: 200}),
]
# An integer of a dtype, and the FLOAT32 and BFLOAT16 made of it: half to even, and from there half away from zero.
TO_FLOATS = [
    (DataType.INT32, 16777217, 16777216.0, 16777216.0),
    (DataType.INT32, 257, 257.0, 258.0),
    (DataType.INT32, -257, -257.0, -258.0),
    (DataType.INT32, -TOP, -2147483648.0, -2147483648.0),
    (DataType.INT32, 0, 0.0, 0.0),
    (DataType.UINT16, 65535, 65535.0, 65536.0),
    (DataType.UINT16, 259, 259.0, 260.0),
    (DataType.UINT8, 255, 255.0, 255.0),
    (DataType.UINT32, 2 * TOP - 1, 4294967296.0, 4294967296.0),
    (DataType.UINT32, TOP + 128, 2147483648.0, 2147483648.0),  # halfway between two float32: the even one
    (DataType.UINT32, TOP + 384, 2147484160.0, 2147483648.0),
]


@pytest.mark.parametrize("row", OF_FLOATS, ids=lambda row: f"{row[0]:g}")
def test_floats_become_integers_as_the_kernel_makes_them(row: tuple[Any, ...]) -> None:
    """Each kind of number, in each integer dtype; as bfloat16 too, where that holds it."""
    x = torch.tensor([row[0]])
    sources = {DataType.FLOAT32: x}
    if x.bfloat16().float().equal(x):
        sources[DataType.BFLOAT16] = x.bfloat16()
    for source, values in sources.items():
        assert [casts.typecast(values, source, dtype).item() for dtype in INTO] == list(row[1:])


def test_a_negative_nan_is_negative() -> None:
    """The kernels look at the sign bit alone."""
    x = -torch.tensor([NAN])
    assert x.signbit().item()
    assert [casts.typecast(x, DataType.FLOAT32, dtype).item() for dtype in INTO] == [0, 0, -TOP, 0]


@pytest.mark.parametrize(("source", "value", "others"), OF_INTEGERS)
def test_integers_become_integers(source: DataType, value: int, others: dict[DataType, int]) -> None:
    """UINT16 saturates, UINT8 wraps, 32 bits keep their bits."""
    x = torch.tensor([value], dtype=formats.storage_dtype(source))
    assert {dtype: casts.typecast(x, source, dtype).item() for dtype in others} == others


@pytest.mark.parametrize(("source", "value", "fp32", "bf16"), TO_FLOATS)
def test_integers_become_floats(source: DataType, value: int, fp32: float, bf16: float) -> None:
    """To FLOAT32 once, half to even; to BFLOAT16 from there, half away from zero."""
    x = torch.tensor([value], dtype=formats.storage_dtype(source))
    assert casts.typecast(x, source, DataType.FLOAT32).item() == fp32
    assert casts.typecast(x, source, DataType.BFLOAT16).item() == bf16


def test_block_floats_are_packed_from_bfloat16() -> None:
    """The kernel rounds to 8 significant bits before the packer finds a block's exponent."""
    x = torch.tensor([[257, 1, 2, 3]], dtype=torch.int32)
    assert casts.typecast(x, DataType.INT32, DataType.BFLOAT8_B).tolist() == [[260.0, 0.0, 4.0, 4.0]]


@given(st.floats(width=32), st.sampled_from(INTO))
def test_an_integer_result_is_one_of_its_dtype(value: float, dtype: DataType) -> None:
    """Whatever the float, the result is in range, and within one of the float where the dtype holds that."""
    made = casts.typecast(torch.tensor([value]), DataType.FLOAT32, dtype)
    low, high = formats.INTEGER_RANGE[dtype]
    assert made.dtype is formats.storage_dtype(dtype)
    assert low <= made.item() <= high
    if low <= value <= high:
        assert abs(made.item() - value) < 1


@given(st.sampled_from(INTO), st.data())
def test_an_integer_that_a_float_holds_comes_back(dtype: DataType, data: st.DataObject) -> None:
    """Up to 24 bits FLOAT32 holds an integer, so there and back it is itself."""
    low, high = formats.INTEGER_RANGE[dtype]
    value = data.draw(st.integers(max(low, -(2**24)), min(high, 2**24)))
    x = torch.tensor([value], dtype=formats.storage_dtype(dtype))
    there = casts.typecast(x, dtype, DataType.FLOAT32)
    assert casts.typecast(there, DataType.FLOAT32, dtype).item() == value
