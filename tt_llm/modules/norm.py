"""Root mean square norm (arXiv:1910.07467): x / sqrt(mean(x^2) + eps) * gamma."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.config import TILE
from tt_llm.mesh import all_gather, replicate, scatter
from tt_llm.op_configs import OpConfigs
from tt_llm.tensor_parallel import TensorParallel


class RMSNorm:
    """From the residual's format to bf16, what the matmuls take, whole on every device.

    Of a sharded residual (`distributed`) the devices gather the sums of their squares, each scales its own columns, and they
    gather those: bf16 normed columns travel instead of the residual's. Where the weights that follow are sharded in 2D, a
    device's own columns are what it multiplies, and none travel.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        name: str,
        gather_output: bool = True,
    ) -> None:
        """`gather_output`: whether the columns of a distributed norm are gathered."""
        # Row-major rows of a tile's width: no padding.
        gamma = weights[f"{name}.weight"].reshape(1, 1, -1, TILE)
        self.name = name
        self.distributed = tp.residual_is_sharded
        self._gamma = replicate(gamma, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)
        if self.distributed:
            dims = tp.shard_dims(None, -2)
            self._own_gamma = scatter(gamma, mesh_device, dims, ttnn.bfloat16, layout=ttnn.ROW_MAJOR_LAYOUT)
        self._eps = tp.whole.norm_eps
        self.dim, self._stats_width = tp.whole.dim, tp.residual_shards * TILE
        self._axis, self._gather_output = tp.residual_axis, gather_output
        self._configs = configs

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim, or a device's columns of it] -> [1, 1, S, dim, or without `gather_output` those columns] in bf16."""
        if self.distributed:
            return self._distributed_prefill(x)
        normed = ttnn.rms_norm(
            x, weight=self._gamma, epsilon=self._eps, compute_kernel_config=self._configs.norm_compute
        )
        return _as_bf16(normed)

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim] width-sharded -> the same in bf16."""
        normed = ttnn.rms_norm(
            x,
            weight=self._gamma,
            epsilon=self._eps,
            program_config=self._configs.norm_decode,
            memory_config=self._configs.residual,
            compute_kernel_config=self._configs.norm_compute,
        )
        return _as_bf16(normed)

    def _distributed_prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        compute = self._configs.norm_compute
        # The sums in the residual's format: an error of one scales a whole row.
        sums = ttnn.rms_norm_pre_all_gather(x, dtype=x.dtype, compute_kernel_config=compute)  # [1, 1, S, 32]
        normed = ttnn.rms_norm_post_all_gather(
            x,
            all_gather(sums, self._stats_width, ttnn.DRAM_MEMORY_CONFIG, self._axis),
            epsilon=self._eps,
            weight=self._own_gamma,
            compute_kernel_config=compute,
            dtype=ttnn.bfloat16,
        )
        if not self._gather_output:
            return normed
        return all_gather(normed, self.dim, ttnn.DRAM_MEMORY_CONFIG, self._axis)


def _as_bf16(x: ttnn.Tensor) -> ttnn.Tensor:
    # The norm's output has its input's format, fp32 where the residual is.
    return x if x.dtype == ttnn.bfloat16 else ttnn.typecast(x, ttnn.bfloat16)
