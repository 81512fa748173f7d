"""What a recorded op would give in exact arithmetic: float64 on given operands, so that calls can be chained too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention, silu

from harness.conformance.numerics.recordings import Step, TensorSpec

Result = torch.Tensor | tuple[torch.Tensor, ...]


def exact(step: Step, operands: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...] | None:
    """The exact outputs, float64; None for the ops that write a cache.

    `operands` take the place of `step.tensors`: what the device holds for the error of one op, the golden's own values
    for a chain.
    """
    function = _FUNCTIONS.get(step.op)
    if function is None:
        return None
    given = iter(tensor.double() for tensor in operands)

    def value(one: Any) -> Any:
        return next(given) if isinstance(one, TensorSpec) else one

    args = [value(one) for one in step.args]
    kwargs = {key: value(one) for key, one in step.kwargs.items()}
    result: Result = function(*args, **kwargs)
    return result if isinstance(result, tuple) else (result,)


# A parameter that exact arithmetic has no use for, such as a compute config, falls into **_.


def _linear(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | float = 0.0, **_: Any) -> torch.Tensor:
    return a @ b + bias


def _binary(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def function(
        a: torch.Tensor, b: torch.Tensor | float, input_tensor_a_activations: Any = (), **_: Any
    ) -> torch.Tensor:
        result: torch.Tensor = compute(silu(a) if input_tensor_a_activations else a, b)
        return result

    return function


def _unary(compute: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda x, *_args, **_: compute(x)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _sum(x: torch.Tensor, dim: int, keepdim: bool, **_: Any) -> torch.Tensor:
    return x.sum(dim, keepdim)


def _softmax(x: torch.Tensor, dim: int, **_: Any) -> torch.Tensor:
    return x.softmax(dim)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float, **_: Any) -> torch.Tensor:
    mean_square = x.square().mean(-1, keepdim=True)
    return x * (mean_square + epsilon).rsqrt() * weight.reshape(-1)


def _rope_pairs(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, swap: torch.Tensor, **_: Any
) -> torch.Tensor:
    """The swap is the same in every tile: [.., D] as tiles of 32 columns, each times the first one."""
    tiles: torch.Tensor = x.unflatten(-1, (-1, 32)) @ swap[0, 0, :32]
    return x * cos + tiles.flatten(-2) * sin


def _rope_halves(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, **_: Any) -> torch.Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, **_: Any) -> torch.Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)


def _split(x: torch.Tensor, heads: int, kv_heads: int) -> tuple[torch.Tensor, ...]:
    """[1, 1, S, W] -> q, k, v, each [1, S, n, hd]."""
    head_dim = x.shape[-1] // (heads + 2 * kv_heads)
    return tuple(x[0].unflatten(-1, (-1, head_dim)).split([heads, kv_heads, kv_heads], -2))


def _heads(x: torch.Tensor, num_heads: int, num_kv_heads: int, **_: Any) -> tuple[torch.Tensor, ...]:
    return tuple(part.transpose(1, 2) for part in _split(x, num_heads, num_kv_heads))


def _heads_decode(x: torch.Tensor, num_heads: int, num_kv_heads: int, **_: Any) -> tuple[torch.Tensor, ...]:
    return _split(x, num_heads, num_kv_heads)


def _concat(x: torch.Tensor, **_: Any) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2)[:, None]


def _concat_decode(x: torch.Tensor, **_: Any) -> torch.Tensor:
    return x.flatten(2)[None]


_FUNCTIONS: dict[str, Callable[..., Result]] = {
    "ttnn.matmul": _linear,
    "ttnn.linear": _linear,
    "ttnn.add": _binary(torch.add),
    "ttnn.subtract": _binary(torch.sub),
    "ttnn.multiply": _binary(torch.mul),
    "ttnn.mul": _binary(torch.mul),
    "ttnn.exp": _unary(torch.exp),
    "ttnn.reciprocal": _unary(torch.reciprocal),
    "ttnn.rsqrt": _unary(torch.rsqrt),
    "ttnn.sigmoid": _unary(torch.sigmoid),
    "ttnn.silu": _unary(silu),
    "ttnn.typecast": _unary(_same),
    "ttnn.tilize": _unary(_same),
    "ttnn.untilize": _unary(_same),
    "ttnn.sum": _sum,
    "ttnn.softmax": _softmax,
    "ttnn.rms_norm": _rms_norm,
    "ttnn.transpose": lambda x, first, second: x.transpose(first, second),
    "ttnn.reshape": lambda x, shape: x.reshape(shape),
    "ttnn.experimental.rotary_embedding_llama": _rope_pairs,
    "ttnn.experimental.rotary_embedding_hf": _rope_halves,
    "ttnn.experimental.rotary_embedding": _rope_halves,
    "ttnn.experimental.nlp_create_qkv_heads": _heads,
    "ttnn.experimental.nlp_create_qkv_heads_decode": _heads_decode,
    "ttnn.experimental.nlp_concat_heads": _concat,
    "ttnn.experimental.nlp_concat_heads_decode": _concat_decode,
    "ttnn.transformer.scaled_dot_product_attention": _attention,
}
