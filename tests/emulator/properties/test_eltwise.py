"""Elementwise ops of one tensor and of two, with scalars, broadcasting, mixed dtypes and fused activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import INTEGERS, Call, Made, Name
from tests.emulator.properties.comparison import Expected
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

Function = Callable[[torch.Tensor], torch.Tensor]
_UNARY: dict[str, Function] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "square": torch.square,
    "neg": torch.neg,
}
_OF_POSITIVE = ("sqrt", "rsqrt", "reciprocal")
_BINARY = {"add": torch.add, "subtract": torch.sub, "sub": torch.sub, "multiply": torch.mul, "mul": torch.mul}
_COMPARED = {name: getattr(torch, name) for name in ("eq", "ne", "lt", "gt", "le", "ge")}
_OPERATORS = {"__add__": torch.add, "__sub__": torch.sub, "__mul__": torch.mul, "__rsub__": torch.rsub}
_FUSED: dict[str, Function] = {"RELU": torch.relu, "SILU": F.silu, "SQUARE": torch.square}
_BITS = {"uint32": 32, "int32": 32, "uint16": 16, "uint8": 8}


@st.composite
def unary(draw: st.DrawFn) -> Call:
    """One time in eight a sharded tensor."""
    op = draw(st.sampled_from(tuple(_UNARY)))
    values = "positive" if op in _OF_POSITIVE else draw(st.sampled_from(("normal", "small")))
    keywords = draw(some.options(memory_config=some.buffers))
    return Call(f"ttnn.{op}", (draw(operands(values=values)),), keywords)


@st.composite
def operands(draw: st.DrawFn, values: str = "normal") -> Any:
    shape = draw(some.shapes(0 if draw(st.integers(0, 9)) == 9 else 1))
    config = some.sharded(shape) if len(shape) > 1 and draw(st.integers(0, 7)) == 7 else some.buffers
    return draw(some.tensors(shape, some.dtypes, config=config, values=values))


activations = st.sampled_from(tuple(_FUSED)).map(lambda n: [Name(f"UnaryOpType.{n}")]) | st.just(
    [Made("UnaryWithParam", (Name("UnaryOpType.SILU"),))]
)


@st.composite
def binary(draw: st.DrawFn) -> Call:
    """Two tensors that broadcast mostly, or a tensor and a number on either side."""
    a = draw(operands())
    op = draw(st.sampled_from(tuple(_BINARY)))
    keywords = some.options(
        memory_config=some.buffers,
        dtype=some.names(some.dtypes),
        activations=activations,
        input_tensor_a_activations=activations,
        input_tensor_b_activations=activations,
        fast_and_approximate_mode=st.booleans(),
    )
    if draw(st.integers(0, 3)) == 3:
        number = draw(st.sampled_from((2, 0.5, -1.5, 3, -1, 0, 0.1)))
        if draw(st.booleans()):
            return Call(f"ttnn.Tensor.{draw(st.sampled_from(tuple(_OPERATORS)))}", (a, number))
        kept = {key: value for key, value in draw(keywords).items() if not key.endswith("activations")}
        return Call(f"ttnn.{op}", (a, number) if draw(st.booleans()) else (number, a), kept)
    shape = [1 if draw(st.integers(0, 5)) == 5 else d for d in a.shape]
    if draw(st.integers(0, 5)) == 5:
        shape = shape[1:] if draw(st.booleans()) else [2, *shape]
    if shape and draw(st.integers(0, 9)) == 9:
        shape[draw(st.integers(0, len(shape) - 1))] = 7
    same = st.just(a.dtype) if draw(st.booleans()) else some.dtypes
    b = draw(
        some.tensors(
            tuple(shape), same, config=st.just(a.config) if tuple(shape) == a.shape else some.buffers
        )
    )
    return Call(f"ttnn.{op}", (a, b) if draw(st.booleans()) else (b, a), draw(keywords))


@st.composite
def compared(draw: st.DrawFn) -> Call:
    """Small integers in one float format, or mixed ones, of which every difference is exact; or a comparison with zero."""
    op = draw(st.sampled_from(tuple(_COMPARED)))
    a = draw(operands(values="small"))
    if draw(st.integers(0, 3)) == 3:
        return Call(f"ttnn.{op}z", (a,), draw(some.options(memory_config=some.buffers)))
    if draw(st.integers(0, 3)) == 3:
        return Call(f"ttnn.{op}", (a, draw(st.sampled_from((2, -1, 0, 0.5)))))
    same = st.just(a.dtype) if draw(st.booleans()) else some.dtypes
    b = draw(some.tensors(a.shape, same, config=st.just(a.config), values="small"))
    names = [f"ttnn.{op}"] + [f"ttnn.Tensor.__{op}__"] * (op not in ("eq", "ne"))
    name = draw(st.sampled_from(names))
    return Call(name, (a, b))


def _of_one(compute: Function) -> Any:
    def reference(x: torch.Tensor, **_: Any) -> Expected:
        y = compute(x)
        return Expected(y, slack=0 if not x.is_floating_point() else y.abs() * 2**-18 + 2**-20, roundings=2)

    return reference


def _of_two(compute: Callable[..., torch.Tensor]) -> Any:
    """Within an 11-bit significand of the larger operand where the matrix unit adds, within fp32's elsewhere."""

    def reference(
        a: Any,
        b: Any,
        *,
        dtype: Name | None = None,
        activations: Sequence[Any] = (),
        input_tensor_a_activations: Sequence[Any] = (),
        input_tensor_b_activations: Sequence[Any] = (),
        **_: Any,
    ) -> Expected | None:
        kinds = [x.ttnn_dtype for x in (a, b) if isinstance(x, torch.Tensor)]
        fraction = any(isinstance(x, float) for x in (a, b))  # which makes a product of integers a float
        whole = all(kind in INTEGERS for kind in kinds)
        if whole and not (fraction and compute is torch.mul):
            if dtype is not None or activations or input_tensor_a_activations or input_tensor_b_activations:
                return None  # casts are a family of their own
            a, b = (int(x) if not isinstance(x, torch.Tensor) else x for x in (a, b))
            made = compute(torch.as_tensor(a), torch.as_tensor(b))
            bits = _BITS[kinds[0]]
            wrapped = made & (1 << bits) - 1
            return Expected(wrapped if kinds[0] != "int32" else wrapped.int().long())
        x = _activated(torch.as_tensor(a, dtype=torch.float64), input_tensor_a_activations)
        y = _activated(torch.as_tensor(b, dtype=torch.float64), input_tensor_b_activations)
        product = compute is torch.mul
        size = (x * y).abs() if product else x.abs() + y.abs()
        exact = kinds == ["float32"] * len(kinds) and not (
            activations or input_tensor_a_activations or input_tensor_b_activations
        )
        worst = max({"bfloat8_b": 2**-6, "bfloat4_b": 2**-2}.get(kind, 2**-8) for kind in kinds)
        fused = bool(activations or input_tensor_a_activations or input_tensor_b_activations)
        slack = size * (2**-22 if exact else 2**-7) + (
            worst * 8 * size.amax() if fused and size.numel() else 0
        )
        result = _activated(compute(x, y), activations)
        if activations:
            slack = slack * (1 + 2 * size)
        if dtype is not None and dtype.path in INTEGERS:
            return None
        return Expected(result, slack, roundings=2)

    return reference


def _activated(x: torch.Tensor, activations: Sequence[Any]) -> torch.Tensor:
    for each in activations:
        name = each if isinstance(each, Name) else each.args[0]
        x = _FUSED[name.path.removeprefix("UnaryOpType.")](x)
    return x


def _truth(compare: Callable[..., torch.Tensor]) -> Any:
    """1 where it holds, else 0: exactly."""

    def reference(a: torch.Tensor, b: Any = 0, **_: Any) -> Expected:
        return Expected(compare(a, b).to(a.dtype), roundings=0)

    return reference


REFERENCES = {
    **{f"ttnn.{op}": _truth(compare) for op, compare in _COMPARED.items()},
    **{f"ttnn.{op}z": _truth(compare) for op, compare in _COMPARED.items()},
    **{f"ttnn.Tensor.__{op}__": _truth(compare) for op, compare in _COMPARED.items()},
    **{f"ttnn.{op}": _of_one(compute) for op, compute in _UNARY.items()},
    **{f"ttnn.{op}": _of_two(compute) for op, compute in _BINARY.items()},
    **{f"ttnn.Tensor.{op}": _of_two(compute) for op, compute in _OPERATORS.items()},
}
FAMILY = Family("eltwise", unary() | binary() | binary() | compared(), REFERENCES)


def test_eltwise(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
