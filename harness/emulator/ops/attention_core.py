"""Softmax attention over a chunk of query rows at a time, on the CPU's bf16 units."""

from __future__ import annotations

import torch

# Rows of queries a head handles at once: scores of a chunk stay in cache, and causal chunks skip later keys.
_ROWS = 128
_NOTHING = torch.zeros(1, 1, 1, dtype=torch.bfloat16)
_ABOVE_DIAGONAL = torch.full((_ROWS, _ROWS), -torch.inf, dtype=torch.bfloat16).triu_(1)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    """softmax(scale * q @ k^T + mask) @ v in bfloat16, grouped query heads, like the device's bf16 buffers: scores and weights
    are rounded to bfloat16, sums are float32.

    queries [B, nq, Sq, D]; or, in decode, [B, nkv, group, D], where the heads of a group are rows that share their keys.
    keys, values [B, nkv, Sk, D]; mask [1 or B, 1 or nq, Sq, Sk] (decode: [B, 1, 1, Sk]) or None. Returns queries' shape.
    """
    batch, heads, rows, width = queries.shape
    kv_heads, span = keys.shape[1], keys.shape[2]
    group = heads // kv_heads
    flat_keys = keys.reshape(-1, span, width).transpose(1, 2)  # [B * nkv, D, Sk]
    flat_values = values.reshape(-1, span, width)
    grouped = queries.view(-1, group, rows, width)  # [B * nkv, group, Sq, D]
    out = torch.empty_like(grouped)
    for start in range(0, rows, _ROWS):
        end = min(start + _ROWS, rows)
        seen = end if causal else span
        chunk = grouped[:, :, start:end].reshape(-1, group * (end - start), width)
        # The scale acts on the float32 sum, before the score is rounded.
        scores = torch.baddbmm(_NOTHING, chunk, flat_keys[..., :seen], beta=0, alpha=scale)
        by_head = scores.view(batch, heads, end - start, seen)
        if causal:
            by_head[..., start:].add_(_ABOVE_DIAGONAL[: end - start, : end - start])
        elif mask is not None:
            by_head.add_(mask[:, :, start:end])
        weights = torch.softmax(scores, -1)
        result = torch.bmm(weights, flat_values[:, :seen])
        out[:, :, start:end] = result.view(-1, group, end - start, width)
    return out.view(queries.shape)
