"""Goldens of collectives: of lists, a tensor a device."""

from __future__ import annotations

from typing import Any

import torch

from harness.ttnn_calls.op_goldens.golden import Golden, Tensor


def _gathered(parts: list[Tensor], dim: int, **_: Any) -> list[Tensor]:
    return [torch.cat(parts, dim)] * len(parts)


def _summed(parts: list[Tensor], **_: Any) -> list[Tensor]:
    return [torch.stack(parts).sum(0)] * len(parts)


def _scattered(parts: list[Tensor], dim: int, **_: Any) -> list[Tensor]:
    return list(torch.stack(parts).sum(0).chunk(len(parts), dim))


def _gathered_async(parts: list[Tensor], *places: Any, dim: int | None = None, **_: Any) -> list[Tensor]:
    """`dim` by name, or the first number by place."""
    given = [place for place in places if isinstance(place, int)]
    return _gathered(parts, given[0] if given else dim)  # type: ignore[arg-type]


def _scattered_async(
    parts: list[Tensor], buffers: Any = None, dim: int = -1, *_: Any, **__: Any
) -> list[Tensor]:
    return _scattered(parts, dim)


GOLDENS: dict[str, Golden] = {
    "ttnn.all_gather": _gathered,
    "ttnn.all_reduce": _summed,
    "ttnn.reduce_scatter": _scattered,
    "ttnn.experimental.all_gather_async": _gathered_async,
    "ttnn.experimental.reduce_scatter_minimal_async": _scattered_async,
    "ttnn.experimental.all_reduce_async": _summed,
}
