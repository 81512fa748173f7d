"""Token ids to the residual."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.kv_cache import TILE_ROWS
from tt_llm.mesh import partition, replicate
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import TensorParallel


class Embedding:
    """A table of [vocab, dim] rows; the table is bf16 (all that the op takes), the output has the residual's format."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        precision: Precision,
    ) -> None:
        table = weights["model.embed_tokens.weight"][None, None]
        if tp.whole.architecture.embedding_scale != 1.0:
            table = table * tp.whole.architecture.embedding_scale
        self._table = replicate(table, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)
        self._dtype = precision.residual
        self._sharded, self._axis = tp.residual_is_sharded, tp.residual_axis
        self._configs = configs

    def prefill(self, tokens: ttnn.Tensor) -> ttnn.Tensor:
        """[1, S] uint32 -> [1, 1, S, dim], or of a sharded residual a device's columns."""
        rows = ttnn.unsqueeze_to_4D(self._rows(tokens))
        return partition(rows, self._axis) if self._sharded else rows

    def decode(self, tokens: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 32] uint32, one token a user -> [1, 1, 32, dim] width-sharded."""
        rows = ttnn.unsqueeze_to_4D(self._rows(tokens))
        assert rows.shape[-2] == TILE_ROWS
        return ttnn.interleaved_to_sharded(rows, self._configs.residual)

    def _rows(self, tokens: ttnn.Tensor) -> ttnn.Tensor:
        return ttnn.embedding(tokens, self._table, layout=ttnn.TILE_LAYOUT, dtype=self._dtype)
