"""The modules as one model: prefill of one user's prompt, and one decode step of up to 32 users."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.config import TILE, LayerKind, ModelConfig
from tt_llm.kv_cache import PagedKVCache
from tt_llm.modules.decoder import Decoder
from tt_llm.modules.embedding import Embedding
from tt_llm.modules.lm_head import LMHead
from tt_llm.modules.norm import LayerNorm, RMSNorm
from tt_llm.modules.rope import Rope
from tt_llm.op_configs import LM_HEAD_ROWS, OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import TensorParallel, parallel_shape


class Modules:
    """The modules of a model, each put on the devices when first asked for, and then kept."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        config: ModelConfig,
        weights: Checkpoint,
        precision: Precision,
        max_seq_len: int,
    ) -> None:
        """`max_seq_len`: tokens, as prompts are padded."""
        self.mesh_device = mesh_device
        self.config = config
        self.precision = precision
        rows, columns = mesh_device.shape
        shape = parallel_shape(config, (rows, columns), precision.all_gather_matmul)
        self.tp = TensorParallel.of(config, *shape)
        self.configs = OpConfigs(mesh_device=mesh_device, tp=self.tp, precision=precision)
        self._weights = weights
        self._max_seq_len = max_seq_len
        self._layers: dict[int, Decoder] = {}
        self._ropes: dict[LayerKind, Rope] = {}

    @cached_property
    def embedding(self) -> Embedding:
        """Token ids to the residual."""
        return Embedding(
            mesh_device=self.mesh_device,
            tp=self.tp,
            weights=self._weights,
            configs=self.configs,
            precision=self.precision,
        )

    @property
    def rope(self) -> Rope:
        """The angles of all positions, shared by the layers that turn as the config says and see everything."""
        return self.rope_of(LayerKind(self.config.rope))

    def rope_of(self, kind: LayerKind) -> Rope:
        """The angles and masks of all positions, shared by the layers of a kind."""
        if kind.window is not None and kind.window >= self._max_seq_len:
            kind = replace(kind, window=None)  # which hides nothing
        if kind not in self._ropes:
            self._ropes[kind] = Rope(
                mesh_device=self.mesh_device,
                config=self.tp.local,
                configs=self.configs,
                max_seq_len=self._max_seq_len,
                kind=kind,
            )
        return self._ropes[kind]

    def layer_rope(self, layer: int) -> Rope:
        """That of a layer."""
        return self.rope_of(self.config.layer_kind(layer))

    def layer(self, index: int) -> Decoder:
        """A decoder layer, 0 to n_layers - 1; InputError for one that the weights do not have."""
        if index not in self._layers:
            self._layers[index] = Decoder(
                mesh_device=self.mesh_device,
                tp=self.tp,
                weights=self._weights,
                configs=self.configs,
                precision=self.precision,
                rope=self.layer_rope(index),
                layer=index,
            )
        return self._layers[index]

    @cached_property
    def final_norm(self) -> RMSNorm:
        """What the LM head is fed through."""
        return (LayerNorm if self.config.architecture.layer_norm else RMSNorm)(
            mesh_device=self.mesh_device,
            tp=self.tp,
            weights=self._weights,
            configs=self.configs,
            name="model.norm",
        )

    @cached_property
    def lm_head(self) -> LMHead:
        """Normed hidden state to logits."""
        return LMHead(
            mesh_device=self.mesh_device,
            tp=self.tp,
            weights=self._weights,
            configs=self.configs,
            precision=self.precision,
        )


class Model:
    """Weights on the device and the forward pass over them."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self.config, self.tp, self.configs = modules.config, modules.tp, modules.configs
        self.embedding = modules.embedding
        self.layers = [modules.layer(index) for index in range(modules.config.n_layers)]
        self.ropes = [modules.layer_rope(index) for index in range(modules.config.n_layers)]
        self.final_norm, self.lm_head = modules.final_norm, modules.lm_head

    def prefill(
        self, tokens: ttnn.Tensor, cache: PagedKVCache, page_table: ttnn.Tensor, user: int
    ) -> ttnn.Tensor:
        """[1, S] uint32 -> the residual after the last layer, [1, 1, S, dim or a device's columns]; fills the user's pages."""
        angles = {rope: rope.prefill_angles(tokens.shape[-1]) for rope in dict.fromkeys(self.ropes)}
        x = self.embedding.prefill(tokens)
        for layer, rope, pages in zip(self.layers, self.ropes, cache.layers, strict=True):
            x = layer.prefill(x, angles[rope], pages, page_table, user)
        return x

    def decode(
        self,
        tokens: ttnn.Tensor,
        positions: ttnn.Tensor,
        rope_positions: ttnn.Tensor,
        cache: PagedKVCache,
        page_table: ttnn.Tensor,
    ) -> ttnn.Tensor:
        """One token a user, [1, 32] uint32 -> logits as the LM head gives them, 32 rows.

        positions [32] int32, -1 where there is no user; rope_positions [1, 32] uint32, the same with 0 there.
        """
        angles = {rope: rope.decode_angles(rope_positions) for rope in dict.fromkeys(self.ropes)}
        x = self.embedding.decode(tokens)
        for layer, rope, pages in zip(self.layers, self.ropes, cache.layers, strict=True):
            x = layer.decode(x, angles[rope], pages, page_table, positions)
        normed = self.final_norm.decode(x)
        return self.lm_head(ttnn.sharded_to_interleaved(normed, ttnn.L1_MEMORY_CONFIG))

    def prefill_logits(self, hidden: ttnn.Tensor, positions: range, logits: torch.Tensor) -> None:
        """Writes the logits of some positions of a prefilled residual [1, 1, S, dim] into `logits` [positions, vocab].

        The LM head runs over as few rows as needed, whole tile rows, and at most LM_HEAD_ROWS at a time.
        """
        first = positions.start // TILE * TILE
        padded = hidden.shape[-2]
        for start in range(first, positions.stop, LM_HEAD_ROWS):
            end = min(start + LM_HEAD_ROWS, -(-positions.stop // TILE) * TILE, padded)
            rows = ttnn.slice(hidden, (0, 0, start, 0), (1, 1, end, hidden.shape[-1]))
            block = self.lm_head.to_host(self.lm_head(self.final_norm.prefill(rows)))
            overlap = range(max(start, positions.start), min(end, positions.stop))
            logits[overlap.start - positions.start : overlap.stop - positions.start] = block[
                overlap.start - start : overlap.stop - start
            ]
