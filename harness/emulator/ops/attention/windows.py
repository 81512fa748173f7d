"""Which keys a window shows to a query: a sliding window of prefill attention.

With causality a query at position p sees the keys (p - window, p], without it those at most window // 2 away.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.emulator.ops.attention.places import Scores, Setting
from harness.emulator.spec.types import TILE_SIZE


def hiding(window: int, causal: bool, positions: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Additive bfloat16 [rows, keys] of queries at `positions`: -inf hides a key."""
    behind = positions[:, None] - keys
    hidden = (behind < 0) | (behind >= window) if causal else behind.abs() > window // 2
    return torch.zeros(hidden.shape, dtype=torch.bfloat16).masked_fill_(hidden, -torch.inf)


def places(setting: Setting, top: int, rows: int, span: int, causal: bool) -> Iterator[Scores]:
    """The steps of the chunk of queries that begins at row `top`, which are all of a step's rows.

    The streaming kernel begins at the first chunk of keys that holds a tile of the window, and without causality ends with
    the last. The other one takes all chunks; of those before the window a row keeps nothing, however many they are, as its
    maximum is then -inf and a later chunk's correction zero: one stands for all.
    """
    tall, wide = setting.q_chunk // TILE_SIZE, setting.k_chunk // TILE_SIZE
    position = setting.position + top
    left, right = (setting.window - 1, 0) if causal else (setting.window // 2, setting.window // 2)
    low = position // TILE_SIZE
    begin = max(0, low - _tiles(left)) // wide
    end = low + tall + _tiles(right)
    last = end
    if setting.math.fp32_dest:
        begin = max(0, begin - 1)
        last = end if causal else _tiles(span)
    if not causal:
        end = min(end, _tiles(span))
    queries = torch.arange(position, position + rows)
    for start in range(begin * setting.k_chunk, min(span, last * TILE_SIZE), setting.k_chunk):
        keys = torch.arange(start, min(start + setting.k_chunk, span))
        mask = hiding(setting.window, causal, queries, keys)
        yield Scores(0, start, span, False, mask, position, begin * setting.k_chunk, end)


def _tiles(count: int) -> int:
    return -(-count // TILE_SIZE)
