"""Goldens of reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.ttnn_calls.op_goldens.golden import Golden, NoGolden, Tensor


def _reduced(function: Callable[..., Any]) -> Golden:
    def golden(
        x: Tensor, dim: int | None = None, keepdim: bool = False, *, scalar: float = 1.0, **_: Any
    ) -> Tensor:
        dims = tuple(range(x.dim())) if dim is None else (dim,)
        result: Tensor = function(x, dims, keepdim)
        return result * scalar

    return golden


def _argmax(x: Tensor, dim: int | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    return x.argmax(dim, keepdim)


def _topk(
    x: Tensor,
    k: int = 32,
    dim: int = -1,
    largest: bool = True,
    *_: Any,
    indices_tensor: Tensor | None = None,
    **__: Any,
) -> list[Tensor]:
    values, places = x.topk(k, dim, largest)
    return [values, places if indices_tensor is None else indices_tensor.gather(dim, places)]


def _sort(x: Tensor, dim: int = -1, descending: bool = False, **_: Any) -> list[Tensor]:
    return list(x.sort(dim=dim, descending=descending, stable=True))


def _sampling(values: Tensor, indices: Tensor, k: Tensor, p: Tensor, temp: Tensor, **_: Any) -> Tensor:
    """The largest where that is the only candidate. Raises NoGolden where the draw is random."""
    if bool(((k != 1) & (p > 0)).any()):
        raise NoGolden("ttnn.sampling draws at random where k is not 1")
    return indices.gather(-1, values.argmax(-1, keepdim=True)).transpose(-2, -1)


GOLDENS: dict[str, Golden] = {
    "ttnn.softmax": lambda x, dim=-1, **_: x.softmax(dim),
    "ttnn.sum": _reduced(torch.sum),
    "ttnn.mean": _reduced(torch.mean),
    "ttnn.max": _reduced(torch.amax),
    "ttnn.min": _reduced(torch.amin),
    "ttnn.argmax": _argmax,
    "ttnn.topk": _topk,
    "ttnn.sort": _sort,
    "ttnn.sampling": _sampling,
    "ttnn.plus_one": lambda x, *_, **__: x + 1,
}
