"""Goldens of matrix products, norms and embeddings."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from harness.ttnn_calls.op_goldens.eltwise import activated
from harness.ttnn_calls.op_goldens.golden import Golden, Tensor


def _linear(
    a: Tensor,
    b: Tensor,
    *,
    bias: Tensor | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    activation: Any = None,
    **_: Any,
) -> Tensor:
    a = a.transpose(-1, -2) if transpose_a else a
    b = b.transpose(-1, -2) if transpose_b else b
    y = a @ b if bias is None else a @ b + bias
    return y if activation is None else activated(y, [activation])


def _sparse_matmul(
    a: Tensor,
    b: Tensor,
    *,
    sparsity: Tensor,
    is_input_a_sparse: bool = False,
    is_input_b_sparse: bool = True,
    **_: Any,
) -> Tensor:
    """Zeros where the mask is 0."""
    if not is_input_a_sparse:  # each of a with each of b
        a = a.reshape(*a.shape[:-2], *[1] * (b.dim() - 2), *a.shape[-2:])
    y = a @ b
    return y * (sparsity != 0).reshape(*y.shape[:-2], 1, 1)


def _rms_norm(
    x: Tensor,
    weight: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    **_: Any,
) -> Tensor:
    x = x if residual_input_tensor is None else x + residual_input_tensor
    y = functional.rms_norm(x, x.shape[-1:], eps=epsilon)
    y = y if weight is None else y * weight.reshape(-1)
    return y if bias is None else y + bias.reshape(-1)


def _layer_norm(
    x: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    **_: Any,
) -> Tensor:
    x = x if residual_input_tensor is None else x + residual_input_tensor
    gamma, beta = (None if t is None else t.reshape(-1) for t in (weight, bias))
    return functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def _embedding(ids: Tensor, table: Tensor, **_: Any) -> Tensor:
    return functional.embedding(ids.reshape(ids.shape[0], ids.shape[-1]), table.reshape(-1, table.shape[-1]))


GOLDENS: dict[str, Golden] = {
    "ttnn.matmul": _linear,
    "ttnn.linear": _linear,
    "ttnn.sparse_matmul": _sparse_matmul,
    "ttnn.rms_norm": _rms_norm,
    "ttnn.layer_norm": _layer_norm,
    "ttnn.embedding": _embedding,
}
