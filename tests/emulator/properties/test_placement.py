"""Ops that change where or in what form a tensor lies, tensors from nothing, and transfers from and to the host."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call, Config, Device, Name, Tensor
from tests.emulator.properties.comparison import Expected, moved
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

_RELAID = ("to_layout", "tilize", "tilize_with_zero_padding", "untilize", "untilize_with_unpadding")


@st.composite
def relaid(draw: st.DrawFn) -> Call:
    op = draw(st.sampled_from(_RELAID))
    usual = {"tilize": "ROW_MAJOR", "tilize_with_zero_padding": "ROW_MAJOR"}.get(op, "TILE")
    layout = draw(some.mostly((usual,), some.LAYOUTS))
    shape = draw(some.shapes())
    config = some.sharded(shape, layout) if len(shape) > 1 and draw(st.integers(0, 7)) == 7 else some.buffers
    x = draw(some.tensors(shape, some.dtypes, layout, config))
    if op == "to_layout":
        keywords = some.options(memory_config=some.buffers, dtype=some.names(some.floats))
        return Call(
            "ttnn.to_layout", (x, Name(f"{draw(st.sampled_from(some.LAYOUTS))}_LAYOUT")), draw(keywords)
        )
    if op == "untilize_with_unpadding":
        end = [draw(st.sampled_from((d - 1, max(d - 2, 0)))) for d in shape]
        end = end[1:] if draw(st.integers(0, 9)) == 9 else end
        return Call(f"ttnn.{op}", (x, end), draw(some.options(memory_config=some.buffers)))
    return Call(f"ttnn.{op}", (x,), draw(some.options(memory_config=some.buffers)))


@st.composite
def placed(draw: st.DrawFn) -> Call:
    """Interleaved to sharded and back, sharded otherwise, copied."""
    shape = draw(some.shapes(2))
    layout = draw(some.mostly(("TILE",), some.LAYOUTS))
    shards = some.sharded(shape, layout)
    x = draw(some.tensors(shape, some.dtypes, layout, st.one_of(some.buffers, shards)))
    where = draw(st.one_of(some.buffers, shards, shards))
    op = draw(
        st.sampled_from(
            (
                "to_memory_config",
                "interleaved_to_sharded",
                "sharded_to_interleaved",
                "reshard",
                "move",
                "clone",
            )
        )
    )
    if op in ("move", "clone"):
        keywords = draw(
            some.options(
                memory_config=st.just(where), **({"dtype": some.names(some.floats)} if op == "clone" else {})
            )
        )
        return Call(f"ttnn.{op}", (x,), keywords)
    if op == "sharded_to_interleaved":
        return Call(f"ttnn.{op}", (x,) if draw(st.booleans()) else (x, where))
    return Call(f"ttnn.{op}", (x, where))


@st.composite
def copied(draw: st.DrawFn) -> Call:
    """Into a tensor there is."""
    a = draw(some.tensors(dtype=some.dtypes))
    shape = a.shape if draw(st.integers(0, 5)) else draw(some.shapes())
    layout = a.layout if draw(st.integers(0, 5)) else "TILE"
    b = draw(some.tensors(shape, some.dtypes if draw(st.booleans()) else st.just(a.dtype), layout))
    return Call("ttnn.copy", (a, b), written=(1,))


@st.composite
def created(draw: st.DrawFn) -> Call:
    shape = draw(some.shapes(0))
    keywords = {"device": Device()} | draw(
        some.options(
            dtype=some.names(some.dtypes),
            layout=st.sampled_from(("TILE_LAYOUT", "ROW_MAJOR_LAYOUT")).map(Name),
            memory_config=some.buffers,
        )
    )
    if draw(st.integers(0, 5)) == 5:
        del keywords["device"]
    op = draw(st.sampled_from(("zeros", "ones", "full", "empty", "zeros_like", "ones_like")))
    if op.endswith("_like"):
        keywords.pop("device", None)
        return Call(f"ttnn.{op}", (draw(some.tensors(dtype=some.dtypes)),), keywords)
    if op == "full":
        value = draw(st.sampled_from((1.5, -2.0, 3.0, 0.1, 70000.0)))
        return Call("ttnn.full", (shape, value), keywords)
    if op == "empty":
        keywords["device"] = Device()
    return Call(f"ttnn.{op}", (shape,), keywords)


@st.composite
def transferred(draw: st.DrawFn) -> Call:
    shape = draw(some.shapes(0))
    dtype = draw(some.dtypes)
    layout = "TILE" if dtype in some.BLOCK_FLOATS else draw(st.sampled_from(some.LAYOUTS))
    op = draw(st.sampled_from(("to_device", "from_device", "to_torch", "to_dtype")))
    host = op in ("to_device", "to_dtype") or draw(st.booleans())
    x = Tensor(
        shape,
        dtype,
        layout,
        Config(),
        draw(st.sampled_from(("normal", "small", "wide"))),
        draw(some.seeds),
        host,
    )
    if op == "to_device":
        shards = some.sharded(shape, layout) if len(shape) > 1 else some.buffers
        return Call(
            "ttnn.to_device", (x, Device()), draw(some.options(memory_config=st.one_of(some.buffers, shards)))
        )
    if op == "to_dtype":
        return Call("ttnn.to_dtype", (x, draw(some.names(some.dtypes))))
    return Call(f"ttnn.{op}", (x,))


def _same(x: torch.Tensor, *rest: Any, dtype: Name | None = None, **_: Any) -> Expected | None:
    """Casts to integers are a family of their own."""
    if dtype is None:
        return moved(x, x)
    return Expected(x) if x.is_floating_point() else None


def _unpadded(x: torch.Tensor, end: Any, **_: Any) -> Expected:
    return moved(x[tuple(slice(0, last + 1) for last in end)], x)


def _copied(a: torch.Tensor, b: torch.Tensor) -> list[Any]:
    """The result, which is the target, twice."""
    want = Expected(a) if a.is_floating_point() and b.is_floating_point() else None
    return [want, want]


def _filled(value: float | None) -> Any:
    def reference(shape: Any, given: float = 0.0, **_: Any) -> Expected:
        return Expected(torch.full(tuple(shape), float(given if value is None else value)))

    return reference


def _like(value: float) -> Any:
    return lambda x, **_: Expected(torch.full(x.shape, value))


_KEPT = (
    "to_layout",
    "tilize",
    "tilize_with_zero_padding",
    "untilize",
    "to_memory_config",
    "interleaved_to_sharded",
)
_MOVED = ("sharded_to_interleaved", "reshard", "move", "clone", "to_device", "from_device", "to_torch")
REFERENCES = {
    **{f"ttnn.{op}": _same for op in (*_KEPT, *_MOVED)},
    "ttnn.untilize_with_unpadding": _unpadded,
    "ttnn.copy": _copied,
    "ttnn.zeros": _filled(0),
    "ttnn.ones": _filled(1),
    "ttnn.full": _filled(None),
    "ttnn.zeros_like": _like(0),
    "ttnn.ones_like": _like(1),
}
FAMILY = Family(
    "placement", relaid() | placed() | placed() | copied() | created() | transferred(), REFERENCES
)


def test_placement(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
