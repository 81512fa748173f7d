"""Rotary position embedding (RoFormer, arXiv:2104.09864), on interleaved pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
import ttnn

from tt_llm.config import TILE, LayerKind, ModelConfig
from tt_llm.kv_cache import BLOCK_SIZES, TILE_ROWS, blocks_for
from tt_llm.mesh import replicate
from tt_llm.op_configs import OpConfigs
from tt_llm.rope_types import RopeSettings

_HIDDEN = -1e9  # in a mask; finite, so that a chunk of keys of which all are hidden gives no NaN


class Angles(NamedTuple):
    """Cosines and sines of the positions of one forward pass: computed once, used by every layer of a kind."""

    cos: ttnn.Tensor
    sin: ttnn.Tensor
    mask: ttnn.Tensor | None = None  # of layers that see a window alone: what is added to their scores


class Rope:
    """Rotates the pairs (2i, 2i+1) of each head by position * frequency_i, and masks what is outside a layer's window.

    Pairs that do not turn, in part of a head or in layers without RoPE, turn by nothing: their frequency is zero.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        config: ModelConfig,
        configs: OpConfigs,
        max_seq_len: int,
        kind: LayerKind,
    ) -> None:
        """`config` is a device's own; `kind` is that of the layers it is for."""
        tables = _tables(config, kind.rope, max_seq_len)
        self._head_dim = config.head_dim
        self._configs = configs
        self._prefill = Angles(*(replicate(t, mesh_device, ttnn.bfloat16) for t in tables))
        # The same tables by rows, so that a decode step can look its users' positions up on the device.
        self._decode = Angles(
            *(replicate(t, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT) for t in tables)
        )
        self._masks = (
            _Masks(mesh_device, config, max_seq_len, kind.window)
            if kind.window is not None or config.architecture.attention_softcap is not None
            else None
        )
        swap = _pair_rotation()
        self._swap = replicate(swap, mesh_device, ttnn.bfloat16)
        self._swap_per_user = replicate(
            swap.repeat(1, 1, TILE_ROWS, 1),
            mesh_device,
            ttnn.bfloat16,
            memory_config=configs.one_tile_row_per_user(TILE),
        )

    def prefill_angles(self, seq_len: int) -> Angles:
        """Positions 0 to seq_len - 1: each [1, 1, S, head_dim]."""
        end = (1, 1, seq_len, self._head_dim)
        cos, sin = (ttnn.slice(table, (0, 0, 0, 0), end) for table in self._prefill[:2])
        return Angles(cos, sin, None if self._masks is None else self._masks.prefill(seq_len))

    def decode_angles(self, positions: ttnn.Tensor) -> Angles:
        """[1, 32] uint32, a position a user -> each [1, 32, 1, head_dim], one user a core."""
        cos, sin = (self._lookup(positions, table) for table in self._decode[:2])
        return Angles(cos, sin, None if self._masks is None else self._masks.decode(positions))

    def rotate_prefill(self, heads: ttnn.Tensor, angles: Angles) -> ttnn.Tensor:
        """[1, n, S, head_dim] -> the same."""
        return ttnn.experimental.rotary_embedding_llama(
            heads,
            angles.cos,
            angles.sin,
            self._swap,
            is_decode_mode=False,
            compute_kernel_config=self._configs.rope_compute,
        )

    def rotate_decode(self, heads: ttnn.Tensor, angles: Angles) -> ttnn.Tensor:
        """[1, 32, n, head_dim], one user a core -> the same."""
        return ttnn.experimental.rotary_embedding_llama(
            heads,
            angles.cos,
            angles.sin,
            self._swap_per_user,
            is_decode_mode=True,
            compute_kernel_config=self._configs.rope_compute,
        )

    def _lookup(self, positions: ttnn.Tensor, table: ttnn.Tensor) -> ttnn.Tensor:
        rows = ttnn.embedding(positions, table, layout=ttnn.TILE_LAYOUT)  # [1, 32] -> [1, 32, hd]
        per_user = ttnn.transpose(ttnn.unsqueeze_to_4D(rows), 1, 2)  # -> [1, 1, 32, hd] -> [1, 32, 1, hd]
        return ttnn.interleaved_to_sharded(per_user, self._configs.heads_decode)


class _Masks:
    """What is added to the scores of layers that see `window` positions up to their own: a table of a row for each position."""

    def __init__(
        self, mesh_device: ttnn.MeshDevice, config: ModelConfig, max_seq_len: int, window: int | None
    ) -> None:
        # A decode step has a mask for all that its pages hold: whole ones, whatever their size.
        length = blocks_for(max_seq_len, BLOCK_SIZES[-1]) * BLOCK_SIZES[-1]
        table = window_mask(length, window or length)[None, None]
        self._prefill = replicate(table, mesh_device, ttnn.bfloat16)
        self._decode = replicate(table, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)
        # ttnn's SDPA wants a row for each head.
        self._n_heads = config.n_heads if config.architecture.attention_softcap is None else 1

    def prefill(self, seq_len: int) -> ttnn.Tensor:
        """Positions 0 to seq_len - 1: [1, 1, S, S]."""
        return ttnn.slice(self._prefill, (0, 0, 0, 0), (1, 1, seq_len, seq_len))

    def decode(self, positions: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 32] uint32, a position a user -> [32, 1, n_heads or 1, max_seq_len in whole pages of any size]."""
        rows = ttnn.embedding(positions, self._decode, layout=ttnn.TILE_LAYOUT)  # [1, 32] -> [1, 32, S]
        per_user = ttnn.transpose(ttnn.unsqueeze_to_4D(rows), 0, 2)  # -> [1, 1, 32, S] -> [32, 1, 1, S]
        return per_user if self._n_heads == 1 else ttnn.repeat(per_user, (1, 1, self._n_heads, 1))


def window_mask(length: int, window: int) -> torch.Tensor:
    """[length, length]: 0 where a position (row) sees another, itself and the window - 1 before it; else a large negative."""
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return torch.where((distance >= 0) & (distance < window), 0.0, _HIDDEN)


def _tables(config: ModelConfig, rope: RopeSettings | None, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each [1, 1, length, head_dim]."""
    frequencies = config.rope_frequencies(*([] if rope is None else [rope]))
    if rope is None:
        frequencies = torch.zeros_like(frequencies)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    magnitude = torch.where(frequencies == 0, 1.0, 1.0 if rope is None else rope.magnitude)
    cos, sin = (
        (table * magnitude).repeat_interleave(2, dim=-1)[None, None] for table in (angles.cos(), angles.sin())
    )
    return cos, sin


def _pair_rotation() -> torch.Tensor:
    """[1, 1, 32, 32] such that (x @ it) turns every pair (a, b) into (-b, a)."""
    rotation = torch.zeros(1, 1, TILE, TILE)
    even = torch.arange(0, TILE, 2)
    rotation[..., even, even + 1] = 1.0
    rotation[..., even + 1, even] = -1.0
    return rotation
