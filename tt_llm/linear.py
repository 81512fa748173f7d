"""A projection: one matmul against a weight that lies in DRAM, with a program for prefill and one for decode."""

from __future__ import annotations

import torch
import ttnn

from tt_llm.mesh import replicate
from tt_llm.op_configs import LINEAR_ROWS, LinearConfig


class Linear:
    """y = x @ w, without bias."""

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
    ) -> None:
        """weight [1, 1, K, N] on the host."""
        self._weight = replicate(weight, mesh_device, weight_dtype, memory_config=config.weight_memory)
        self._config = config
        self._output_dtype = output_dtype

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, K] in DRAM -> [1, 1, S, N] in DRAM. Long prompts are folded so that a pass fits L1."""
        rows, width = x.shape[-2], x.shape[-1]
        folded = rows > LINEAR_ROWS
        if folded:
            x = ttnn.reshape(x, (1, rows // LINEAR_ROWS, LINEAR_ROWS, width))
        y = ttnn.linear(
            x,
            self._weight,
            dtype=self._output_dtype,
            program_config=self._config.prefill(rows),
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=self._config.compute,
        )
        return ttnn.reshape(y, (1, 1, rows, y.shape[-1])) if folded else y

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, K] width-sharded in L1 -> [1, 1, 32, N] likewise."""
        return ttnn.linear(
            x,
            self._weight,
            dtype=self._output_dtype,
            program_config=self._config.decode,
            memory_config=ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG,
            compute_kernel_config=self._config.compute,
        )
