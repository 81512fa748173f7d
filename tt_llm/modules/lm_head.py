"""Normed hidden state to logits over the vocabulary."""

from __future__ import annotations

import ttnn
from torch.nn.functional import pad

from tt_llm.checkpoint import Checkpoint
from tt_llm.config import ModelConfig
from tt_llm.mesh import replicate
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision


class LMHead:
    """The vocabulary in equal slices of columns, a matmul each, so that a slice's output fits L1."""

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        config: ModelConfig,
        weights: Checkpoint,
        configs: OpConfigs,
        precision: Precision,
    ) -> None:
        columns = configs.lm_head_columns
        # The last slice is padded with zeros. One slice at a time, so that no second table is held.
        self._slices = [
            replicate(pad(part, (0, columns - part.shape[-1])), mesh_device, precision.lm_head_weights)
            for part in weights.lm_head.split(columns, dim=-1)
        ]
        self._configs = configs

    def __call__(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, R, dim] bf16 interleaved, R <= 1,024 -> [1, 1, R, padded vocab] bf16.

        Columns from the vocabulary's size on are padding; the reader slices them off.
        """
        program = self._configs.lm_head(x.shape[-2])
        parts = [
            ttnn.linear(
                x,
                weight,
                dtype=ttnn.bfloat16,
                program_config=program,
                memory_config=ttnn.DRAM_MEMORY_CONFIG,
                compute_kernel_config=self._configs.linear_compute,
            )
            for weight in self._slices
        ]
        return parts[0] if len(parts) == 1 else ttnn.concat(parts, dim=-1)
