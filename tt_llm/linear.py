"""A projection: one matmul against a weight that lies in DRAM, with a program for prefill and one for decode."""

from __future__ import annotations

import torch
import ttnn

from tt_llm.mesh import all_reduce, scatter
from tt_llm.op_configs import LINEAR_ROWS, LinearConfig


class Linear:
    """y = x @ w, without bias, over the devices of a mesh.

    Column-parallel: each device makes its columns of y from all of x. Row-parallel: each has its rows of the weight and
    its columns of x, and y is the sum over the devices.
    """

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
        *,
        row_parallel: bool = False,
    ) -> None:
        """weight [1, 1, K, N] on the host, of all devices; `config` is that of one device's share."""
        dim = -2 if row_parallel else -1
        self._weight = scatter(weight, mesh_device, dim, weight_dtype, config.weight_memory)
        self._row_parallel = row_parallel
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
        y = ttnn.reshape(y, (1, 1, rows, y.shape[-1])) if folded else y
        return all_reduce(y) if self._row_parallel else y

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, K] width-sharded in L1 -> [1, 1, 32, N] likewise."""
        y = ttnn.linear(
            x,
            self._weight,
            dtype=self._output_dtype,
            program_config=self._config.decode,
            memory_config=ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG,
            compute_kernel_config=self._config.compute,
        )
        return all_reduce(y) if self._row_parallel else y
