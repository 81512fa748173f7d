"""Goldens of what moves values and computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from harness.ttnn_calls.op_goldens.golden import Golden, NoGolden, Tensor


def _slice(
    x: Tensor, start: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None, **_: Any
) -> Tensor:
    return x[tuple(map(slice, start, end, step or [1] * len(start)))]


def _untilized(x: Tensor, output_tensor_end: Sequence[int], **_: Any) -> Tensor:
    return x[tuple(slice(last + 1) for last in output_tensor_end)]


def _padded(x: Tensor, padding: Sequence[Sequence[int]], value: float = 0.0, **_: Any) -> Tensor:
    widths = [width for dim in reversed(list(padding)) for width in dim]
    return functional.pad(x, widths, value=value)


def _viewed(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Where the pages in memory stay what they are whatever the layout; elsewhere ttnn gives the values in another order."""
    new = x.reshape(tuple(shape))
    rows, new_rows = (values.shape[-2] if values.dim() > 1 else 1 for values in (x, new))
    if x.shape[-1] != new.shape[-1] or (rows != new_rows and (rows % 32 or new_rows % 32)):
        raise NoGolden(
            f"experimental.view: {list(x.shape)} seen as {list(new.shape)} may be in another order"
        )
    return new


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


_PLACEMENT = (
    *("to_memory_config", "interleaved_to_sharded", "sharded_to_interleaved", "reshard", "move", "clone"),
    *("typecast", "to_dtype", "to_layout", "tilize", "untilize", "to_device", "tilize_with_zero_padding"),
)


GOLDENS: dict[str, Golden] = {
    **{f"ttnn.{name}": _same for name in _PLACEMENT},
    "ttnn.copy": _same,
    "ttnn.reshape": lambda x, shape, **_: x.reshape(tuple(shape)),
    "ttnn.experimental.view": _viewed,
    "ttnn.unsqueeze_to_4D": lambda x: x.reshape((1,) * (4 - x.dim()) + tuple(x.shape)),
    "ttnn.unsqueeze": lambda x, dim: x.unsqueeze(dim),
    "ttnn.squeeze": lambda x, dim=None: x.squeeze() if dim is None else x.squeeze(dim),
    "ttnn.permute": lambda x, dims, **_: x.permute(tuple(dims)),
    "ttnn.transpose": lambda x, a, b, **_: x.transpose(a, b),
    "ttnn.concat": lambda parts, dim=0, **_: torch.cat(list(parts), dim),
    "ttnn.repeat": lambda x, dims, **_: x.repeat(tuple(dims)),
    "ttnn.repeat_interleave": lambda x, repeats, dim, **_: x.repeat_interleave(repeats, dim),
    "ttnn.slice": _slice,
    "ttnn.scatter": lambda x, dim, index, src, **_: x.scatter(dim, index, src),
    "ttnn.gather": lambda x, dim, index, **_: x.gather(dim, index),
    "ttnn.pad": _padded,
    "ttnn.untilize_with_unpadding": _untilized,
}
