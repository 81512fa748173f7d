"""Root mean square norm (arXiv:1910.07467): x / sqrt(mean(x^2) + eps) * gamma."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.config import TILE, ModelConfig
from tt_llm.mesh import replicate
from tt_llm.op_configs import OpConfigs


class RMSNorm:
    """From the residual stream's format to bf16, what the matmuls take."""

    def __init__(
        self,
        mesh_device: ttnn.MeshDevice,
        config: ModelConfig,
        weights: Checkpoint,
        configs: OpConfigs,
        name: str,
    ) -> None:
        gamma = weights[f"{name}.weight"].reshape(
            1, 1, -1, TILE
        )  # row-major rows of a tile's width: no padding
        self.name = name
        self._gamma = replicate(gamma, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)
        self._eps = config.norm_eps
        self._configs = configs

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim] -> the same shape in bf16."""
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


def _as_bf16(x: ttnn.Tensor) -> ttnn.Tensor:
    # The norm's output has its input's format, fp32 where the stream is.
    return x if x.dtype == ttnn.bfloat16 else ttnn.typecast(x, ttnn.bfloat16)
