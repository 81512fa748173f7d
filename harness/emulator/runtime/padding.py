"""What lies in the tile padding of a tensor, for the ops whose kernels read it. docs/padding.md has what each op does with it.

Shards have the logical shape, so padding does not reach a result, as if it were hidden. A device has numbers there: of a tensor
from the host `pad_value` or zeros, after an op whatever its kernel made of what was there. Under a fill other than HIDDEN an op
that reads padding unguarded gets its operands with the padding spelled out: what is known of it, else the fill. A result that
then changes is one that a device need not give. The environment variable TT_EMULATOR_PADDING sets the fill of a process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F

from harness.emulator.arithmetic import formats
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.geometry import Shape, round_up
from harness.emulator.spec.types import Layout

VARIABLE = "TT_EMULATOR_PADDING"


class Fill(Enum):
    """What stands in padding of which nothing is known."""

    HIDDEN = "hidden"
    LARGE = "large"  # finite: an additive mask of -inf hides it, as on a device
    NAN = "nan"


_VALUES = {Fill.LARGE: 2.0**16, Fill.NAN: math.nan}
# The op that reads padding: with a mask of its own.
_ATTENTION = "ttnn.transformer.scaled_dot_product_attention"
_KEYS = ("input_tensor_q", "input_tensor_k", "input_tensor_v")


def chosen() -> Fill:
    """The fill that the environment asks for. Raises ValueError for one that there is not."""
    name = os.environ.get(VARIABLE, Fill.HIDDEN.value)
    try:
        return Fill(name)
    except ValueError:
        names = ", ".join(each.value for each in Fill)
        raise ValueError(f"{VARIABLE}={name}: choose one of {names}") from None


_fill = Fill.HIDDEN


def current() -> Fill:
    return _fill


def set_fill(fill: Fill) -> None:
    """Puts a fill in force from the next op on."""
    global _fill
    _fill = fill


@contextmanager
def using(fill: Fill) -> Iterator[None]:
    """A fill for the length of a `with` block."""
    before = _fill
    set_fill(fill)
    try:
        yield
    finally:
        set_fill(before)


def exposed(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the padding that the op reads spelled out; as they are for an op that reads none."""
    if op != _ATTENTION or kwargs.get("attn_mask") is None:
        return args, kwargs
    arguments = {**dict(zip(_KEYS, args, strict=False)), **kwargs}
    q, k, v = (arguments.pop(each, None) for each in _KEYS)
    mask = arguments["attn_mask"]
    if not all(isinstance(each, Tensor) and len(each.shape) == 4 for each in (q, k, v, mask)):
        return args, kwargs  # the op says what is wrong
    # Keys end within a tile: the mask alone hides the rest of it.
    return (q, _spelled(k, -2), _spelled(v, -2)), {**arguments, "attn_mask": _spelled(mask, -1)}


def _spelled(x: Tensor, dim: int) -> Tensor:
    """`x` with the padding along `dim` as part of its logical shape, on the same memory."""
    size = x.shape[dim]
    more = round_up(size) - size
    if not more or x.layout is not Layout.TILE:
        return x
    value = x.padding if x.padding is not None else _VALUES[_fill]
    around = (0, more) if dim == -1 else (0, 0, 0, more)
    shards = [_padded(s, around, value, x) for s in x.shards]
    shape = list(x.shape)
    shape[dim] += more
    return Tensor(shards, Shape(shape), x.dtype, x.layout, x.config, x.storage)


def _padded(shard: torch.Tensor, around: tuple[int, ...], value: float, x: Tensor) -> torch.Tensor:
    return formats.host_round(F.pad(shard.float(), around, value=value), x.dtype)
