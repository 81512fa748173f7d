"""Ops that move data: reshape, permute, transpose, slice and indexing, concat, pad, repeat, squeeze and unsqueeze."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call
from tests.emulator.properties.comparison import Expected, moved
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

tensors = some.tensors(dtype=some.dtypes)


@st.composite
def reshaped(draw: st.DrawFn) -> Call:
    """To factors of the volume, one of them -1 now and then; seldom to a wrong volume."""
    x = draw(tensors)
    rest, shape = math.prod(x.shape), []
    for _ in range(draw(st.integers(0, 4))):
        factor = draw(st.sampled_from([n for n in (1, 2, 3, 4, 5, 32, 64, 96) if rest % n == 0]))
        shape.append(factor)
        rest //= factor
    shape = draw(st.permutations([*shape, rest]))
    unusual = draw(st.integers(0, 9))
    if unusual == 9:
        shape = [*shape, 2]
    elif unusual > 6:
        shape = [*shape[:-1], -1]
    if draw(st.booleans()):
        return Call("ttnn.reshape", (x, shape), draw(some.options(memory_config=some.buffers)))
    return Call("ttnn.Tensor.reshape", (x, shape) if draw(st.booleans()) else (x, *shape))


@st.composite
def turned(draw: st.DrawFn) -> Call:
    x = draw(tensors)
    rank = len(x.shape)
    keywords = draw(some.options(memory_config=some.buffers))
    if draw(st.booleans()):
        return Call("ttnn.transpose", (x, draw(some.dims(rank)), draw(some.dims(rank))), keywords)
    order = draw(st.permutations(range(rank)))
    if draw(st.integers(0, 9)) == 9:
        order = [*order[:-1], draw(some.dims(rank))]
    elif draw(st.integers(0, 3)) == 3:
        order = [d - rank for d in order]
    return Call("ttnn.permute", (x, tuple(order)), keywords)


@st.composite
def sliced(draw: st.DrawFn) -> Call:
    x = draw(tensors)
    starts, ends, steps = [], [], []
    for size in x.shape:
        low, high = sorted((draw(st.integers(0, size)), draw(st.integers(0, size))))
        if draw(st.integers(0, 3)):
            low, high = 0, size
        starts.append(low - size if draw(st.integers(0, 9)) == 9 else low)
        ends.append(high - size if high < size and draw(st.integers(0, 9)) == 9 else high)
        steps.append(draw(some.mostly((1,), (2, 3))))
    if draw(st.integers(0, 15)) == 15:
        ends[0] += 40
    given = [starts, ends] if all(step == 1 for step in steps) else [starts, ends, steps]
    return Call("ttnn.slice", (x, *given), draw(some.options(memory_config=some.buffers)))


@st.composite
def indexed(draw: st.DrawFn) -> Call:
    x = draw(tensors)
    items: list[Any] = []
    for size in x.shape[: draw(st.integers(0, len(x.shape)))]:
        low, high = draw(st.integers(-size, size - 1)), draw(st.integers(-size, size))
        items.append(
            draw(st.sampled_from((low, slice(None), slice(low, high), slice(low, None), slice(None, high))))
        )
    if draw(st.integers(0, 5)) == 5:
        items.insert(draw(st.integers(0, len(items))), ...)
    return Call(
        "ttnn.Tensor.__getitem__", (x, tuple(items) if len(items) != 1 or draw(st.booleans()) else items[0])
    )


@st.composite
def joined(draw: st.DrawFn) -> Call:
    first = draw(tensors)
    rank = len(first.shape)
    dim = draw(some.dims(rank))
    parts = [first]
    for _ in range(draw(st.integers(0, 2))):
        shape = list(first.shape)
        if -rank <= dim < rank:
            shape[dim] = draw(some.sizes)
        if draw(st.integers(0, 9)) == 9:
            shape[draw(st.integers(0, rank - 1))] += 1
        dtype = some.dtypes if draw(st.integers(0, 9)) == 9 else st.just(first.dtype)
        layout = first.layout if draw(st.integers(0, 9)) else "TILE"
        parts.append(draw(some.tensors(tuple(shape), dtype, layout)))
    return Call("ttnn.concat", (parts, dim), draw(some.options(memory_config=some.buffers)))


@st.composite
def padded(draw: st.DrawFn) -> Call:
    """By pairs or by shape and start."""
    x = draw(tensors)
    value = draw(st.sampled_from((0, 1.0, -2.0, float("-inf"))))
    if draw(st.integers(0, 3)) == 3:
        start = tuple(draw(some.mostly((0,), (1, 2))) for _ in x.shape)
        shape = tuple(s + d + draw(st.sampled_from((0, 1, 32))) for s, d in zip(start, x.shape, strict=True))
        return Call("ttnn.pad", (x, shape, start, value))
    pairs = [(draw(some.mostly((0,), (1, 32))), draw(st.sampled_from((0, 1, 5, 32)))) for _ in x.shape]
    pairs = pairs[draw(some.mostly((0,), (1,))) :]
    return Call("ttnn.pad", (x, pairs, value), draw(some.options(memory_config=some.buffers)))


@st.composite
def repeated(draw: st.DrawFn) -> Call:
    x = draw(tensors)
    keywords = draw(some.options(memory_config=some.buffers))
    if draw(st.booleans()):
        return Call(
            "ttnn.repeat_interleave", (x, draw(st.integers(1, 3)), draw(some.dims(len(x.shape)))), keywords
        )
    times = [draw(some.mostly((1,), (2, 3))) for _ in x.shape]
    extra = draw(some.mostly((0,), (1, -1)))
    times = times[1:] if extra < 0 else [2] * extra + times
    return Call("ttnn.repeat", (x, times), keywords)


@st.composite
def squeezed(draw: st.DrawFn) -> Call:
    x = draw(tensors)
    rank = len(x.shape)
    op = draw(st.sampled_from(("unsqueeze", "squeeze", "unsqueeze_to_4D")))
    if op == "unsqueeze_to_4D":
        return Call(f"ttnn.{op}", (x,))
    dim = draw(some.dims(rank + (op == "unsqueeze")))
    if op == "squeeze" and draw(st.booleans()):
        return Call("ttnn.squeeze", (x,) if draw(st.booleans()) else (x, [dim]))
    return Call(f"ttnn.{op}", (x, dim))


def _padded(x: torch.Tensor, to: Any, *rest: Any, **_: Any) -> Expected:
    if len(rest) > 1:
        start, value = rest
        pairs = [(s, whole - s - d) for s, whole, d in zip(start, to, x.shape, strict=True)]
    else:
        pairs, value = to, rest[0]
    if not x.is_floating_point() and math.isinf(value):
        return None
    return moved(F.pad(x, [edge for pair in reversed(pairs) for edge in pair], value=value), x)


def _sliced(x: torch.Tensor, starts: Any, ends: Any, steps: Any = None, **_: Any) -> Expected:
    steps = steps or [1] * len(starts)
    return moved(x[tuple(slice(*each) for each in zip(starts, ends, steps, strict=True))], x)


def _squeezed(x: torch.Tensor, dim: Any = None) -> Expected:
    return moved(x.squeeze() if dim is None else x.squeeze(dim), x)


REFERENCES = {
    "ttnn.reshape": lambda x, shape, **_: moved(x.reshape(shape), x),
    "ttnn.Tensor.reshape": lambda x, *shape: moved(x.reshape(*shape), x),
    "ttnn.permute": lambda x, dims, **_: moved(x.permute(dims), x),
    "ttnn.transpose": lambda x, a, b, **_: moved(x.transpose(a, b), x),
    "ttnn.slice": _sliced,
    "ttnn.Tensor.__getitem__": lambda x, index: moved(x[index], x),
    "ttnn.concat": lambda tensors, dim, **_: moved(
        torch.cat(tensors, dim) if len(tensors) > 1 else tensors[0], tensors[0]
    ),
    "ttnn.pad": _padded,
    "ttnn.repeat": lambda x, times, **_: moved(x.repeat([1] * (x.dim() - len(times)) + times), x),
    "ttnn.repeat_interleave": lambda x, times, dim, **_: moved(
        x.repeat_interleave(times, dim) if times > 1 else x, x
    ),
    "ttnn.squeeze": _squeezed,
    "ttnn.unsqueeze": lambda x, dim: moved(x.unsqueeze(dim), x),
    "ttnn.unsqueeze_to_4D": lambda x: moved(x.reshape((1,) * (4 - x.dim()) + x.shape), x),
}
FAMILY = Family(
    "movement",
    reshaped() | turned() | sliced() | indexed() | joined() | padded() | repeated() | squeezed(),
    REFERENCES,
)


def test_movement(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
