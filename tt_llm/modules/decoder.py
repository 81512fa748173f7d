"""One decoder layer: x + attention(norm(x)), then that + mlp(norm(that))."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.modules.attention import Attention, KVPair
from tt_llm.modules.mlp import MLP
from tt_llm.modules.norm import RMSNorm
from tt_llm.modules.rope import Angles, Rope
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import Split


class Decoder:
    """Residual stream in, residual stream out, in the stream's format and shards, and over the devices as it lies."""

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        shares: Split,
        weights: Checkpoint,
        configs: OpConfigs,
        precision: Precision,
        rope: Rope,
        layer: int,
    ) -> None:
        prefix = f"model.layers.{layer}"
        norm, whole = (mesh_device, shares, weights, configs), not shares.both_axes
        self.attention_norm = RMSNorm(*norm, f"{prefix}.input_layernorm", whole)
        self.attention = Attention(mesh_device, shares, weights, configs, precision, rope, layer)
        self.mlp_norm = RMSNorm(*norm, f"{prefix}.post_attention_layernorm", whole)
        self.mlp = MLP(mesh_device, shares, weights, configs, precision, layer)
        self._configs = configs
        self._dtype = precision.residual

    def prefill(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, user: int
    ) -> ttnn.Tensor:
        """[1, 1, S, dim] -> the same; fills the user's pages."""
        attended = self.attention.prefill(self.attention_norm.prefill(x), angles, cache, page_table, user)
        x = ttnn.add(x, attended, dtype=self._dtype)
        return ttnn.add(x, self.mlp.prefill(self.mlp_norm.prefill(x)), dtype=self._dtype)

    def decode(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, positions: ttnn.Tensor
    ) -> ttnn.Tensor:
        """[1, 1, 32, dim] width-sharded -> the same; adds a row to each user's pages."""
        stream = self._configs.residual
        attended = self.attention.decode(self.attention_norm.decode(x), angles, cache, page_table, positions)
        x = ttnn.add(x, attended, dtype=self._dtype, memory_config=stream)
        ttnn.deallocate(attended)
        fed = self.mlp.decode(self.mlp_norm.decode(x))
        return ttnn.add(x, fed, dtype=self._dtype, memory_config=stream)
