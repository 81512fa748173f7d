"""Goldens of attention: heads, rotary embeddings, caches and the attention itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from harness.ttnn_calls.op_goldens.golden import Golden, NoGolden, Tensor


def _rope_pairs(
    x: Tensor, cos: Tensor, sin: Tensor, trans_mat: Tensor, *, is_decode_mode: bool = False, **_: Any
) -> Tensor:
    # The matrix is how the kernel turns a pair, (a, b) into (-b, a), not what RoPE is: a wrong one is an error of the op.
    rows = 1 if is_decode_mode else x.shape[-2]
    turned = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    # Rows that the tables do not reach become zero.
    cos, sin = (functional.pad(t, (0, 0, 0, max(0, rows - t.shape[-2]))) for t in (cos, sin))
    return x * cos[..., :rows, :] + turned * sin[..., :rows, :]


def _rope_both(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, trans_mat: Tensor, **_: Any) -> list[Tensor]:
    # cos and sin [1, 2 B, 1, D]: the users of q, then those of k.
    users = q.shape[1]
    angles = ((cos[:, own], sin[:, own]) for own in (slice(users), slice(users, 2 * users)))
    return [
        _rope_pairs(x, *each, trans_mat, is_decode_mode=True) for x, each in zip((q, k), angles, strict=True)
    ]


def _rope_halves(x: Tensor, cos: Tensor, sin: Tensor, *, is_decode_mode: bool = False, **_: Any) -> Tensor:
    rows = 1 if is_decode_mode else x.shape[-2]
    first, second = x.chunk(2, dim=-1)
    return x * cos[..., :rows, :] + torch.cat((-second, first), dim=-1) * sin[..., :rows, :]


def _split_heads(x: Tensor, num_heads: int, num_kv_heads: int | None) -> list[Tensor]:
    # [.., (nq + 2 nkv) hd] -> [.., n, hd] three times
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    head_dim = x.shape[-1] // (num_heads + 2 * kv_heads)
    widths = [heads * head_dim for heads in (num_heads, kv_heads, kv_heads)]
    return [part.unflatten(-1, (-1, head_dim)) for part in x.split(widths, dim=-1)]


def _create_heads(
    x: Tensor,
    input_kv: Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
    **_: Any,
) -> tuple[Tensor, ...]:
    if input_kv is not None:
        raise NoGolden("nlp_create_qkv_heads with a separate input_kv has no golden")
    q, k, v = (part.transpose(1, 2) for part in _split_heads(x[:, 0], num_heads, num_kv_heads))
    return q, k.transpose(-1, -2) if transpose_k_heads else k, v


def _create_heads_decode(
    x: Tensor, *, num_heads: int, num_kv_heads: int | None = None, **_: Any
) -> tuple[Tensor, ...]:
    return tuple(_split_heads(x[:, 0], num_heads, num_kv_heads))  # [1, 1, B, ..] -> [1, B, n, hd]


def _concat_heads(x: Tensor, **_: Any) -> Tensor:
    return x.transpose(1, 2).flatten(2)[:, None]  # [B, n, S, hd] -> [B, 1, S, n hd]


def _concat_heads_decode(x: Tensor, *, num_heads: int | None = None, **_: Any) -> Tensor:
    return x[:, :, :num_heads].flatten(2)[:, None]  # [1, B, n, hd] -> [1, 1, B, n hd]


def _fill_cache(
    cache: Tensor,
    rows: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
    **_: Any,
) -> Tensor:
    user = batch_idx if batch_idx_tensor is None else int(batch_idx_tensor.flatten()[0])
    cache, block = cache.clone(), cache.shape[2]
    for start in range(0, rows.shape[2], block):
        part = rows[0, :, start : start + block]
        page = int(page_table[user, start // block])
        if page >= 0:
            cache[page, :, : part.shape[1]] = part
    return cache


def _update_cache(
    cache: Tensor,
    rows: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
    **_: Any,
) -> Tensor:
    positions = update_idxs if update_idxs_tensor is None else update_idxs_tensor.flatten().tolist()
    cache = cache.clone()
    for user, position in enumerate(positions):
        if position < 0:
            continue
        if page_table is None:
            cache[user, :, position] = rows[0, user]
        else:
            block, row = divmod(position, cache.shape[2])
            cache[int(page_table[user, block]), :, row] = rows[0, user]
    return cache


def _with_sink(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, sink: Tensor | None, scale: float | None
) -> Tensor:
    # q [B, nq, Sq, hd]. The kernels scale a sink with the scores: it comes divided by the scale.
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) * factor + mask
    if sink is not None:
        last = (sink.reshape(1, -1, 1, 1) * factor).expand(*scores.shape[:-1], 1)
        scores, v = torch.cat((scores, last.to(scores.dtype)), -1), functional.pad(v, (0, 0, 0, 1))
    return scores.softmax(-1) @ v


def _sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    attention_sink: Tensor | None = None,
    output_concat_heads: bool = False,
    **_: Any,
) -> Tensor:
    if sliding_window_size or attention_sink is not None:
        behind = torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])
        if is_causal:
            hidden = (behind < 0) | (behind >= (sliding_window_size or q.shape[2]))
        else:
            hidden = behind.abs() > (sliding_window_size or 2 * max(behind.shape)) // 2
        mask = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
        out = _with_sink(q, k, v, mask if attn_mask is None else attn_mask, attention_sink, scale)
    else:
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=attn_mask, is_causal=is_causal, scale=scale, enable_gqa=True
        )
    return out.transpose(1, 2).flatten(2)[:, None] if output_concat_heads else out


def _sdpa_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    page_table: Tensor | None = None,
    *,
    is_causal: bool = True,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    attention_sink: Tensor | None = None,
    **_: Any,
) -> Tensor:
    # q [1, B, nq, hd]. A user without a position is not attended for: the device leaves its rows unwritten.
    if not is_causal:
        raise NoGolden("attention of a decode step without positions has no golden")
    positions = cur_pos if cur_pos_tensor is None else cur_pos_tensor.flatten().tolist()
    out = torch.full_like(q, math.nan)
    for user, position in enumerate(positions):
        if position < 0:
            continue
        if page_table is None:
            keys, values = k[user], v[user]
        else:
            pages = page_table[user, : position // k.shape[2] + 1]
            keys, values = (cache[pages].transpose(0, 1).flatten(1, 2) for cache in (k, v))
        first = max(0, position + 1 - sliding_window_size) if sliding_window_size else 0
        seen = slice(first, position + 1)
        sink = None if attention_sink is None else attention_sink[: q.shape[2], 0]
        nothing = torch.zeros(1, position + 1 - first)
        out[0, user] = _with_sink(
            q[:, user, :, None], keys[None, :, seen], values[None, :, seen], nothing, sink, scale
        )[0, :, 0]
    return out


_EXPERIMENTAL, _TRANSFORMER = "ttnn.experimental.", "ttnn.transformer."


GOLDENS: dict[str, Golden] = {
    f"{_EXPERIMENTAL}nlp_create_qkv_heads": _create_heads,
    f"{_EXPERIMENTAL}nlp_create_qkv_heads_decode": _create_heads_decode,
    f"{_EXPERIMENTAL}nlp_concat_heads": _concat_heads,
    f"{_EXPERIMENTAL}nlp_concat_heads_decode": _concat_heads_decode,
    f"{_EXPERIMENTAL}rotary_embedding_llama": _rope_pairs,
    f"{_EXPERIMENTAL}rotary_embedding_llama_fused_qk": _rope_both,
    f"{_EXPERIMENTAL}rotary_embedding_hf": _rope_halves,
    f"{_EXPERIMENTAL}rotary_embedding": _rope_halves,
    f"{_EXPERIMENTAL}paged_fill_cache": _fill_cache,
    f"{_EXPERIMENTAL}paged_update_cache": _update_cache,
    f"{_TRANSFORMER}scaled_dot_product_attention": _sdpa,
    f"{_TRANSFORMER}scaled_dot_product_attention_decode": lambda q, k, v, **kw: _sdpa_decode(q, k, v, **kw),
    f"{_TRANSFORMER}paged_scaled_dot_product_attention_decode": _sdpa_decode,
}
