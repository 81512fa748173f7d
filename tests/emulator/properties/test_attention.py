"""Attention and its caches: prefill with and without a mask, decode over both kinds of cache, caches written, RoPE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call, Config
from tests.emulator.properties.comparison import Expected
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

_TRANSFORMER, _EXPERIMENTAL = "ttnn.transformer.", "ttnn.experimental."
TILE = 32


def nearly(usual: Sequence[Any], unusual: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of `usual`, one time in thirty of `unusual`: a call draws many, and should often be legal."""
    return st.integers(0, 29).flatmap(lambda n: st.sampled_from(tuple(unusual if n == 29 else usual)))


dtypes = nearly(("bfloat16", "bfloat16", "bfloat8_b"), ("float32", "bfloat4_b"))
masked = nearly(("bfloat16", "bfloat8_b"), ("bfloat4_b", "float32"))
layouts = nearly(("TILE",), some.LAYOUTS)
widths = nearly((32, 64, 96, 128), (16, 80))
lengths = nearly((32, 64, 96), (1, 33, 50))
heads = st.sampled_from(
    ((2, 2), (4, 2), (6, 3), (3, 1), (8, 1), (2, 2), (4, 2), (6, 3), (3, 1), (8, 1), (5, 2), (2, 4))
)
scales = st.one_of(st.none(), st.sampled_from((1.0, 0.3, 0.5)))
in_dram = nearly((some.DRAM,), (some.L1,))


@st.composite
def prompt(draw: st.DrawFn) -> Call:
    (n, kv), width, rows = draw(heads), draw(widths), draw(lengths)
    batch, keys = draw(st.integers(1, 2)), draw(st.one_of(st.just(rows), lengths))
    q = draw(some.tensors((batch, n, rows, width), dtypes, layouts))
    k, v = (draw(some.tensors((batch, kv, keys, width), dtypes, layouts)) for _ in "kv")
    keywords: dict[str, Any] = {"is_causal": keys == rows and draw(st.booleans()), "scale": draw(scales)}
    if draw(st.booleans()):
        shape = (
            draw(nearly((1, batch), (3,))),
            draw(nearly((1, n), (7,))),
            draw(nearly((rows,), (1,))),
            draw(nearly((keys,), (TILE,))),
        )
        keywords["attn_mask"] = draw(some.tensors(shape, masked, layouts, in_dram))
        keywords["is_causal"] = draw(nearly((False,), (True,)))
    return Call(f"{_TRANSFORMER}scaled_dot_product_attention", (q, k, v), keywords)


@st.composite
def step(draw: st.DrawFn) -> Call:
    (n, kv), width, users = draw(heads), draw(widths), draw(st.integers(1, 3))
    paged, span = draw(st.booleans()), draw(nearly((32, 64, 96, 128), (50,)))
    q = draw(some.tensors((1, users, n, width), dtypes, layouts, in_dram))
    shape = (users, kv, span, width)
    keywords: dict[str, Any] = {"is_causal": draw(nearly((True, False), (True,))), "scale": draw(scales)}
    if keywords["scale"] is None and width % TILE:
        keywords["scale"] = 0.25  # ttnn's own counts the padding in
    args: tuple[Any, ...] = ()
    if paged:
        pages = -(-span // TILE)
        span, shape = pages * TILE, (8, kv, TILE, width)
        args = (
            draw(some.tensors((users, pages), st.just("int32"), "ROW_MAJOR", st.just(some.DRAM), "below 8")),
        )
    k, v = (draw(some.tensors(shape, dtypes, layouts, in_dram)) for _ in "kv")
    if keywords["is_causal"]:
        if paged or draw(st.booleans()):
            kind = nearly(("int32",), ("bfloat16",))
            keywords["cur_pos_tensor"] = draw(
                some.tensors((users,), kind, "ROW_MAJOR", st.just(some.DRAM), f"below {span}")
            )
        else:
            position = nearly(tuple(range(span)), (span, span + 40, -1, 1.5))
            keywords["cur_pos"] = [draw(position) for _ in range(users)]
    elif draw(st.booleans()):
        among = draw(nearly((1, users), (users + 1,))) if not paged else draw(st.sampled_from((1, users)))
        mask = (among, 1, n, span if paged else draw(nearly((span,), (TILE,))))
        keywords["attn_mask"] = draw(some.tensors(mask, masked, "TILE"))
    name = "paged_scaled_dot_product_attention_decode" if paged else "scaled_dot_product_attention_decode"
    return Call(_TRANSFORMER + name, (q, k, v, *args), keywords)


@st.composite
def written(draw: st.DrawFn) -> Call:
    users, kv, width, span = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from((32, 64))),
        96,
    )
    cache = draw(some.tensors((users, kv, span, width), dtypes, layouts, st.just(some.DRAM)))
    which = draw(st.integers(0, 2))
    if which == 0:
        config = Config("L1", "HEIGHT", (TILE, width), (users, 1))
        new = draw(some.tensors((1, users, kv, width), dtypes, "TILE", nearly((config,), (some.DRAM,))))
        given = draw(nearly((users,), (users + 1, 0)))
        position = nearly(tuple(range(span)), (-1, 0.5))
        keywords = {"update_idxs": [draw(position) for _ in range(given)]}
        return Call(f"{_EXPERIMENTAL}paged_update_cache", (cache, new), keywords, written=(0,))
    if which == 1:
        rows = draw(nearly((32, 64, 96), (20, 128)))
        new = draw(some.tensors((draw(nearly((1,), (2,))), kv, rows, width), st.just(cache.dtype), layouts))
        user = draw(nearly(tuple(range(users)), (users, -1)))
        keywords = draw(some.options(update_idx=st.sampled_from((0, 32, 5))))
        return Call("ttnn.fill_cache", (cache, new, user), keywords, written=(0,))
    new = draw(some.tensors((1, draw(nearly((kv,), (kv + 1,))), users, width), dtypes, "TILE"))
    return Call("ttnn.update_cache", (cache, new, draw(nearly(tuple(range(span)), (-1,)))), written=(0,))


@st.composite
def rotated(draw: st.DrawFn) -> Call:
    width, rows, n = draw(widths), draw(lengths), draw(st.integers(1, 3))
    op = draw(st.sampled_from(("rotary_embedding_llama", "rotary_embedding_hf", "rotary_embedding")))
    x = draw(some.tensors((draw(st.integers(1, 2)), n, rows, width), st.just("bfloat16"), "TILE"))
    shape = (1, draw(nearly((1,), (n,))), draw(st.one_of(st.just(rows), lengths, st.just(128))), width)
    tables = [draw(some.tensors(shape, st.just("bfloat16"), "TILE")) for _ in range(2)]
    if op == "rotary_embedding_llama":
        tables.append(draw(some.tensors((1, 1, TILE, TILE), st.just("bfloat16"), "TILE")))
    elif op == "rotary_embedding" and draw(st.booleans()):
        return Call(_EXPERIMENTAL + op, (x, *tables, draw(nearly((0, 5, 31), (-1, 200)))))
    return Call(_EXPERIMENTAL + op, (x, *tables))


def _attended(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


def _within(
    value: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None
) -> Expected:
    """Scores and weights are bfloat16, the exponential is off by 3%: a part of the largest value, larger for larger scores."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    scores = float(q.norm(dim=-1).amax() * k.norm(dim=-1).amax()) * factor
    return Expected(value, slack=float(v.abs().amax()) * (0.08 + scores * 2.0**-6))


def _prefill(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    is_causal: bool,
    scale: float | None,
    attn_mask: Any = None,
) -> Expected | None:
    if attn_mask is not None and (k.shape[2] % TILE or attn_mask.ttnn_dtype == "bfloat4_b"):
        return None  # the kernels count the padding as keys, and the mask is rounded coarsely on its way
    return _within(_attended(q, k, v, attn_mask, is_causal, scale), q, k, v, scale)


def _decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    table: torch.Tensor | None = None,
    *,
    is_causal: bool,
    scale: float | None,
    cur_pos: Any = (),
    cur_pos_tensor: torch.Tensor | None = None,
    attn_mask: torch.Tensor | None = None,
) -> Expected | None:
    if attn_mask is not None and scale != 1.0:
        return None  # scaled with the scores by the kernel, not by mode fast
    users = q.shape[1]
    if table is not None:
        k, v = (cache[table].transpose(1, 2).flatten(2, 3) for cache in (k, v))
    hidden = torch.zeros(users, 1, 1, k.shape[2], dtype=torch.float64)
    if is_causal:
        positions = torch.tensor(cur_pos) if cur_pos_tensor is None else cur_pos_tensor
        beyond = torch.arange(k.shape[2]) > positions[:users, None]
        hidden = hidden.masked_fill(beyond[:, None, None], -torch.inf)
    if attn_mask is not None:
        hidden = hidden + attn_mask.transpose(1, 2)
    queries = q.permute(1, 2, 0, 3)
    return _within(_attended(queries, k, v, hidden, False, scale).permute(2, 0, 1, 3), queries, k, v, scale)


def _filled(cache: torch.Tensor, new: torch.Tensor, user: int, *, update_idx: int = 0) -> list[Expected]:
    whole = cache.clone()
    end = update_idx + new.shape[2]
    whole[user, :, update_idx:end] = new[0]
    whole[user, :, end : -(-end // TILE) * TILE] = 0
    return [Expected(whole, roundings=0)] * 2


def _updated(cache: torch.Tensor, new: torch.Tensor, update_idx: int) -> list[Expected]:
    whole = cache.clone()
    whole[:, :, update_idx] = new[0].transpose(0, 1)
    return [Expected(whole, roundings=1.5)] * 2


def _updated_apart(cache: torch.Tensor, new: torch.Tensor, *, update_idxs: list[int]) -> list[Expected]:
    whole = cache.clone()
    for user, position in enumerate(update_idxs):
        whole[user, :, position] = new[0, user]
    return [Expected(whole, roundings=1.5)] * 2


def _turned(x: torch.Tensor, turned: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Expected:
    """Three buffers of bfloat16 on the way."""
    slack = (x.abs() * cos.abs() + turned.abs() * sin.abs()) * 2.0**-6
    return Expected(x * cos + turned * sin, slack=slack + turned.abs().amax() * sin.abs() * 2.0**-7)


def _pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, matrix: torch.Tensor) -> Expected:
    rows, width = x.shape[2:]
    cos, sin = (F.pad(t, (0, 0, 0, max(0, rows - t.shape[2])))[:, :, :rows] for t in (cos, sin))
    blocks = F.pad(x, (0, -width % TILE)).unflatten(-1, (-1, TILE))
    return _turned(x, (blocks @ matrix[0, 0]).flatten(-2)[..., :width], cos, sin)


def _halves(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, token: int | None = None) -> Expected:
    rows = x.shape[2]
    seen = slice(0, rows) if token is None else slice(token, token + 1)
    first, second = x.chunk(2, -1)
    return _turned(x, torch.cat((-second, first), -1), cos[:, :, seen], sin[:, :, seen])


def _whole_tiles(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, token: int | None = None) -> Expected:
    out = _halves(x, cos, sin, token)
    padding = (0, 0, 0, -x.shape[2] % TILE)
    return Expected(F.pad(out.value, padding), slack=F.pad(torch.as_tensor(out.slack), padding))


REFERENCES = {
    f"{_TRANSFORMER}scaled_dot_product_attention": _prefill,
    f"{_TRANSFORMER}scaled_dot_product_attention_decode": _decode,
    f"{_TRANSFORMER}paged_scaled_dot_product_attention_decode": _decode,
    f"{_EXPERIMENTAL}paged_update_cache": _updated_apart,
    "ttnn.fill_cache": _filled,
    "ttnn.update_cache": _updated,
    f"{_EXPERIMENTAL}rotary_embedding_llama": _pairs,
    f"{_EXPERIMENTAL}rotary_embedding_hf": _halves,
    f"{_EXPERIMENTAL}rotary_embedding": _whole_tiles,
}
FAMILY = Family("attention", prompt() | step() | written() | rotated(), REFERENCES)


def test_attention(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
