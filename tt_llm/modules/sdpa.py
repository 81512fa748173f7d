"""What attention does between turning its heads and joining them: softmax(q k^T * scale) v over all that a position sees."""

from __future__ import annotations

import ttnn

from tt_llm.modules.rope import Angles
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision

KVPair = tuple[ttnn.Tensor, ttnn.Tensor]


class SDPA:
    """ttnn's scaled dot product attention, one op a phase."""

    def __init__(self, *, configs: OpConfigs, scale: float) -> None:
        self._configs, self._scale = configs, scale

    def prefill(self, q: ttnn.Tensor, k: ttnn.Tensor, v: ttnn.Tensor, angles: Angles) -> ttnn.Tensor:
        """[1, nq, S, hd], [1, nkv, S, hd] twice -> [1, nq, S, hd]."""
        return ttnn.transformer.scaled_dot_product_attention(
            q,
            k,
            v,
            **(
                {"is_causal": True} if angles.mask is None else {"is_causal": False, "attn_mask": angles.mask}
            ),
            scale=self._scale,
            program_config=self._configs.sdpa_prefill,
            compute_kernel_config=self._configs.sdpa_prefill_compute,
        )

    def decode(
        self,
        q: ttnn.Tensor,
        cache: KVPair,
        page_table: ttnn.Tensor,
        positions: ttnn.Tensor,
        angles: Angles,
    ) -> ttnn.Tensor:
        """[1, 32, nq, hd] and what the users' pages hold -> [1, 32, nq, hd] in DRAM."""
        return ttnn.transformer.paged_scaled_dot_product_attention_decode(
            q,
            *cache,
            page_table,
            **self._seen(angles, positions, _positions_held(cache, page_table)),
            scale=self._scale,
            program_config=self._configs.sdpa_decode,
            compute_kernel_config=self._configs.sdpa_decode_compute,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )

    def _seen(self, angles: Angles, positions: ttnn.Tensor, length: int) -> dict[str, ttnn.Tensor | bool]:
        """Everything up to each user's position, or what the mask leaves of the `held` positions of its pages."""
        if angles.mask is None:
            return {"cur_pos_tensor": positions}
        return {"is_causal": False, "attn_mask": _held(angles.mask, length)}


class SoftcappedSDPA:
    """The same of scores bounded as cap * tanh(scores / cap), as Gemma 2's are (arXiv:2408.00118), op by op: ttnn's has no cap.

    Scores of all heads lie in DRAM, S * S of them in prefill. A decode step copies the layer's whole cache to rows and looks up
    there what each user's pages hold: its time follows the cache's size, not the users' positions.
    """

    def __init__(
        self,
        *,
        configs: OpConfigs,
        precision: Precision,
        scale: float,
        cap: float,
        n_heads: int,
        n_kv_heads: int,
    ) -> None:
        """Heads of a device."""
        self._prefill_compute, self._decode_compute = (
            configs.sdpa_prefill_compute,
            configs.sdpa_decode_compute,
        )
        self._scale, self._cap = scale, cap
        self._n_heads, self._n_kv_heads = n_heads, n_kv_heads
        self._dtype = precision.residual

    def prefill(self, q: ttnn.Tensor, k: ttnn.Tensor, v: ttnn.Tensor, angles: Angles) -> ttnn.Tensor:
        """[1, nq, S, hd], [1, nkv, S, hd] twice -> [1, nq, S, hd]."""
        _, _, rows, width = q.shape
        groups = (1, self._n_kv_heads, self._n_heads // self._n_kv_heads * rows)
        compute = self._prefill_compute
        scores = self._capped(ttnn.reshape(q, (*groups, width)), k, compute)
        # Query heads of one key-value head lie one below the other; the mask is that of each.
        scores = ttnn.add(ttnn.reshape(scores, (1, self._n_heads, rows, rows)), angles.mask)
        shares = ttnn.reshape(self._shares(scores, compute), (*groups, rows))
        heads = ttnn.matmul(shares, v, dtype=ttnn.bfloat16, compute_kernel_config=compute)
        return ttnn.reshape(heads, (1, self._n_heads, rows, width))

    def decode(
        self,
        q: ttnn.Tensor,
        cache: KVPair,
        page_table: ttnn.Tensor,
        positions: ttnn.Tensor,
        angles: Angles,
    ) -> ttnn.Tensor:
        """[1, 32, nq, hd] and what the users' pages hold -> [1, 32, nq, hd] in DRAM. The mask knows the positions."""
        _, users, heads, width = q.shape
        compute = self._decode_compute
        q = ttnn.sharded_to_interleaved(q, ttnn.DRAM_MEMORY_CONFIG)
        q = ttnn.reshape(q, (users, self._n_kv_heads, heads // self._n_kv_heads, width))
        k, v = (_looked_up(pages, page_table) for pages in cache)
        scores = self._capped(q, k, compute)  # -> [32, nkv, nq / nkv, positions held]
        scores = ttnn.add(scores, _held(angles.mask, _positions_held(cache, page_table)))
        out = ttnn.matmul(
            self._shares(scores, compute), v, dtype=ttnn.bfloat16, compute_kernel_config=compute
        )
        return ttnn.reshape(out, (1, users, heads, width))

    def _capped(
        self, q: ttnn.Tensor, k: ttnn.Tensor, compute: ttnn.WormholeComputeKernelConfig
    ) -> ttnn.Tensor:
        scores = ttnn.matmul(q, k, transpose_b=True, dtype=self._dtype, compute_kernel_config=compute)
        return ttnn.multiply(ttnn.tanh(ttnn.multiply(scores, self._scale / self._cap)), self._cap)

    def _shares(self, scores: ttnn.Tensor, compute: ttnn.WormholeComputeKernelConfig) -> ttnn.Tensor:
        shares = ttnn.softmax(scores, dim=-1, compute_kernel_config=compute)
        return shares if shares.dtype == ttnn.bfloat16 else ttnn.typecast(shares, ttnn.bfloat16)


def _positions_held(cache: KVPair, page_table: ttnn.Tensor) -> int:
    blocks, block_size = page_table.shape[-1], cache[0].shape[2]
    return int(blocks * block_size)


def _held(mask: ttnn.Tensor, length: int) -> ttnn.Tensor:
    """A decode step's mask up to the positions that a user's pages hold."""
    users, _, heads, longest = mask.shape
    return mask if length == longest else ttnn.slice(mask, (0, 0, 0, 0), (users, 1, heads, length))


def _looked_up(pages: ttnn.Tensor, page_table: ttnn.Tensor) -> ttnn.Tensor:
    """[blocks, nkv, block, hd] -> what each user's pages hold, [32, nkv, its blocks * block, hd] bf16."""
    blocks, heads, block_size, width = pages.shape
    users, blocks_a_user = page_table.shape
    rows = ttnn.to_layout(pages, ttnn.ROW_MAJOR_LAYOUT)
    table = ttnn.reshape(rows, (1, 1, blocks, heads * block_size * width))
    ids = ttnn.typecast(page_table, ttnn.uint32)
    taken = ttnn.embedding(ids, table, layout=ttnn.ROW_MAJOR_LAYOUT)  # -> [32, its blocks, nkv * block * hd]
    by_head = ttnn.permute(
        ttnn.reshape(taken, (users, blocks_a_user, heads, block_size * width)), (0, 2, 1, 3)
    )
    return ttnn.to_layout(
        ttnn.reshape(by_head, (users, heads, blocks_a_user * block_size, width)), ttnn.TILE_LAYOUT
    )
