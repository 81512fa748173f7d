"""What stands around attention and at a model's ends: heads split and joined, embedding, argmax, plus_one; topk and sampling by name."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call, Config, Name
from tests.emulator.properties.comparison import Expected, moved
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

dtypes = some.mostly(("bfloat16", "bfloat16", "float32", "bfloat8_b"), some.DTYPES)
layouts = some.mostly(("TILE",), some.LAYOUTS)
head_dims = some.mostly((32, 64), (16, 48, 96))


@st.composite
def split(draw: st.DrawFn) -> Call:
    heads, kv_heads, head_dim = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(head_dims)
    width = (heads + 2 * kv_heads) * head_dim + draw(some.mostly((0,), (32,)))
    keywords = {"num_heads": heads, "num_kv_heads": kv_heads} | draw(some.options(memory_config=some.buffers))
    if draw(st.booleans()):
        shape = (draw(st.integers(1, 2)), draw(some.mostly((1,), (2,))), draw(some.sizes), width)
        x = draw(some.tensors(shape, dtypes, layouts))
        keywords |= draw(some.options(transpose_k_heads=st.booleans()))
        return Call("ttnn.experimental.nlp_create_qkv_heads", (x,), keywords)
    x = draw(some.tensors((1, 1, draw(some.sizes), width), dtypes, layouts))
    return Call("ttnn.experimental.nlp_create_qkv_heads_decode", (x,), keywords)


@st.composite
def joined(draw: st.DrawFn) -> Call:
    heads, head_dim = draw(st.integers(1, 8)), draw(head_dims)
    if draw(st.booleans()):
        x = draw(some.tensors((draw(st.integers(1, 2)), heads, draw(some.sizes), head_dim), dtypes, layouts))
        return Call(
            "ttnn.experimental.nlp_concat_heads", (x,), draw(some.options(memory_config=some.buffers))
        )
    users = draw(st.integers(1, 8))
    config = Config("L1", "HEIGHT", (32, head_dim), (users, 1))
    x = draw(some.tensors((1, users, heads, head_dim), dtypes, layouts, some.mostly((config,), (some.DRAM,))))
    return Call(
        "ttnn.experimental.nlp_concat_heads_decode",
        (x,),
        {"num_heads": draw(some.mostly((heads,), (heads + 1, 40)))},
    )


@st.composite
def looked_up(draw: st.DrawFn) -> Call:
    vocabulary, width = draw(st.sampled_from((32, 64, 100))), draw(some.sizes)
    ids = draw(
        some.tensors(
            some.shapes(1, 4),
            some.mostly(("uint32",), ("bfloat16", "int32", "uint16", "float32")),
            some.mostly(("ROW_MAJOR",), some.LAYOUTS),
            values=f"below {min(vocabulary, 32)}",
        )
    )
    ahead = draw(some.mostly(((),), ((1,), (1, 1), (2,))))
    kind = draw(some.mostly(("bfloat16",), ("bfloat8_b", "bfloat4_b", "float32", "int32")))
    table = draw(
        some.tensors((*ahead, vocabulary, width), st.just(kind), some.mostly(("ROW_MAJOR",), some.LAYOUTS))
    )
    keywords = draw(
        some.options(
            layout=st.sampled_from(("TILE_LAYOUT", "ROW_MAJOR_LAYOUT")).map(Name),
            dtype=some.names(some.floats),
            memory_config=some.buffers,
        )
    )
    return Call("ttnn.embedding", (ids, table), keywords)


@st.composite
def largest(draw: st.DrawFn) -> Call:
    op = draw(some.mostly(("argmax",), ("topk", "sampling")))
    x = draw(
        some.tensors(
            some.shapes(1),
            dtypes,
            st.sampled_from(some.LAYOUTS),
            values=draw(st.sampled_from(("normal", "small"))),
        )
    )
    if op == "topk":
        return Call("ttnn.topk", (x,), {"k": 32})
    if op == "sampling":
        return Call("ttnn.sampling", (x,), {})
    dim = draw(st.one_of(some.dims(len(x.shape)), st.none()))
    return Call(
        "ttnn.argmax",
        (x,),
        {"dim": dim} | draw(some.options(keepdim=st.booleans(), memory_config=some.buffers)),
    )


@st.composite
def counted(draw: st.DrawFn) -> Call:
    x = draw(
        some.tensors(
            some.shapes(1, 4),
            some.mostly(("int32", "uint32"), ("bfloat16", "uint16")),
            some.mostly(("ROW_MAJOR",), some.LAYOUTS),
        )
    )
    return Call("ttnn.plus_one", (x,), draw(some.options(skip_negative_entries=st.booleans())), written=(0,))


def _qkv(
    x: torch.Tensor, num_heads: int, num_kv_heads: int, transpose_k_heads: bool, decode: bool
) -> list[Any]:
    batch, _, rows, _ = x.shape
    parts = x.view(batch, rows, num_heads + 2 * num_kv_heads, -1)
    q, k, v = parts.split((num_heads, num_kv_heads, num_kv_heads), 2)
    if decode:
        return [moved(part, x) for part in (q, k, v)]
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return [moved(part, x) for part in (q, k.mT if transpose_k_heads else k, v)]


def _created(
    x: torch.Tensor, *, num_heads: int, num_kv_heads: int, transpose_k_heads: bool = True, **_: Any
) -> list[Any]:
    return _qkv(x, num_heads, num_kv_heads, transpose_k_heads, False)


def _created_for_decode(x: torch.Tensor, *, num_heads: int, num_kv_heads: int, **_: Any) -> list[Any]:
    return _qkv(x, num_heads, num_kv_heads, False, True)


def _concatenated_for_decode(x: torch.Tensor, *, num_heads: int, **_: Any) -> Expected | None:
    _, users, heads, head_dim = x.shape
    if num_heads != heads:
        return None  # what lies in the padding
    whole = x.new_zeros(1, 1, 32, heads * head_dim)
    whole[0, 0, :users] = x[0].reshape(users, -1)
    return moved(whole, x)


def _looked_up(ids: torch.Tensor, table: torch.Tensor, **_: Any) -> Expected:
    rows = table.reshape(-1, table.shape[-1])[ids.long().reshape(-1)]
    kept = ids.shape if ids.dim() < 3 else (ids.shape[0], ids[0].numel())
    return Expected(rows.view(*kept, -1))


def _argmax(x: torch.Tensor, *, dim: int | None, keepdim: bool = False, **_: Any) -> Expected:
    return Expected(torch.argmax(x, dim, keepdim))


def _one_more(x: torch.Tensor, skip_negative_entries: bool = False) -> list[Any]:
    return [x + (x >= 0) if skip_negative_entries else x + 1] * 2


REFERENCES = {
    "ttnn.experimental.nlp_create_qkv_heads": _created,
    "ttnn.experimental.nlp_create_qkv_heads_decode": _created_for_decode,
    "ttnn.experimental.nlp_concat_heads": lambda x, **_: moved(x.transpose(1, 2).flatten(2)[:, None], x),
    "ttnn.experimental.nlp_concat_heads_decode": _concatenated_for_decode,
    "ttnn.embedding": _looked_up,
    "ttnn.argmax": _argmax,
    "ttnn.plus_one": _one_more,
}
FAMILY = Family("heads", split() | joined() | looked_up() | largest() | counted(), REFERENCES)


def test_heads(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
