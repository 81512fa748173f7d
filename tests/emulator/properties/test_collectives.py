"""Collectives on a mesh of two devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call
from tests.emulator.properties.comparison import Expected
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

DEVICES = 2
_OPS = ("all_gather", "reduce_scatter", "all_reduce", "mesh_partition")


@st.composite
def collectives(draw: st.DrawFn) -> Call:
    """Of a tensor that was split over the devices, or that all have."""
    op = draw(st.sampled_from(_OPS))
    x = draw(some.tensors(some.shapes(1, 4), some.dtypes))
    rank = len(x.shape)
    if draw(st.booleans()):
        along = draw(st.integers(0, rank - 1))
        whole = tuple(d * DEVICES if i == along else d for i, d in enumerate(x.shape))
        x = replace(x, shape=whole, mapped=along)
    keywords = draw(some.options(memory_config=some.buffers, cluster_axis=some.mostly((1,), (0, 2))))
    return Call(f"ttnn.{op}", (x,) if op == "all_reduce" else (x, draw(some.dims(rank))), keywords)


def _each(x: torch.Tensor) -> list[torch.Tensor]:
    """What each device holds."""
    return list(x.chunk(DEVICES, x.mapped)) if x.mapped is not None else [x] * DEVICES  # type: ignore[attr-defined]


def _total(parts: list[torch.Tensor], dtype: str) -> Expected:
    slack = sum(part.abs() for part in parts) * (2**-9 if dtype == "float32" else 2**-7)
    return Expected(sum(parts), slack, roundings=2)  # type: ignore[arg-type]


def _scattered(x: Any, dim: int, **_: Any) -> list[Any]:
    total = _total(_each(x), x.ttnn_dtype)
    values, slacks = total.value.chunk(DEVICES, dim), total.slack.chunk(DEVICES, dim)  # type: ignore[union-attr]
    return [[Expected(v, s, 2) for v, s in zip(values, slacks, strict=True)]]


def _partitioned(x: Any, dim: int, cluster_axis: int = 1, **_: Any) -> list[Any]:
    """Along axis 0 there is one device, and nothing to partition."""
    if cluster_axis == 0:
        return [[Expected(part) for part in _each(x)]]
    return [[Expected(part.chunk(DEVICES, dim)[place]) for place, part in enumerate(_each(x))]]


REFERENCES = {
    "ttnn.all_gather": lambda x, dim, **_: Expected(torch.cat(_each(x), dim)),
    "ttnn.reduce_scatter": _scattered,
    "ttnn.all_reduce": lambda x, **_: _total(_each(x), x.ttnn_dtype),
    "ttnn.mesh_partition": _partitioned,
}
FAMILY = Family("collectives", collectives(), REFERENCES, mesh="1x2")


def test_collectives(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
