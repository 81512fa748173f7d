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
from tt_llm.tensor_parallel import TensorParallel


class Decoder:
    """Residual in, residual out: in its format and memory config, and over the devices as it lies."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        precision: Precision,
        rope: Rope,
        layer: int,
    ) -> None:
        def norm(name: str) -> RMSNorm:
            return RMSNorm(
                mesh_device=mesh_device,
                tp=tp,
                weights=weights,
                configs=configs,
                name=f"model.layers.{layer}.{name}",
                gather_output=not tp.is_2d,
            )

        self.attention_norm = norm("input_layernorm")
        self.attention = Attention(
            mesh_device=mesh_device,
            tp=tp,
            weights=weights,
            configs=configs,
            precision=precision,
            rope=rope,
            layer=layer,
        )
        self.mlp_norm = norm("post_attention_layernorm")
        self.mlp = MLP(
            mesh_device=mesh_device,
            tp=tp,
            weights=weights,
            configs=configs,
            precision=precision,
            layer=layer,
        )
        self._configs = configs
        self._dtype = precision.residual

    def prefill(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, user: int
    ) -> ttnn.Tensor:
        """[1, 1, S, dim] -> the same; fills the user's pages."""
        update = self.attention.prefill(self.attention_norm.prefill(x), angles, cache, page_table, user)
        x = ttnn.add(x, update, dtype=self._dtype)
        return ttnn.add(x, self.mlp.prefill(self.mlp_norm.prefill(x)), dtype=self._dtype)

    def decode(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, positions: ttnn.Tensor
    ) -> ttnn.Tensor:
        """[1, 1, 32, dim] width-sharded -> the same; adds a row to each user's pages."""
        memory = self._configs.residual
        update = self.attention.decode(self.attention_norm.decode(x), angles, cache, page_table, positions)
        x = ttnn.add(x, update, dtype=self._dtype, memory_config=memory)
        ttnn.deallocate(update)
        update = self.mlp.decode(self.mlp_norm.decode(x))
        return ttnn.add(x, update, dtype=self._dtype, memory_config=memory)
