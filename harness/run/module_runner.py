"""Runs one module of a model on a golden's inputs: host tensors in golden shapes in, host tensors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import ttnn

import tt_llm
from goldens import GoldenSpec
from tt_llm.checkpoint import interleave_rope, split_rope_halves
from tt_llm.kv_cache import BLOCK_SIZE, TILE_ROWS, PagedKVCache, blocks_for, padded_page_table
from tt_llm.mesh import concat_to_host, replicate, scatter, to_host
from tt_llm.op_configs import LM_HEAD_ROWS, padded_prefill_length

Tensors = dict[str, torch.Tensor]
PAGE_SEED = 0  # of the permuted page table: pages out of order, as a server that frees and reuses them has


class ModuleRunner:
    """Calling it runs the module a golden names; `keys` and `values` are then what its KV cache holds."""

    def __init__(self, modules: tt_llm.Modules, spec: GoldenSpec) -> None:
        self._modules = modules
        self._device = modules.mesh_device
        self._spec = spec
        self._cache: PagedKVCache | None = None
        self._page_table = torch.empty(0)
        self._loaded: Tensors = {}

    def __call__(self, inputs: Tensors) -> torch.Tensor:
        """`inputs` as the golden has them -> the module's main output, [B, S or 1, width] float32 (rope: use `rope`)."""
        runs: dict[str, Callable[[Tensors], torch.Tensor]] = {
            "embedding": self._embedding,
            "attention_norm": self._norm,
            "mlp_norm": self._norm,
            "final_norm": self._norm,
            "attention": self._attention,
            "mlp": self._mlp,
            "decoder": self._decoder,
            "lm_head": self._lm_head,
        }
        return runs[self._spec.module](inputs)

    def rope(self, inputs: Tensors) -> Tensors:
        """q [B, nq, S, hd] and k [B, nkv, S, hd] before RoPE -> after it; Hugging Face order in and out."""
        return {name: self._rotated(inputs[name], inputs) for name in ("q", "k")}

    def cached(self, length: int) -> Tensors:
        """k and v [B, nkv, length, hd] of the module's cache at positions 0 to length - 1, in Hugging Face order."""
        assert self._cache is not None, "run attention or decoder first"
        k, v = self._cache.gather(0, self._page_table[: self._spec.batch], length)
        return {"k": self._by_halves(k), "v": v}

    def loaded(self) -> Tensors:
        """The cache as it was before the decode step, at the positions the golden gives; same form as `cached`."""
        return self._loaded

    # Each module

    def _embedding(self, inputs: Tensors) -> torch.Tensor:
        tokens = inputs["tokens"].int()
        if self._decoding:
            ids = torch.zeros(1, TILE_ROWS, dtype=torch.int32)
            ids[0, : tokens.shape[0]] = tokens[:, 0]
            return self._rows(self._modules.embedding.decode(self._ids(ids)))
        return torch.cat(
            [self._prefill_rows(self._modules.embedding.prefill(self._ids(row[None]))) for row in tokens]
        )

    def _norm(self, inputs: Tensors) -> torch.Tensor:
        name, layer = self._spec.module, self._spec.layer
        norm = self._modules.final_norm if layer is None else getattr(self._modules.layer(layer), name)
        return self._each(inputs["x"], norm.prefill, norm.decode)

    def _mlp(self, inputs: Tensors) -> torch.Tensor:
        mlp = self._modules.layer(self._layer).mlp
        return self._each(inputs["x"], mlp.prefill, mlp.decode, normed=True)

    def _attention(self, inputs: Tensors) -> torch.Tensor:
        attention = self._modules.layer(self._layer).attention
        return self._attending(inputs, attention.prefill, attention.decode, normed=True)

    def _decoder(self, inputs: Tensors) -> torch.Tensor:
        decoder = self._modules.layer(self._layer)
        return self._attending(inputs, decoder.prefill, decoder.decode)

    def _lm_head(self, inputs: Tensors) -> torch.Tensor:
        x = inputs["x"]
        rows = x.reshape(-1, x.shape[-1])
        logits = []
        for chunk in rows.split(LM_HEAD_ROWS):
            device = self._put(_padded_rows(chunk[None], TILE_ROWS), ttnn.bfloat16)
            logits.append(self._modules.lm_head.to_host(self._modules.lm_head(device))[: len(chunk)])
        return torch.cat(logits).reshape(*x.shape[:-1], -1)

    def _rotated(self, heads: torch.Tensor, inputs: Tensors) -> torch.Tensor:
        rope, config = self._modules.layer_rope(self._layer), self._modules.config
        pairs = interleave_rope(heads, config.head_dim, config.rotary_dim)
        width = self._modules.tp.local.head_dim  # in whole tiles
        pairs = torch.nn.functional.pad(pairs, (0, width - config.head_dim))
        if self._decoding:
            per_user = torch.zeros(1, TILE_ROWS, heads.shape[1], width)
            per_user[0, : len(heads)] = pairs[:, :, 0]
            memory = self._modules.configs.heads_decode
            angles = rope.decode_angles(self._ids(self._positions(inputs).clamp(min=0)[None]))
            rotated = to_host(rope.rotate_decode(self._put(per_user, ttnn.bfloat16, memory), angles))
            return self._by_halves(rotated[0, : len(heads)].unsqueeze(2))
        angles = rope.prefill_angles(heads.shape[2])
        users = [to_host(rope.rotate_prefill(self._put(user[None], ttnn.bfloat16), angles)) for user in pairs]
        return self._by_halves(torch.cat(users))

    def _by_halves(self, heads: torch.Tensor) -> torch.Tensor:
        config = self._modules.config
        return split_rope_halves(heads[..., : config.head_dim], config.head_dim, config.rotary_dim)

    # How a module is called

    def _each(
        self,
        x: torch.Tensor,
        prefill: Callable[[ttnn.Tensor], ttnn.Tensor],
        decode: Callable[[ttnn.Tensor], ttnn.Tensor],
        normed: bool = False,
    ) -> torch.Tensor:
        if self._decoding:
            return self._rows(decode(self._decode_input(x, normed)))
        return torch.cat([self._prefill_rows(prefill(self._prefill_input(user, normed))) for user in x])

    def _attending(
        self,
        inputs: Tensors,
        prefill: Callable[..., ttnn.Tensor],
        decode: Callable[..., ttnn.Tensor],
        normed: bool = False,
    ) -> torch.Tensor:
        x = inputs["x"]
        table = self._fill_cache(inputs)
        assert self._cache is not None
        pages = self._cache.layers[0]
        if self._decoding:
            positions = self._positions(inputs)
            angles = self._modules.layer_rope(self._layer).decode_angles(
                self._ids(positions.clamp(min=0)[None])
            )
            device_positions = replicate(positions, self._device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
            return self._rows(decode(self._decode_input(x, normed), angles, pages, table, device_positions))
        angles = self._modules.layer_rope(self._layer).prefill_angles(padded_prefill_length(x.shape[1]))
        return torch.cat(
            [
                self._prefill_rows(prefill(self._prefill_input(rows, normed), angles, pages, table, user))
                for user, rows in enumerate(x)
            ]
        )

    def _fill_cache(self, inputs: Tensors) -> ttnn.Tensor:
        """A cache of one layer with permuted pages, holding what the golden says it holds before a decode step."""
        spec, config = self._spec, self._modules.config
        tp = self._modules.tp
        one_layer = replace(tp, local=replace(tp.local, n_layers=1))
        per_user = blocks_for(padded_prefill_length(spec.seq_len))
        n_blocks = per_user * spec.batch
        shuffled = torch.randperm(n_blocks, generator=torch.Generator().manual_seed(PAGE_SEED))
        self._page_table = shuffled.reshape(spec.batch, per_user).int()
        self._cache = PagedKVCache(
            mesh_device=self._device,
            tp=one_layer,
            n_blocks=n_blocks,
            dtype=self._modules.precision.kv_cache,
        )
        if self._decoding:
            pages = []
            for name in ("k_cache", "v_cache"):
                heads = inputs[name]
                heads = (
                    interleave_rope(heads, config.head_dim, config.rotary_dim) if name == "k_cache" else heads
                )
                pages.append(self._paged(heads, n_blocks))
            self._cache.layers[0] = (pages[0], pages[1])
            self._loaded = self.cached(spec.seq_len)
        table = padded_page_table(self._page_table, n_blocks)
        return replicate(table, self._device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)

    def _paged(self, heads: torch.Tensor, n_blocks: int) -> ttnn.Tensor:
        # [B, nkv, S, hd] -> on each device [n_blocks, its heads, 32, hd], user b's block i where the page table says
        per_user = self._page_table.shape[1]
        heads = self._modules.tp.expand_kv(heads)
        behind = self._modules.tp.local.head_dim - heads.shape[3]
        padded = torch.nn.functional.pad(heads, (0, behind, 0, per_user * BLOCK_SIZE - heads.shape[2]))
        blocks = padded.unflatten(2, (per_user, BLOCK_SIZE)).transpose(1, 2)  # [B, blocks, nkv, 32, hd]
        pages = torch.zeros(n_blocks, *blocks.shape[2:])
        pages[self._page_table.flatten().long()] = blocks.flatten(0, 1)
        return scatter(pages, self._device, 1, self._modules.precision.kv_cache)

    # Host to device and back

    @property
    def _decoding(self) -> bool:
        return self._spec.phase == "decode"

    @property
    def _layer(self) -> int:
        assert self._spec.layer is not None
        return self._spec.layer

    def _put(
        self, tensor: torch.Tensor, dtype: ttnn.DataType, memory: ttnn.MemoryConfig = ttnn.DRAM_MEMORY_CONFIG
    ) -> ttnn.Tensor:
        four = tensor if tensor.dim() == 4 else tensor[None]
        return replicate(four, self._device, dtype, memory_config=memory)

    def _ids(self, ids: torch.Tensor) -> ttnn.Tensor:
        return replicate(ids, self._device, ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)

    def _positions(self, inputs: Tensors) -> torch.Tensor:
        positions = torch.full((TILE_ROWS,), -1, dtype=torch.int32)
        positions[: self._spec.batch] = inputs["start_pos"]
        return positions

    def _dtype(self, normed: bool) -> ttnn.DataType:
        return ttnn.bfloat16 if normed else self._modules.precision.residual

    def _prefill_input(self, rows: torch.Tensor, normed: bool) -> ttnn.Tensor:
        # [S, dim] -> [1, 1, padded S, dim] on every device, or of a sharded residual its columns
        padded = _padded_rows(rows[None], padded_prefill_length(rows.shape[0]))
        if self._modules.tp.residual_is_sharded and not normed:
            dims = self._modules.tp.shard_dims(None, -1)
            return scatter(padded[None], self._device, dims, self._dtype(normed))
        return self._put(padded, self._dtype(normed))

    def _decode_input(self, x: torch.Tensor, normed: bool) -> ttnn.Tensor:
        # [B, 1, dim] -> [1, 1, 32, dim] width-sharded
        padded = _padded_rows(x.transpose(0, 1), TILE_ROWS)
        return self._put(padded, self._dtype(normed), self._modules.configs.residual)

    def _prefill_rows(self, device: ttnn.Tensor) -> torch.Tensor:
        # [1, 1, padded S, dim], or a device's columns of it -> [1, S, dim]
        whole = device.shape[-1] == self._modules.config.dim
        shards = self._modules.tp.residual_shards  # with 2D sharding: the devices of its first row
        return (to_host(device) if whole else concat_to_host(device, -1, shards))[0, :, : self._spec.seq_len]

    def _rows(self, device: ttnn.Tensor) -> torch.Tensor:
        # [1, 1, 32, width] -> [B, 1, width]
        return to_host(device)[0, 0, : self._spec.batch].unsqueeze(1)


def _padded_rows(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """[1, R, width] with zero rows up to a multiple of `multiple`."""
    return torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % multiple))
