"""Projections: one matmul against a weight that lies in DRAM, with a program for prefill and one for decode.

`BranchLinear` leads from the residual stream, `StreamLinear` back to it.
"""

from __future__ import annotations

import torch
import ttnn

from tt_llm.mesh import all_gather, all_reduce, partition, reduce_scatter, scatter
from tt_llm.op_configs import LINEAR_ROWS, LinearConfig, OpConfigs
from tt_llm.tensor_parallel import HEADS_AXIS, STREAM_AXIS, Dims, Split


class Linear:
    """y = x @ w, without bias, on each device with its part of the weight."""

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
        dims: Dims,
    ) -> None:
        """weight [1, 1, K, N] on the host, of all devices, divided along `dims`; `config` is that of one device's share."""
        self._weight = scatter(weight, mesh_device, dims, weight_dtype, config.weight_memory)
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


class BranchLinear:
    """A projection from the normed stream, each device with its heads or its part of the MLP: columns of the weight.

    Of a weight divided along both axes of the mesh a device has some of the rows too, and the devices of a row add.
    """

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        shares: Split,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
    ) -> None:
        """weight [1, 1, dim, N] on the host, columns as they lie over the devices."""
        dims = shares.dims(-1, -2)
        self._linear = Linear(mesh_device, weight, config, weight_dtype, output_dtype, dims)
        self._reduces = shares.both_axes

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim or a device's part, see `taken`] in DRAM -> [1, 1, S, a device's part of N] in DRAM."""
        y = self._linear.prefill(x)
        return all_reduce(y, STREAM_AXIS) if self._reduces else y

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim or a device's part] width-sharded in L1 -> [1, 1, 32, a device's part of N] likewise."""
        y = self._linear.decode(x)
        return all_reduce(y, STREAM_AXIS) if self._reduces else y


def taken(x: ttnn.Tensor, config: LinearConfig) -> ttnn.Tensor:
    """What a device multiplies of the normed stream: all of it, or as many columns as its part of a weight has rows.

    [1, 1, S, dim] or already those columns, in DRAM or width-sharded in L1 -> [1, 1, S, config.k] likewise.
    """
    if x.shape[-1] == config.k:
        return x
    if not x.memory_config().is_sharded():
        return partition(x, STREAM_AXIS)
    columns = partition(ttnn.sharded_to_interleaved(x, ttnn.L1_MEMORY_CONFIG), STREAM_AXIS)
    return ttnn.interleaved_to_sharded(columns, config.decode_input)


class StreamLinear:
    """A projection back to the residual stream: x lies over the devices by columns, y is whole on each of them.

    In prefill of a sharded stream (see `Split`) a device keeps its columns of y alone.
    By a divided sum: each device multiplies its columns of x by its rows of the weight, and an all-reduce adds. Of a weight
    divided along both axes of the mesh that makes a device's columns of y, and the devices of a row gather those.
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
            self._linear = Linear(mesh_device, shares.stream(weight), config, weight_dtype, output_dtype, -1)
        else:
            dims = shares.dims(-2, -1)
            self._linear = Linear(mesh_device, weight, config, weight_dtype, output_dtype, dims)
        self._both_axes = shares.both_axes
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
        if self._both_axes:
            y = all_reduce(y, HEADS_AXIS) if self._reduces else y
            return y if self._sharded else all_gather(y, self._dim, ttnn.DRAM_MEMORY_CONFIG, STREAM_AXIS)
        if self._reduces:
            return reduce_scatter(y) if self._sharded else all_reduce(y)
        return y

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, a device's part of K] width-sharded in L1 -> [1, 1, 32, dim] likewise."""
        if self._gathers:
            x = all_gather(x, self._config.k, self._config.decode_input)
            return all_gather(self._linear.decode(x), self._dim, self._residual)
        y = self._linear.decode(x)
        if self._both_axes:
            y = ttnn.sharded_to_interleaved(y, ttnn.L1_MEMORY_CONFIG)
            y = all_reduce(y, HEADS_AXIS) if self._reduces else y
            return all_gather(y, self._dim, self._residual, STREAM_AXIS)
        return all_reduce(y) if self._reduces else y
