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


GOLDENS: dict[str, Golden] = {
    "ttnn.all_gather": _gathered,
    "ttnn.all_reduce": _summed,
    "ttnn.reduce_scatter": _scattered,
}
