"""One decoder layer: x + attention(norm(x)), then that + mlp(norm(that)); the norms before attention and MLP, behind, or both."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import NORMS, Checkpoint
from tt_llm.modules.attention import Attention
from tt_llm.modules.mlp import MLP
from tt_llm.modules.moe import MoE
from tt_llm.modules.norm import AllHeadsNorm, HeadNorm, LayerNorm, NoNorm, RMSNorm
from tt_llm.modules.rope import Angles, Rope
from tt_llm.modules.sdpa import SDPA, KVPair, SoftcappedSDPA
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import TensorParallel


class Decoder:
    """Residual in, residual out: in its format and memory config, and over the devices as it lies.

    `attention_norm` and `mlp_norm` are the norms before attention and MLP, or behind them where there are none before.
    """

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
        has = tp.whole.architecture
        prefix = f"model.layers.{layer}"

        def norm(name: str, behind: bool) -> RMSNorm:
            # Behind attention or MLP: in the residual's format, and lying as it does.
            return (LayerNorm if has.layer_norm else RMSNorm)(
                mesh_device=mesh_device,
                tp=tp,
                weights=weights,
                configs=configs,
                name=f"{prefix}.{name}",
                gather_output=not tp.is_2d and not behind,
                output_dtype=precision.residual if behind else ttnn.bfloat16,
            )

        def head_norm(name: str) -> HeadNorm | None:
            if has.qk_norm != "head":
                return None
            return HeadNorm(
                mesh_device=mesh_device,
                tp=tp,
                weights=weights,
                configs=configs,
                name=f"{prefix}.self_attn.{name}",
            )

        # Of four norms every second is one behind; of two, both or neither.
        norms = [
            norm(name, behind=has.norms == "post" or (has.norms == "sandwich" and index % 2 == 1))
            for index, name in enumerate(NORMS[has.norms])
        ]
        self.attention_norm, self.mlp_norm = norms[0], norms[len(norms) // 2]
        none = NoNorm(tp=tp, configs=configs, gather_output=not tp.is_2d)
        before: list[RMSNorm | NoNorm] = [none, none] if has.norms == "post" else [norms[0], self.mlp_norm]
        behind: list[RMSNorm | None] = (
            [None, None] if has.norms == "pre" else [norms[len(norms) // 2 - 1], norms[-1]]
        )
        self._to_attention, self._to_mlp = before
        self._of_attention, self._of_mlp = behind
        self.attention = Attention(
            mesh_device=mesh_device,
            tp=tp,
            weights=weights,
            configs=configs,
            precision=precision,
            rope=rope,
            sdpa=_sdpa(tp, configs, precision),
            layer=layer,
            q_norm=head_norm("q_norm"),
            k_norm=head_norm("k_norm"),
            qkv_norm=AllHeadsNorm(
                mesh_device=mesh_device, tp=tp, weights=weights, configs=configs, layer=layer
            )
            if has.qk_norm == "all"
            else None,
        )
        mlp: type[MLP] | type[MoE] = MLP if has.experts is None else MoE
        self.mlp = mlp(
            mesh_device=mesh_device,
            tp=tp,
            weights=weights,
            configs=configs,
            precision=precision,
            layer=layer,
        )
        self._scale = has.residual_scale
        self._configs = configs
        self._dtype = precision.residual

    def prefill(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, user: int
    ) -> ttnn.Tensor:
        """[1, 1, S, dim] -> the same; fills the user's pages."""
        update = self.attention.prefill(self._to_attention.prefill(x), angles, cache, page_table, user)
        if self._of_attention is not None:
            update = self._of_attention.prefill(update)
        x = ttnn.add(x, self._scaled(update), dtype=self._dtype)
        update = self.mlp.prefill(self._to_mlp.prefill(x))
        if self._of_mlp is not None:
            update = self._of_mlp.prefill(update)
        return ttnn.add(x, self._scaled(update), dtype=self._dtype)

    def decode(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, positions: ttnn.Tensor
    ) -> ttnn.Tensor:
        """[1, 1, 32, dim] width-sharded -> the same; adds a row to each user's pages."""
        memory = self._configs.residual
        update = self.attention.decode(self._to_attention.decode(x), angles, cache, page_table, positions)
        if self._of_attention is not None:
            update = self._of_attention.decode(update)
        update = self._scaled(update)
        x = ttnn.add(x, update, dtype=self._dtype, memory_config=memory)
        ttnn.deallocate(update)
        update = self.mlp.decode(self._to_mlp.decode(x))
        if self._of_mlp is not None:
            update = self._of_mlp.decode(update)
        return ttnn.add(x, self._scaled(update), dtype=self._dtype, memory_config=memory)

    def _scaled(self, update: ttnn.Tensor) -> ttnn.Tensor:
        if self._scale == 1.0:
            return update
        return ttnn.multiply(update, self._scale, memory_config=update.memory_config())


def _sdpa(tp: TensorParallel, configs: OpConfigs, precision: Precision) -> SDPA | SoftcappedSDPA:
    local, scale, cap = tp.local, tp.whole.attention_scale, tp.whole.architecture.attention_softcap
    if cap is None:
        return SDPA(configs=configs, scale=scale)
    return SoftcappedSDPA(
        configs=configs,
        precision=precision,
        scale=scale,
        cap=cap,
        n_heads=local.n_heads,
        n_kv_heads=local.n_kv_heads,
    )
