"""Projections: one matmul against a weight that lies in DRAM, with a program for prefill and one for decode."""

from __future__ import annotations

import torch
import ttnn

from tt_llm.mesh import all_gather, all_reduce, reduce_scatter, scatter
from tt_llm.op_configs import LINEAR_ROWS, LinearConfig, OpConfigs
from tt_llm.split import Split


class Linear:
    """y = x @ w, without bias, on each device with its slice of the weight: columns, from all of x."""

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
        dim: int = -1,
    ) -> None:
        """weight [1, 1, K, N] on the host, of all devices, divided along `dim`; `config` is that of one device's share."""
        self._weight = scatter(weight, mesh_device, dim, weight_dtype, config.weight_memory)
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


class StreamLinear:
    """A projection back to the residual stream: x lies over the devices by columns, y is whole on each of them.

    In prefill of a sharded stream (see `Split`) a device keeps its columns of y alone.
    By a divided sum: each device multiplies its columns of x by its rows of the weight, and an all-reduce adds.
    By whole sums: the devices gather x, each makes columns of y, and they gather those; y is one device's, bit for bit.
    Of a 576-wide stream in fp32 that also moves less: bf16 in and fp32 once, where an all-reduce moves fp32 twice.
    """

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        shares: Split,
        weight: torch.Tensor,
        config: LinearConfig,
        configs: OpConfigs,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
    ) -> None:
        """weight [1, 1, K, dim] on the host, rows as the columns of x lie over the devices."""
        self._gathers = configs.whole_sums
        self._reduces = shares.devices > 1 and not self._gathers
        self._sharded = shares.stream_is_sharded
        if self._gathers:
            self._linear = Linear(mesh_device, shares.stream(weight), config, weight_dtype, output_dtype)
        else:
            self._linear = Linear(mesh_device, weight, config, weight_dtype, output_dtype, dim=-2)
        self._config = config
        self._dim = shares.local.dim
        self._residual = configs.residual

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, a device's part of K] in DRAM -> [1, 1, S, dim or a device's part] in DRAM."""
        if self._gathers:
            x = all_gather(x, self._config.k, ttnn.DRAM_MEMORY_CONFIG)
            y = self._linear.prefill(x)
            return y if self._sharded else all_gather(y, self._dim, ttnn.DRAM_MEMORY_CONFIG)
        y = self._linear.prefill(x)
        if self._reduces:
            return reduce_scatter(y) if self._sharded else all_reduce(y)
        return y

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, a device's part of K] width-sharded in L1 -> [1, 1, 32, dim] likewise."""
        if self._gathers:
            x = all_gather(x, self._config.k, self._config.decode_input)
            return all_gather(self._linear.decode(x), self._dim, self._residual)
        y = self._linear.decode(x)
        return all_reduce(y) if self._reduces else y
