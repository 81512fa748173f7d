"""What a recorded op would give in exact arithmetic: its golden in float64 on given operands, so that calls can be chained too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.conformance.numerics.recordings import Step, TensorSpec
from harness.ttnn_calls.op_goldens import GOLDENS

# The ops whose recorded calls have an exact result to be held against: those that compute or rearrange one.
_EXACT = frozenset(
    (
        *("ttnn.matmul", "ttnn.linear", "ttnn.add", "ttnn.subtract", "ttnn.multiply", "ttnn.mul"),
        *("ttnn.exp", "ttnn.reciprocal", "ttnn.rsqrt", "ttnn.sigmoid", "ttnn.silu"),
        *("ttnn.typecast", "ttnn.tilize", "ttnn.untilize", "ttnn.transpose", "ttnn.reshape"),
        *("ttnn.sum", "ttnn.softmax", "ttnn.rms_norm"),
        "ttnn.experimental.rotary_embedding_llama",
        "ttnn.experimental.rotary_embedding_hf",
        "ttnn.experimental.rotary_embedding",
        "ttnn.experimental.nlp_create_qkv_heads",
        "ttnn.experimental.nlp_create_qkv_heads_decode",
        "ttnn.experimental.nlp_concat_heads",
        "ttnn.experimental.nlp_concat_heads_decode",
        "ttnn.transformer.scaled_dot_product_attention",
    )
)


def exact(step: Step, operands: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...] | None:
    """The exact outputs, float64; None for other ops, such as those that write a cache.

    `operands` take the place of `step.tensors`: what the device holds for the error of one op, the golden's own values
    for a chain.
    """
    if step.op not in _EXACT:
        return None
    tensors = iter(tensor.double() for tensor in operands)

    def value(one: Any) -> Any:
        return next(tensors) if isinstance(one, TensorSpec) else one

    args = [value(one) for one in step.args]
    kwargs = {key: value(one) for key, one in step.kwargs.items()}
    result: torch.Tensor | tuple[torch.Tensor, ...] = GOLDENS[step.op](*args, **kwargs)
    return result if isinstance(result, tuple) else (result,)
