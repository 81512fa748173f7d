"""The tensors a recording was fed with, made again: the model's own weights, RoPE tables, masks, caches, seeds and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.conformance.numerics.recordings import TILE_ROWS, Recording, arrays
from tt_llm.checkpoint import Checkpoint, split_rope_halves
from tt_llm.config import ModelConfig

MASKED = -1e9


class Weights:
    """The checkpoint's weights as a layer's ops take them, float32."""

    def __init__(self, folder: Path) -> None:
        self.config = ModelConfig.from_folder(folder)
        self._checkpoint = Checkpoint(folder)

    def layer(self, index: int) -> dict[str, torch.Tensor]:
        """By the recorded calls' points: norms [1, 1, 1, dim], linears [1, 1, K, N], QKV in interleaved RoPE order."""
        prefix, linear = f"model.layers.{index}", self._checkpoint.linear
        return {
            "attn_norm": self._norm(f"{prefix}.input_layernorm"),
            "qkv": torch.cat(self._checkpoint.qkv(index, self.config), dim=-1),
            "wo": linear(f"{prefix}.self_attn.o_proj"),
            "ffn_norm": self._norm(f"{prefix}.post_attention_layernorm"),
            "gate": linear(f"{prefix}.mlp.gate_proj"),
            "up": linear(f"{prefix}.mlp.up_proj"),
            "down": linear(f"{prefix}.mlp.down_proj"),
        }

    @property
    def final_norm(self) -> torch.Tensor:
        """[1, 1, 1, dim]."""
        return self._norm("model.norm")

    @property
    def lm_head(self) -> torch.Tensor:
        """[1, 1, dim, vocab]."""
        return self._checkpoint.lm_head

    def embedding(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the table, [1, 1, S, dim], for ids [S]."""
        return self._checkpoint["model.embed_tokens.weight"][ids.long()][None, None]

    def angles(self, positions: torch.Tensor) -> torch.Tensor:
        """[n, head_dim / 2] for positions [n]; a position below 0 has angle 0."""
        return torch.outer(positions.clamp(min=0).float(), self.config.rope_frequencies())

    def _norm(self, name: str) -> torch.Tensor:
        return self._checkpoint[f"{name}.weight"].view(1, 1, 1, -1)


def layer_inputs(recording: Recording, weights: Weights) -> dict[str, torch.Tensor]:
    """The device inputs of a one-layer recording by their recorded names, float32 before rounding.

    Left out: "h_in" of a layer other than the first, which was not recorded, and what depends on recorded outputs.
    """
    layer, shape = recording.info["layer"], {name: spec.shape for name, spec in recording.inputs.items()}
    tensors = _tables(weights, torch.arange(TILE_ROWS))
    for point, weight in weights.layer(layer).items():
        tensors[_RECORDED_NAMES[point]] = weight
    if layer == 0:
        tensors["h_in"] = weights.embedding(arrays("whole_golden")["ids"])
    if "pos" in recording.info:
        tensors |= _decode_inputs(recording, weights)
    inputs = {}
    for name in shape:
        fitting = [prefix for prefix in tensors if name.startswith(prefix)]
        if fitting:
            inputs[name] = tensors[max(fitting, key=len)].reshape(shape[name])
    return inputs


def permuted(heads: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Head tensors [1, n, S, hd] from interleaved to half-split order, as the recording's host did for one kind of RoPE."""
    return split_rope_halves(heads, head_dim)


def pair_swap() -> torch.Tensor:
    """[32, 32] such that x @ it turns every pair (a, b) into (-b, a)."""
    swap, even = torch.zeros(TILE_ROWS, TILE_ROWS), torch.arange(0, TILE_ROWS, 2)
    swap[even, even + 1], swap[even + 1, even] = 1.0, -1.0
    return swap


def initial_cache(recording: Recording) -> torch.Tensor:
    """The decode recording's cache before its first token, K and V of every layer: [136, 3, 32, 64]."""
    generator = np.random.default_rng(21)
    table = generator.permutation(136)[:128].reshape(32, 4)
    if table.tolist() != recording.info["page_table"]:
        raise ValueError("numpy draws other numbers from the recorded seed than the recording has")
    return torch.from_numpy(generator.standard_normal((136, 3, 32, 64), np.float32))


def _tables(weights: Weights, positions: torch.Tensor) -> dict[str, torch.Tensor]:
    angles = weights.angles(positions)
    pairs, halves = angles.repeat_interleave(2, -1), torch.cat([angles, angles], -1)
    mask = torch.full((TILE_ROWS, TILE_ROWS), MASKED).triu(1)
    return {
        "cos_meta[1,1": pairs.cos(),
        "sin_meta[1,1": pairs.sin(),
        "cos_hf": halves.cos(),
        "sin_hf": halves.sin(),
        "trans_mat[": pair_swap(),
        "causal mask 0/-1e9 tiled": mask.repeat(9, 1),
        "causal mask 0/-1e9 [": mask,
    }


def _decode_inputs(recording: Recording, weights: Weights) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(7)
    table, positions = generator.permutation(64).reshape(32, 2), generator.integers(0, 64, 32)
    positions[[0, 1, 2, 3, 7]] = [0, 63, 31, 32, -1]
    if table.tolist() != recording.info["page_table"] or positions.tolist() != recording.info["pos"]:
        raise ValueError("numpy draws other numbers from the recorded seed than the recording has")
    cache = torch.from_numpy(generator.standard_normal((64, 3, 32, 64), np.float32))
    at = torch.from_numpy(positions)
    pairs = weights.angles(at).repeat_interleave(2, -1)
    return {
        "cos_meta[1,32": pairs.cos(),
        "sin_meta[1,32": pairs.sin(),
        "trans_mat repeated": pair_swap().repeat(TILE_ROWS, 1),
        "page_table": torch.from_numpy(table),
        "pos": at,
        "k_cache0": cache,
        "k_rope golden": recording.arrays["fill_rows"],
    }


_RECORDED_NAMES = {
    "attn_norm": "attn_norm.weight",
    "qkv": "wqkv_meta",
    "wo": "wo[",
    "ffn_norm": "ffn_norm.weight",
    "gate": "w1(gate)",
    "up": "w3(up)",
    "down": "w2(down)",
}
