"""Elementwise ops of one tensor and of two, with scalars, broadcasting, mixed dtypes and fused activations."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call
from tests.emulator.properties.comparison import Expected
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

_UNARY = (
    "silu",
    "gelu",
    "relu",
    "sigmoid",
    "tanh",
    "exp",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "abs",
    "square",
    "neg",
)


@st.composite
def unary(draw: st.DrawFn) -> Call:
    op = draw(st.sampled_from(_UNARY))
    x = some.tensors(
        dtype=some.dtypes, values="positive" if op in ("sqrt", "rsqrt", "reciprocal") else "normal"
    )
    return Call(f"ttnn.{op}", (draw(x),), draw(some.options(memory_config=some.buffers)))


def _of_one(compute: Any) -> Any:
    def reference(x: torch.Tensor, **_: Any) -> Expected:
        y = compute(x)
        return Expected(y, slack=y.abs() * 2**-8 + 2**-20, roundings=2)

    return reference


REFERENCES = {
    **{f"ttnn.{op}": _of_one(getattr(torch, op)) for op in _UNARY if hasattr(torch, op)},
    "ttnn.silu": _of_one(torch.nn.functional.silu),
    "ttnn.gelu": _of_one(torch.nn.functional.gelu),
}
FAMILY = Family("eltwise", unary(), REFERENCES)


def test_eltwise(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
