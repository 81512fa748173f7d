"""matmul and linear, reductions, and typecast, over ranks, dtypes and layouts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import INTEGERS, Call, Name
from tests.emulator.properties.comparison import Expected
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

_REDUCTIONS = ("sum", "mean", "max", "min")
dtypes = some.mostly(("bfloat16", "bfloat16", "float32", "bfloat8_b"), some.DTYPES)
layouts = some.mostly(("TILE", "TILE", "TILE"), some.LAYOUTS)


@st.composite
def products(draw: st.DrawFn) -> Call:
    """Operands of ranks 1 to 4, that fit mostly; a bias of a row, of a batch, or one that does not fit."""
    rows, inner, columns = (draw(some.sizes) for _ in range(3))
    batch = tuple(draw(st.lists(some.leading, max_size=2)))
    other = draw(some.mostly(((), batch), ((1,), (2,), (2, 3))))
    a = (*batch, rows, inner) if draw(st.integers(0, 9)) else (inner,)
    b = (*other, inner, columns) if draw(st.integers(0, 9)) else (inner,)
    if draw(st.integers(0, 9)) == 9:
        b = (*b[:-1], 7)
    if draw(st.integers(0, 14)) == 14:
        a = (*a[:-1], 7)
    x, y = draw(some.tensors(a, dtypes, layouts)), draw(some.tensors(b, dtypes, layouts))
    keywords = draw(some.options(dtype=some.names(dtypes), memory_config=some.buffers))
    if draw(st.booleans()):
        return Call("ttnn.matmul", (x, y), keywords)
    if draw(st.integers(0, 3)):
        ahead = draw(some.mostly(((1,), ()), ((1, 1), batch, (rows,), (2, 1))))
        keywords["bias"] = draw(some.tensors((*ahead, columns), dtypes, layouts))
    return Call("ttnn.linear", (x, y), keywords)


@st.composite
def reductions(draw: st.DrawFn) -> Call:
    x = draw(some.tensors(some.shapes(1), dtypes, layouts))
    rank = len(x.shape)
    keywords = draw(some.options(keepdim=st.booleans(), memory_config=some.buffers))
    along = draw(st.integers(0, 5))
    if along == 5:
        keywords["dim"] = draw(st.lists(some.dims(rank), max_size=3))
    elif along:
        keywords["dim"] = draw(some.dims(rank))
    return Call(f"ttnn.{draw(st.sampled_from(_REDUCTIONS))}", (x,), keywords)


@st.composite
def casts(draw: st.DrawFn) -> Call:
    x = draw(
        some.tensors(
            some.shapes(1, 4), some.dtypes, layouts, values=draw(st.sampled_from(("normal", "small")))
        )
    )
    return Call(
        "ttnn.typecast",
        (x, draw(some.names(st.sampled_from(some.DTYPES)))),
        draw(some.options(memory_config=some.buffers)),
    )


def _product(
    a: torch.Tensor, b: torch.Tensor, *, bias: torch.Tensor | None = None, **_: Any
) -> Expected | None:
    """Within what a bfloat16 destination loses, a share of the sum of the products' sizes; LoFi where block floats meet."""
    if not (a.is_floating_point() and b.is_floating_point()):
        return None
    value, size = a @ b, a.abs() @ b.abs()
    if bias is not None:
        value, size = value + bias, size + bias.abs()
    blocks = {a.ttnn_dtype, b.ttnn_dtype} <= {"bfloat8_b", "bfloat4_b"}  # type: ignore[attr-defined]
    return Expected(value, slack=size * (2**-3 if blocks else 2**-5), roundings=4)


def _reduced(op: str) -> Callable[..., Expected | None]:
    def reference(x: torch.Tensor, *, dim: Any = None, keepdim: bool = False, **_: Any) -> Expected | None:
        given = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
        if any(not -x.dim() <= d < x.dim() for d in given):
            raise IndexError(f"dim {dim} of {list(x.shape)}")
        axes = sorted({d % x.dim() for d in given}) or list(range(x.dim()))
        count = math.prod(x.shape[d] for d in axes)
        if not x.is_floating_point():
            made = {"sum": x.sum, "max": x.amax, "min": x.amin}.get(op)
            return Expected(made(axes, keepdim)) if made is not None else None
        if op in ("max", "min"):
            return Expected(getattr(x, f"a{op}")(axes, keepdim))
        size = x.abs().sum(axes, keepdim)
        value, scale = x.sum(axes, keepdim), 1 / count if op == "mean" else 1.0
        return Expected(value * scale, slack=size * scale * 2**-5, roundings=2)

    return reference


def _cast(x: torch.Tensor, dtype: Name, **_: Any) -> Expected | None:
    """Between floats; small integers whose sign fits keep their value."""
    if dtype.path in INTEGERS:
        kept = not x.is_floating_point() and (dtype.path == "int32" or bool((x >= 0).all()))
        return Expected(x) if kept else None
    return Expected(x)


REFERENCES = {
    "ttnn.matmul": _product,
    "ttnn.linear": _product,
    "ttnn.typecast": _cast,
    **{f"ttnn.{op}": _reduced(op) for op in _REDUCTIONS},
}
FAMILY = Family("products", products() | products() | reductions() | casts(), REFERENCES)


def test_products(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
