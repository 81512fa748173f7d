"""What PyTorch makes of a call, and whether an emulated result is that, within what rounding allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.emulator.properties.calls import INTEGERS

# Bits of a significand after its first.
_MANTISSA = {"bfloat16": 7, "float32": 23, "bfloat8_b": 6, "bfloat4_b": 2}
_BLOCK = 16  # elements of a row of a face, which share an exponent


@dataclass(frozen=True)
class Expected:
    """The right values, and how far off one may be: `roundings` units in the last place of the result's format, and `slack`
    beside them, for what is rounded on the way (an absolute error, one or one an element). Integers must be equal."""

    value: torch.Tensor
    slack: torch.Tensor | float = 0.0
    roundings: float = 1.0


# From a call's arguments, with float64 (or int64) tensors in place of its own, to the results, in order: a tensor is an
# Expected without slack, None is not looked at. `x.ttnn_dtype` of such a tensor says "bfloat16".
Reference = Callable[..., Any]


def wrong_values(got: torch.Tensor, dtype: str, expected: Expected | torch.Tensor) -> str | None:
    """None if `got`, of a ttnn dtype, is what is expected; else one line on the worst element."""
    if isinstance(expected, torch.Tensor):
        expected = Expected(expected)
    want = expected.value
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, PyTorch has {list(want.shape)}"
    if dtype in INTEGERS:
        return _first_unlike(got.long() != want.long(), got, want)
    got, want = got.double(), want.double()
    allowed = expected.roundings * _ulp(want, dtype) + expected.slack
    finite = want.isfinite()
    off = (got - want).abs() > allowed
    # The packer makes an infinity of NaN, and what overflows; either is no finite number.
    return _first_unlike(torch.where(finite, off | ~got.isfinite(), got.isfinite()), got, want)


def _first_unlike(unlike: torch.Tensor, got: torch.Tensor, want: torch.Tensor) -> str | None:
    if not unlike.any():
        return None
    at = tuple(unlike.nonzero()[0].tolist())
    return f"{int(unlike.sum())} of {unlike.numel()} wrong, first at {list(at)}: {got[at].item():g}, PyTorch has {want[at].item():g}"


def _ulp(x: torch.Tensor, dtype: str) -> torch.Tensor:
    """The unit in the last place of each element, of its block's largest in a block format: infinite beside an infinity."""
    size = torch.where(x.isnan(), torch.inf, x.abs())
    if dtype.startswith("bfloat") and dtype.endswith("_b") and x.dim():
        width = x.shape[-1]
        padded = torch.nn.functional.pad(size, (0, -width % _BLOCK))
        # The packer rounds to seven bits before it takes the exponent: what lies just below a power of two reaches it.
        blocks = padded.unflatten(-1, (-1, _BLOCK)).amax(-1, keepdim=True) * (1 + 2**-7)
        size = blocks.expand(*blocks.shape[:-1], _BLOCK).flatten(-2)[..., :width]
    return torch.exp2(torch.floor(torch.log2(size.clamp(min=2.0**-126))) - _MANTISSA[dtype])


def moved(value: torch.Tensor, source: Any) -> Expected:
    """The values of `source` elsewhere: bit for bit, but in a block format, whose blocks are cut anew."""
    return Expected(value, roundings=1 if source.ttnn_dtype in ("bfloat8_b", "bfloat4_b") else 0)
