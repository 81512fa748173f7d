"""Projections: one matmul against a weight that lies in DRAM, with a program for prefill and one for decode.

`ColumnParallelLinear` leads from the residual, `RowParallelLinear` back to it.
"""

from __future__ import annotations

import torch
import ttnn

from tt_llm.mesh import all_gather, all_reduce, partition, reduce_scatter, replicate, scatter
from tt_llm.op_configs import LINEAR_ROWS, LinearConfig, OpConfigs
from tt_llm.tensor_parallel import HEADS_AXIS, RESIDUAL_AXIS, ShardDims, TensorParallel


class Linear:
    """y = x @ w on each device with its part of the weight. A bias is added where y is whole, see `_plus`."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
        dims: ShardDims,
    ) -> None:
        """weight [1, 1, K, N] on the host, of all devices, sharded along `dims`; `config` is that of one device's part."""
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


class ColumnParallelLinear:
    """A projection from the normed residual: each device has the weight's columns of its heads or of its part of the MLP.

    With 2D sharding a device has only some rows of those columns, and an all-reduce over the devices of a row adds.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weight: torch.Tensor,
        config: LinearConfig,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
        bias: torch.Tensor | None = None,
    ) -> None:
        """weight [1, 1, dim, N] and bias [1, 1, 1, N] on the host, columns as they lie over the devices."""
        dims = tp.shard_dims(-1, -2)
        bias_dims = tp.shard_dims(-1, None)
        self._bias = None if bias is None else scatter(bias, mesh_device, bias_dims, output_dtype)
        self._linear = Linear(
            mesh_device=mesh_device,
            weight=weight,
            config=config,
            weight_dtype=weight_dtype,
            output_dtype=output_dtype,
            dims=dims,
        )
        self._reduces = tp.is_2d

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim or a device's part, see `local_k_slice`] in DRAM -> [1, 1, S, a device's part of N] in DRAM."""
        y = self._linear.prefill(x)
        return _plus(all_reduce(y, RESIDUAL_AXIS) if self._reduces else y, self._bias)

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim or a device's part] width-sharded in L1 -> [1, 1, 32, a device's part of N] likewise."""
        y = self._linear.decode(x)
        return _plus(all_reduce(y, RESIDUAL_AXIS) if self._reduces else y, self._bias)


def _plus(y: ttnn.Tensor, bias: ttnn.Tensor | None) -> ttnn.Tensor:
    """[1, 1, R, N] plus [1, 1, 1, N], lying and in the format as y: added once, whatever sum over devices y is."""
    return y if bias is None else ttnn.add(y, bias, dtype=y.dtype, memory_config=y.memory_config())


def local_k_slice(x: ttnn.Tensor, config: LinearConfig) -> ttnn.Tensor:
    """What a device multiplies of the normed residual: all of it, or as many columns as its part of a weight has rows.

    [1, 1, S, dim] or already those columns, in DRAM or width-sharded in L1 -> [1, 1, S, config.k] likewise.
    """
    if x.shape[-1] == config.k:
        return x
    if not x.memory_config().is_sharded():
        return partition(x, RESIDUAL_AXIS)
    columns = partition(ttnn.sharded_to_interleaved(x, ttnn.L1_MEMORY_CONFIG), RESIDUAL_AXIS)
    return ttnn.interleaved_to_sharded(columns, config.decode_input)


class RowParallelLinear:
    """A projection back to the residual: x lies over the devices by columns, y is whole on each of them.

    In prefill of a sharded residual (`TensorParallel.residual_is_sharded`) a device keeps its columns of y alone.
    There are two ways.

    Row-parallel: each device multiplies its columns of x by its rows of the weight, and an all-reduce adds. With 2D sharding
    that gives a device its columns of y, which the devices of a row gather.

    All-gather matmul (`Precision.all_gather_matmul`): the devices gather x, each computes columns of y from whole sums over
    K, and they gather those. y is one device's, bit for bit. Of a 576-wide residual in fp32 that also moves less: bf16 in
    and fp32 once, where an all-reduce moves fp32 twice.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weight: torch.Tensor,
        config: LinearConfig,
        configs: OpConfigs,
        weight_dtype: ttnn.DataType,
        output_dtype: ttnn.DataType,
        bias: torch.Tensor | None = None,
    ) -> None:
        """weight [1, 1, K, dim] on the host, rows as the columns of x lie over the devices; bias [1, 1, 1, dim]."""
        self._gathers = configs.all_gather_matmul
        self._reduces = tp.devices > 1 and not self._gathers
        self._sharded = tp.residual_is_sharded
        dims: ShardDims = tp.shard_dims(-2, -1)
        if self._gathers:
            weight, dims = tp.pad_residual(weight), -1
        self._linear = Linear(
            mesh_device=mesh_device,
            weight=weight,
            config=config,
            weight_dtype=weight_dtype,
            output_dtype=output_dtype,
            dims=dims,
        )
        self._prefill_bias = self._decode_bias = None
        if bias is not None:
            self._prefill_bias = self._decode_bias = replicate(bias, mesh_device, output_dtype)
            if self._sharded:
                self._prefill_bias = scatter(bias, mesh_device, tp.shard_dims(None, -1), output_dtype)
        self._is_2d = tp.is_2d
        self._config = config
        self._dim = tp.local.dim
        self._residual = configs.residual

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, a device's part of K] in DRAM -> [1, 1, S, dim or a device's part] in DRAM."""
        return _plus(self._summed_prefill(x), self._prefill_bias)

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, a device's part of K] width-sharded in L1 -> [1, 1, 32, dim] likewise."""
        return _plus(self._summed_decode(x), self._decode_bias)

    def _summed_prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        if self._gathers:
            x = all_gather(x, self._config.k, ttnn.DRAM_MEMORY_CONFIG)
            y = self._linear.prefill(x)
            return y if self._sharded else all_gather(y, self._dim, ttnn.DRAM_MEMORY_CONFIG)
        y = self._linear.prefill(x)
        if self._is_2d:
            y = all_reduce(y, HEADS_AXIS) if self._reduces else y
            return y if self._sharded else all_gather(y, self._dim, ttnn.DRAM_MEMORY_CONFIG, RESIDUAL_AXIS)
        if self._reduces:
            return reduce_scatter(y) if self._sharded else all_reduce(y)
        return y

    def _summed_decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        if self._gathers:
            x = all_gather(x, self._config.k, self._config.decode_input)
            return all_gather(self._linear.decode(x), self._dim, self._residual)
        y = self._linear.decode(x)
        if self._is_2d:
            y = ttnn.sharded_to_interleaved(y, ttnn.L1_MEMORY_CONFIG)
            y = all_reduce(y, HEADS_AXIS) if self._reduces else y
            return all_gather(y, self._dim, self._residual, RESIDUAL_AXIS)
        return all_reduce(y) if self._reduces else y
