"""Strategies of shapes, dtypes, places and tensors, which families combine. Small ones first: hypothesis shrinks to the left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.emulator.properties.calls import INTEGERS, Config, Name, Tensor

BLOCK_FLOATS = ("bfloat8_b", "bfloat4_b")
FLOATS = ("bfloat16", "float32", *BLOCK_FLOATS)
DTYPES = (*FLOATS, *INTEGERS)
LAYOUTS = ("TILE", "ROW_MAJOR")
DRAM, L1 = Config(), Config("L1")

# Sizes of a dimension: whole tiles, less than one, one more, odd ones; small enough that a call takes milliseconds.
sizes = st.sampled_from((1, 32, 64, 2, 3, 5, 31, 33, 40, 96))
leading = st.sampled_from((1, 2, 3))
seeds = st.integers(0, 2**16)


@st.composite
def shapes(draw: st.DrawFn, low: int = 1, high: int = 5) -> tuple[int, ...]:
    """A shape of `low` to `high` dimensions; the last two are the large ones."""
    rank = draw(st.integers(low, high))
    return (*(draw(leading) for _ in range(rank - 2)), *(draw(sizes) for _ in range(min(rank, 2))))


def dims(rank: int) -> st.SearchStrategy[int]:
    """A dimension of so many, from either end; now and then one that is not there."""
    legal = st.integers(-rank, rank - 1) if rank else st.just(0)
    return st.one_of(legal, legal, legal, legal, legal, legal, st.sampled_from((rank, -rank - 1)))


def mostly(usual: Sequence[Any], unusual: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of `usual`, one time in five of `unusual`."""
    return st.one_of(*[st.sampled_from(tuple(usual))] * 4, st.sampled_from(tuple(unusual)))


floats = mostly(("bfloat16", "bfloat16", "float32"), BLOCK_FLOATS)
dtypes = mostly(("bfloat16", "float32", "bfloat8_b"), DTYPES)
buffers = mostly((DRAM,), (L1,))


def names(dtype: st.SearchStrategy[str]) -> st.SearchStrategy[Name]:
    """dtypes as arguments: `ttnn.bfloat16`."""
    return dtype.map(Name)


@st.composite
def sharded(draw: st.DrawFn, shape: tuple[int, ...], layout: str = "TILE") -> Config:
    """A sharding of a tensor of that shape: one that fits (in TILE, of whole tiles), one time in five one that may not."""
    unit = 32 if layout == "TILE" else 1
    height = math.prod((*shape[:-2], -(-shape[-2] // unit) * unit if len(shape) > 1 else unit))
    width = -(-shape[-1] // unit) * unit
    kind = draw(st.sampled_from(("HEIGHT", "WIDTH", "BLOCK")))
    down, across = (_parts(draw, size // unit) for size in (height, width))
    down, across = (1 if kind == "WIDTH" else down), (1 if kind == "HEIGHT" else across)
    shard = (height // down, width // across)
    orientation = draw(mostly(("ROW_MAJOR",), ("COL_MAJOR",)))
    if draw(st.integers(0, 4)) == 4:
        shard = (draw(st.sampled_from((shard[0], 32, 16, 64))), draw(st.sampled_from((shard[1], 32, 48))))
    if kind == "BLOCK":
        cores = (across, down) if orientation == "ROW_MAJOR" else (down, across)
    else:
        cores = (down * across, 1)
    return Config(draw(mostly(("L1",), ("DRAM",))), kind, shard, cores, orientation)


def _parts(draw: st.DrawFn, units: int) -> int:
    """Into how many equal parts, at most 8."""
    return draw(st.sampled_from([n for n in range(1, 9) if units % n == 0]))


@st.composite
def tensors(
    draw: st.DrawFn,
    shape: st.SearchStrategy[tuple[int, ...]] | tuple[int, ...] | None = None,
    dtype: st.SearchStrategy[str] = floats,
    layout: st.SearchStrategy[str] | str | None = None,
    config: st.SearchStrategy[Config] = buffers,
    values: st.SearchStrategy[str] | str = "normal",
) -> Tensor:
    """A tensor on the device. Block floats are TILE always; other layouts mostly."""
    given = draw(shapes() if shape is None else shape) if not isinstance(shape, tuple) else shape
    kind = draw(dtype)
    if layout is None:
        layout = mostly(("TILE",), LAYOUTS)
    where = layout if isinstance(layout, str) else draw(layout)
    return Tensor(
        given,
        kind,
        "TILE" if kind in BLOCK_FLOATS else where,
        draw(config),
        values if isinstance(values, str) else draw(values),
        draw(seeds),
    )


@st.composite
def options(draw: st.DrawFn, **each: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Keyword arguments, each of them left out three times in four."""
    return {name: draw(value) for name, value in each.items() if draw(st.integers(0, 3)) == 3}
