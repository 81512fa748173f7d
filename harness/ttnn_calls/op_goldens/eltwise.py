"""Goldens of ops element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from harness.ttnn_calls.op_goldens.golden import Golden, NoGolden, Tensor


def activated(x: Tensor, activations: Sequence[Any]) -> Tensor:
    for activation in activations:
        name = activation if isinstance(activation, str) else getattr(activation, "name", None)
        unary = (name or "").rpartition(".")[2].lower()  # "silu", or "UnaryOpType.SILU" as a recording has it
        if unary not in _UNARY:
            raise NoGolden(f"activation {activation} has no golden")
        x = _UNARY[unary](x)
    return x


def _binary(function: Callable[[Any, Any], Tensor]) -> Golden:
    def golden(
        a: Any,
        b: Any,
        *,
        activations: Sequence[Any] = (),
        input_tensor_a_activations: Sequence[Any] = (),
        input_tensor_b_activations: Sequence[Any] = (),
        **_: Any,
    ) -> Tensor:
        left, right = activated(a, input_tensor_a_activations), activated(b, input_tensor_b_activations)
        return activated(function(left, right), activations)

    return golden


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": functional.relu,
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


def _unary(function: Callable[[Tensor], Tensor]) -> Golden:
    return lambda x, **_: function(x)


GOLDENS: dict[str, Golden] = {
    **{f"ttnn.{name}": _unary(function) for name, function in _UNARY.items()},
    "ttnn.add": _binary(torch.add),
    "ttnn.subtract": _binary(torch.sub),
    "ttnn.sub": _binary(torch.sub),
    "ttnn.multiply": _binary(torch.mul),
    "ttnn.mul": _binary(torch.mul),
}
