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
    "eqz": lambda x: (x == 0).to(x.dtype),
    "nez": lambda x: (x != 0).to(x.dtype),
    "ltz": lambda x: (x < 0).to(x.dtype),
    "gtz": lambda x: (x > 0).to(x.dtype),
    "lez": lambda x: (x <= 0).to(x.dtype),
    "gez": lambda x: (x >= 0).to(x.dtype),
}


def _either(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Any], Tensor]:
    """Of two tensors, or of a tensor and a number."""
    return lambda a, b: function(a, b if isinstance(b, Tensor) else torch.tensor(b, dtype=a.dtype))


def _true(compare: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """1 where it holds, else 0, in the first operand's dtype."""
    return lambda a, b: compare(a, b).to(a.dtype)


def _clamp(x: Tensor, min: float | None = None, max: float | None = None, **_: Any) -> Tensor:
    return x.clamp(min, max)


def _where(predicate: Tensor, true_value: Any, false_value: Any, **_: Any) -> Tensor:
    return torch.where(predicate != 0, true_value, false_value)


_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "sub": torch.sub,
    "multiply": torch.mul,
    "mul": torch.mul,
    "divide": torch.div,
    "div": torch.div,
    "rsub": lambda a, b: b - a,
    **{name: _true(getattr(torch, name)) for name in ("eq", "ne", "lt", "gt", "le", "ge")},
}


def _unary(function: Callable[[Tensor], Tensor]) -> Golden:
    return lambda x, **_: function(x)


GOLDENS: dict[str, Golden] = {
    **{f"ttnn.{name}": _unary(function) for name, function in _UNARY.items()},
    **{f"ttnn.{name}": _binary(function) for name, function in _BINARY.items()},
    **{f"ttnn.{name}_": _binary(function) for name, function in _BINARY.items()},
    "ttnn.maximum": _binary(_either(torch.maximum)),
    "ttnn.minimum": _binary(_either(torch.minimum)),
    "ttnn.logical_not": _unary(_UNARY["eqz"]),
    "ttnn.clamp": _clamp,
    "ttnn.clip": _clamp,
    "ttnn.where": _where,
}
