"""Casts on the device and on the host: which op takes which pair of dtypes, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

INF, NAN, TOP = math.inf, math.nan, 2**31


def test_typecast_on_the_device(ttnn: Any, put: Callable[..., Any]) -> None:
    """The op takes every pair of dtypes, in both layouts, by one dtype or by two."""
    names = ("bfloat16", "float32", "bfloat8_b", "bfloat4_b", "uint8", "uint16", "int32", "uint32")
    dtypes = [getattr(ttnn, name) for name in names]
    for source in dtypes:
        x = put(torch.full((1, 1, 32, 32), 3), source)
        for dtype in dtypes:
            made = ttnn.typecast(x, dtype)
            assert (made.dtype, made.shape) == (dtype, x.shape)
            assert ttnn.to_torch(made).double().eq(ttnn.to_torch(x).double()).all()
            assert ttnn.to_torch(ttnn.typecast(x, source, dtype)).equal(ttnn.to_torch(made))
    rows = put(torch.tensor([[0.5, 1.5, -1.0, 70000.0]]), ttnn.float32, ttnn.ROW_MAJOR_LAYOUT)
    assert ttnn.to_torch(ttnn.typecast(rows, ttnn.uint16)).tolist() == [[1, 2, 0, 65535]]


def test_typecast_refuses_what_ttnn_refuses(ttnn: Any, put: Callable[..., Any]) -> None:
    """An input dtype that is not the input's, an output of another kind, block floats in rows."""
    x = put(torch.zeros(32, 32), ttnn.int32)
    with pytest.raises(RuntimeError, match=r"^ttnn\.typecast: input_dtype DataType\.UINT16 must be"):
        ttnn.typecast(x, ttnn.uint16, ttnn.bfloat16)
    with pytest.raises(RuntimeError, match=r"^ttnn\.typecast: output_tensor .* must be DataType\.BFLOAT16"):
        ttnn.typecast(x, ttnn.bfloat16, output_tensor=put(torch.zeros(32, 32), ttnn.float32))
    into = put(torch.zeros(32, 32), ttnn.bfloat16)
    assert ttnn.typecast(put(torch.ones(32, 32), ttnn.int32), ttnn.bfloat16, output_tensor=into) is into
    assert ttnn.to_torch(into).eq(1).all()


def test_a_copy_is_no_typecast(ttnn: Any, put: Callable[..., Any]) -> None:
    """clone, copy, to_memory_config and tilize run no typecast kernel: between floats and integers that is refused."""
    x = put(torch.ones(32, 32), ttnn.bfloat16)
    rows = put(torch.ones(32, 32), ttnn.float32, ttnn.ROW_MAJOR_LAYOUT)
    for call in (
        lambda: ttnn.clone(x, dtype=ttnn.int32),
        lambda: ttnn.to_memory_config(x, ttnn.L1_MEMORY_CONFIG, ttnn.uint16),
        lambda: ttnn.copy(x, put(torch.ones(32, 32), ttnn.int32)),
        lambda: ttnn.to_layout(rows, ttnn.TILE_LAYOUT, ttnn.uint32),
    ):
        with pytest.raises(RuntimeError, match=r"^ttnn\.\w+: copies DataType\.\w+ to .* use ttnn\.typecast$"):
            call()
    words = ttnn.clone(put(torch.full((32, 32), -1), ttnn.int32), dtype=ttnn.uint32)
    assert ttnn.to_torch(words).long().eq(2**32 - 1).all()


@pytest.mark.parametrize("name", ["uint8", "uint16", "uint32", "int32"])
def test_the_host_cuts_and_refuses_what_does_not_fit(ttnn: Any, name: str) -> None:
    """from_torch and to_dtype truncate toward zero; a number without a value is refused with the op's name."""
    dtype = getattr(ttnn, name)
    made = ttnn.from_torch(torch.tensor([0.5, 1.9, 254.5, -0.9]), dtype=dtype)
    assert ttnn.to_torch(made).tolist() == [0, 1, 254, 0]
    if name == "int32":
        made = ttnn.from_torch(torch.tensor([3e9, INF, NAN, -3e9]), dtype=dtype)
        assert ttnn.to_torch(made).tolist() == [-TOP] * 4
        return
    with pytest.raises(RuntimeError, match=r"^ttnn\.from_torch: nan does not fit " + name.upper()):
        ttnn.from_torch(torch.tensor([NAN]), dtype=dtype)
    with pytest.raises(RuntimeError, match=r"^ttnn\.to_dtype: 1e\+10 does not fit " + name.upper()):
        ttnn.to_dtype(ttnn.from_torch(torch.tensor([1e10])), dtype)


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float16, torch.int8, torch.int64, torch.uint16, torch.bool]
)
def test_to_torch_casts_as_torch(ttnn: Any, kind: torch.dtype) -> None:
    """to_torch(dtype=) is torch's own cast of what the tensor holds, from every dtype."""
    values = torch.tensor([[0, 1, 2, 3, 250]])
    for name in ("bfloat16", "float32", "uint8", "uint16", "int32", "uint32"):
        x = ttnn.from_torch(values, dtype=getattr(ttnn, name))
        made = ttnn.to_torch(x, dtype=kind)
        assert made.dtype is kind
        assert made.long().equal(values.to(kind).long())
