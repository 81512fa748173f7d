"""Softmax attention of mode `fast`."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from harness.emulator import kernels

# Rows of queries a head handles at once: scores of a chunk stay in cache, and causal chunks skip later keys.
_ROWS = 128
_ABOVE_DIAGONAL = torch.full((_ROWS, _ROWS), -torch.inf, dtype=torch.bfloat16).triu_(1)


@dataclass(frozen=True)
class Pages:
    """Where keys and values lie in a paged cache: rows of it as [blocks * nkv, block * D], int64 [B, nkv, pages]."""

    rows: torch.Tensor
    block: int  # positions of a page

    def gathered(self, cache: torch.Tensor) -> torch.Tensor:
        """A cache [blocks, nkv, block, D] as [B, nkv, pages * block, D]: one gather, no transpose."""
        users, heads, pages = self.rows.shape
        width = cache.shape[-1]
        rows = cache.view(-1, self.block * width).index_select(0, self.rows.reshape(-1))
        return rows.view(users, heads, pages * self.block, width)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float,
    pages: Pages | None = None,
) -> torch.Tensor:
    """softmax(scale * q @ k^T + mask) @ v in bfloat16, grouped query heads, like the device's bf16 buffers: scores and weights
    are rounded to bfloat16, sums are float32.

    queries [B, nq, Sq, D]; or, in decode, [B, nkv, group, D], where the heads of a group are rows that share their keys.
    keys, values [B, nkv, Sk, D], or with `pages` whole caches; mask [1 or B, 1 or nq, Sq, Sk] (decode: [B, 1, 1, Sk]) or None. Returns queries' shape.
    """
    library = kernels.load()
    if library is None:
        if pages is not None:
            keys, values = pages.gathered(keys), pages.gathered(values)
        return _in_torch(queries, keys, values, mask, causal, scale)
    return _in_library(library, queries, keys, values, mask, causal, scale, pages)


def attend_with_sink(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    sink: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """`attend` without causality, with a score more in each row, of a key whose value is zero: sink [nq, 1 or Sq, 1] before it
    is scaled."""
    _, heads, rows, _ = queries.shape
    group = heads // keys.shape[1]
    last = (sink.float() * scale).bfloat16().expand(heads, rows, 1)
    keys, values = (torch.nn.functional.pad(t, (0, 0, 0, 1)) for t in (keys, values))
    out = torch.empty_like(queries)
    for head in range(heads):  # one by one: a mask of all heads would be as large as all scores
        added = torch.zeros(1, 1, rows, keys.shape[2] - 1, dtype=torch.bfloat16)
        if mask is not None:
            added = mask[:, head : head + 1] if mask.shape[1] > 1 else mask
            added = added.bfloat16().expand(-1, -1, rows, -1)
        added = torch.cat([added, last[head].expand(len(added), 1, rows, 1)], -1)
        of_head, kv = slice(head, head + 1), slice(head // group, head // group + 1)
        out[:, of_head] = attend(queries[:, of_head], keys[:, kv], values[:, kv], added, False, scale)
    return out


def _in_torch(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    batch, heads, rows, width = queries.shape
    kv_heads, span = keys.shape[1], keys.shape[2]
    group = heads // kv_heads
    queries, keys, values = queries.float(), keys.float(), values.float()
    flat_keys = keys.reshape(-1, span, width).transpose(1, 2)  # [B * nkv, D, Sk]
    flat_values = values.reshape(-1, span, width)
    grouped = queries.view(-1, group, rows, width)  # [B * nkv, group, Sq, D]
    out = torch.empty(grouped.shape, dtype=torch.bfloat16)
    for start in range(0, rows, _ROWS):
        end = min(start + _ROWS, rows)
        keys_end = end if causal else span
        chunk = grouped[:, :, start:end].reshape(-1, group * (end - start), width)
        scores = (torch.matmul(chunk, flat_keys[..., :keys_end]) * scale).bfloat16()
        by_head = scores.view(batch, heads, end - start, keys_end)
        if causal:
            by_head[..., start:].add_(_ABOVE_DIAGONAL[: end - start, : end - start])
        elif mask is not None:
            by_head.add_(mask[:, :, start:end])
        weights = torch.softmax(scores, -1)
        result = torch.matmul(weights.float(), flat_values[:, :keys_end])
        out[:, :, start:end] = result.view(-1, group, end - start, width)
    return out.view(queries.shape)


class _Attention(ctypes.Structure):
    """`Attention` of kernels/attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("queries", "keys", "values", "mask", "out")),
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "rows", "span", "width")),
        ("mask_stride", ctypes.c_int64 * 4),
        ("pages", ctypes.c_void_p),
        ("page", ctypes.c_int64),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("causal", "threads")),
    )


def _in_library(
    library: kernels.Library,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float,
    pages: Pages | None = None,
) -> torch.Tensor:
    batch, heads, rows, width = queries.shape
    queries, keys, values = queries.contiguous(), keys.contiguous(), values.contiguous()
    order = None if pages is None else pages.rows.contiguous()
    span = keys.shape[2] if pages is None else pages.rows.shape[2] * pages.block
    out = torch.empty_like(queries)
    if mask is not None:
        mask = mask.bfloat16().expand(batch, heads, rows, span)
    call = _Attention(
        queries=queries.data_ptr(),
        keys=keys.data_ptr(),
        values=values.data_ptr(),
        mask=None if mask is None else mask.data_ptr(),
        out=out.data_ptr(),
        batch=batch,
        heads=heads,
        kv_heads=keys.shape[1],
        rows=rows,
        span=span,
        width=width,
        mask_stride=(0, 0, 0, 0) if mask is None else mask.stride(),
        pages=None if order is None else order.data_ptr(),
        page=span if pages is None else pages.block,
        scale=scale,
        causal=causal,
        threads=kernels.threads(),
    )
    library.attention(ctypes.byref(call))
    return out
