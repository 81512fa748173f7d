"""Rotary position embedding (RoFormer, arXiv:2104.09864), on interleaved pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
import ttnn

from tt_llm.config import TILE, ModelConfig
from tt_llm.kv_cache import TILE_ROWS
from tt_llm.mesh import replicate
from tt_llm.op_configs import OpConfigs


class Angles(NamedTuple):
    """Cosines and sines of the positions of one forward pass: computed once, used by every layer."""

    cos: ttnn.Tensor
    sin: ttnn.Tensor


class Rope:
    """Rotates the pairs (2i, 2i+1) of each head by position * frequency_i."""

    def __init__(
        self, *, mesh_device: ttnn.MeshDevice, config: ModelConfig, configs: OpConfigs, max_seq_len: int
    ) -> None:
        angles = torch.outer(torch.arange(max_seq_len).float(), config.rope_frequencies())
        angles = angles.repeat_interleave(2, dim=-1)[None, None]  # [1, 1, max_seq_len, head_dim]
        tables = angles.cos(), angles.sin()
        self._head_dim = config.head_dim
        self._configs = configs
        self._prefill = Angles(*(replicate(t, mesh_device, ttnn.bfloat16) for t in tables))
        # The same tables by rows, so that a decode step can look its users' positions up on the device.
        self._decode = Angles(
            *(replicate(t, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT) for t in tables)
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
        return Angles(*(ttnn.slice(table, (0, 0, 0, 0), end) for table in self._prefill))

    def decode_angles(self, positions: ttnn.Tensor) -> Angles:
        """[1, 32] uint32, a position a user -> each [1, 32, 1, head_dim], one user a core."""
        return Angles(*(self._lookup(positions, table) for table in self._decode))

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


def _pair_rotation() -> torch.Tensor:
    """[1, 1, 32, 32] such that (x @ it) turns every pair (a, b) into (-b, a)."""
    rotation = torch.zeros(1, 1, TILE, TILE)
    even = torch.arange(0, TILE, 2)
    rotation[..., even, even + 1] = 1.0
    rotation[..., even + 1, even] = -1.0
    return rotation
