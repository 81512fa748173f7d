"""Grouped-query attention over a paged KV cache: SDPA in prefill, paged SDPA-decode in decode."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.linear import ColumnParallelLinear, RowParallelLinear, local_k_slice
from tt_llm.modules.norm import AllHeadsNorm, HeadNorm
from tt_llm.modules.rope import Angles, Rope
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import TensorParallel

KVPair = tuple[ttnn.Tensor, ttnn.Tensor]


class Attention:
    """One layer's attention. `nq` query heads of a device share its `nkv` key and value heads; `hd` is the head dimension."""

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
        q_norm: HeadNorm | None = None,
        k_norm: HeadNorm | None = None,
        qkv_norm: AllHeadsNorm | None = None,
    ) -> None:
        """The norms are those of queries and keys that the architecture has, of each head or of all together."""
        local, has = tp.local, tp.whole.architecture
        qkv = tp.qkv(*weights.qkv(layer, tp.whole))
        output = f"model.layers.{layer}.self_attn.o_proj"
        wo = tp.wo(weights.linear(output))
        dtype = precision.attention_weights
        self._qkv = ColumnParallelLinear(
            mesh_device=mesh_device,
            tp=tp,
            weight=qkv,
            config=configs.qkv,
            weight_dtype=dtype,
            output_dtype=ttnn.bfloat16,
            bias=tp.qkv(*weights.qkv(layer, tp.whole, "bias")) if has.qkv_bias else None,
        )
        self._wo = RowParallelLinear(
            mesh_device=mesh_device,
            tp=tp,
            weight=wo,
            config=configs.wo,
            configs=configs,
            weight_dtype=dtype,
            output_dtype=precision.sublayer_output,
            bias=weights.bias(output, has.o_bias),
        )
        self._q_norm, self._k_norm, self._qkv_norm = q_norm, k_norm, qkv_norm
        self._heads = {"num_heads": local.n_heads, "num_kv_heads": local.n_kv_heads}
        self._scale = local.attention_scale
        self._cache_dtype = precision.kv_cache
        self._configs = configs
        self._rope = rope

    def prefill(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, user: int
    ) -> ttnn.Tensor:
        """One user's prompt, [1, 1, S, dim] bf16 -> [1, 1, S, dim] in the residual's format, as `RowParallelLinear` gives it;
        fills the user's pages.

        page_table [users, blocks] int32; `user` is its row.
        """
        c = self._configs
        qkv = self._qkv.prefill(local_k_slice(x, c.qkv))  # [1, 1, S, dim] -> [1, 1, S, (nq + 2 nkv) hd]
        if self._qkv_norm is not None:
            qkv = self._qkv_norm(qkv)
        q, k, v = ttnn.experimental.nlp_create_qkv_heads(
            qkv, **self._heads, transpose_k_heads=False, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # -> [1, nq, S, hd], [1, nkv, S, hd] twice
        ttnn.deallocate(qkv)
        if self._q_norm is not None and self._k_norm is not None:
            q, k = self._q_norm.prefill(q), self._k_norm.prefill(k)
        q, k = self._rope.rotate_prefill(q, angles), self._rope.rotate_prefill(k, angles)
        self._fill(cache, k, v, page_table, user)
        heads = ttnn.transformer.scaled_dot_product_attention(
            q,
            k,
            v,
            **(
                {"is_causal": True} if angles.mask is None else {"is_causal": False, "attn_mask": angles.mask}
            ),
            scale=self._scale,
            program_config=c.sdpa_prefill,
            compute_kernel_config=c.sdpa_prefill_compute,
        )  # -> [1, nq, S, hd]
        concat = ttnn.experimental.nlp_concat_heads(heads, memory_config=ttnn.DRAM_MEMORY_CONFIG)
        return self._wo.prefill(concat)  # [1, 1, S, nq hd] -> [1, 1, S, dim]

    def decode(
        self, x: ttnn.Tensor, angles: Angles, cache: KVPair, page_table: ttnn.Tensor, positions: ttnn.Tensor
    ) -> ttnn.Tensor:
        """One token a user, [1, 1, 32, dim] bf16 width-sharded -> the same shape and shards, in the residual's format.

        page_table [32, blocks] int32; positions [32] int32, -1 in rows without a user: nothing is cached for those
        and their output is meaningless.
        """
        c = self._configs
        qkv = self._qkv.decode(local_k_slice(x, c.qkv))  # [1, 1, 32, dim] -> [1, 1, 32, (nq + 2 nkv) hd]
        qkv = ttnn.sharded_to_interleaved(qkv, ttnn.L1_MEMORY_CONFIG)
        if self._qkv_norm is not None:
            qkv = self._qkv_norm(qkv)
        q, k, v = ttnn.experimental.nlp_create_qkv_heads_decode(
            qkv, **self._heads, memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG
        )  # -> [1, 32, nq, hd], [1, 32, nkv, hd] twice, one user a core
        ttnn.deallocate(qkv)
        if self._q_norm is not None and self._k_norm is not None:
            q, k = self._q_norm.decode(q), self._k_norm.decode(k)
        q, k = self._rope.rotate_decode(q, angles), self._rope.rotate_decode(k, angles)
        self._update(cache, k, v, page_table, positions)
        heads = ttnn.transformer.paged_scaled_dot_product_attention_decode(
            q,
            *cache,
            page_table,
            **self._seen(angles, positions, page_table.shape[-1] * cache[0].shape[2]),
            scale=self._scale,
            program_config=c.sdpa_decode,
            compute_kernel_config=c.sdpa_decode_compute,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )  # -> [1, 32, nq, hd]
        heads = ttnn.interleaved_to_sharded(heads, c.heads_decode)
        concat = ttnn.experimental.nlp_concat_heads_decode(heads, num_heads=self._heads["num_heads"])
        return self._wo.decode(concat)  # [1, 1, 32, nq hd] -> [1, 1, 32, dim]

    def _seen(self, angles: Angles, positions: ttnn.Tensor, held: int) -> dict[str, ttnn.Tensor | bool]:
        """Everything up to each user's position, or what the mask leaves of the `held` positions of its pages."""
        if angles.mask is None:
            return {"cur_pos_tensor": positions}
        users, _, heads, longest = angles.mask.shape
        mask = (
            angles.mask if held == longest else ttnn.slice(angles.mask, (0, 0, 0, 0), (users, 1, heads, held))
        )
        return {"is_causal": False, "attn_mask": mask}

    def _fill(
        self, cache: KVPair, k: ttnn.Tensor, v: ttnn.Tensor, page_table: ttnn.Tensor, user: int
    ) -> None:
        for pages, rows in zip(cache, (k, v), strict=True):
            if rows.dtype != self._cache_dtype:
                rows = ttnn.typecast(rows, self._cache_dtype)
            ttnn.experimental.paged_fill_cache(pages, rows, page_table, batch_idx=user)

    def _update(
        self, cache: KVPair, k: ttnn.Tensor, v: ttnn.Tensor, page_table: ttnn.Tensor, positions: ttnn.Tensor
    ) -> None:
        for pages, row in zip(cache, (k, v), strict=True):
            ttnn.experimental.paged_update_cache(
                pages, row, update_idxs_tensor=positions, page_table=page_table
            )
