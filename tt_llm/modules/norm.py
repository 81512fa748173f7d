"""Root mean square norm (arXiv:1910.07467): x / sqrt(mean(x^2) + eps) * gamma; LayerNorm (arXiv:1607.06450); norms of heads."""

from __future__ import annotations

from typing import Any

import torch
import ttnn
from torch.nn.functional import pad

from tt_llm.checkpoint import Checkpoint, interleave_rope
from tt_llm.config import TILE
from tt_llm.errors import InputError
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
        output_dtype: ttnn.DataType = ttnn.bfloat16,
    ) -> None:
        """`gather_output`: whether the columns of a distributed norm are gathered."""
        # Row-major rows of a tile's width: no padding.
        gamma = (weights[f"{name}.weight"] + tp.whole.architecture.norm_offset).reshape(1, 1, -1, TILE)
        self.name = name
        self.distributed = tp.residual_is_sharded
        self._gamma = replicate(gamma, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)
        if self.distributed:
            dims = tp.shard_dims(None, -2)
            self._own_gamma = scatter(gamma, mesh_device, dims, ttnn.bfloat16, layout=ttnn.ROW_MAJOR_LAYOUT)
        self._eps = tp.whole.norm_eps
        self.dim, self._stats_width = tp.whole.dim, tp.residual_shards * TILE
        self._axis, self._gather_output = tp.residual_axis, gather_output
        self._dtype = output_dtype
        self._configs = configs

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim, or a device's columns of it] -> [1, 1, S, dim, or without `gather_output` those columns] in bf16."""
        if self.distributed:
            return self._distributed_prefill(x)
        return _as_dtype(self._normed(x), self._dtype)

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim] width-sharded -> the same in bf16."""
        normed = self._normed(
            x, program_config=self._configs.norm_decode, memory_config=self._configs.residual
        )
        return _as_dtype(normed, self._dtype)

    def _normed(self, x: ttnn.Tensor, **placed: object) -> ttnn.Tensor:
        compute = self._configs.norm_compute
        return ttnn.rms_norm(
            x, weight=self._gamma, epsilon=self._eps, **placed, compute_kernel_config=compute
        )

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
            dtype=self._dtype,
        )
        if not self._gather_output:
            return normed
        return all_gather(normed, self.dim, ttnn.DRAM_MEMORY_CONFIG, self._axis)


class LayerNorm(RMSNorm):
    """(x - mean(x)) / sqrt(var(x) + eps) * gamma + beta. Raises InputError for a sharded residual."""

    def __init__(
        self, *, mesh_device: ttnn.MeshDevice, weights: Checkpoint, name: str, **kwargs: Any
    ) -> None:
        super().__init__(mesh_device=mesh_device, weights=weights, name=name, **kwargs)
        if self.distributed:
            raise InputError(
                f"hidden_size {self.dim}: LayerNorm of a residual that is sharded over devices is not supported"
            )
        beta = weights[f"{name}.bias"].reshape(1, 1, -1, TILE)
        self._beta = replicate(beta, mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

    def _normed(self, x: ttnn.Tensor, **placed: object) -> ttnn.Tensor:
        return ttnn.layer_norm(
            x,
            weight=self._gamma,
            bias=self._beta,
            epsilon=self._eps,
            **placed,
            compute_kernel_config=self._configs.norm_compute,
        )


class NoNorm:
    """Where a model has no norm before attention or MLP: the residual in bf16, what the matmuls take, whole on every device."""

    def __init__(self, *, tp: TensorParallel, configs: OpConfigs, gather_output: bool) -> None:
        self._gathers = tp.residual_is_sharded and gather_output
        self._dim, self._axis, self._configs = tp.whole.dim, tp.residual_axis, configs

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim, or a device's columns of it] -> [1, 1, S, dim, or without `gather_output` those columns] in bf16."""
        x = _as_dtype(x, ttnn.bfloat16)
        return all_gather(x, self._dim, ttnn.DRAM_MEMORY_CONFIG, self._axis) if self._gathers else x

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim] width-sharded -> the same in bf16."""
        return _as_dtype(x, ttnn.bfloat16)


class HeadNorm:
    """RMS norm of each head of queries or keys, before they turn."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        name: str,
    ) -> None:
        whole = tp.whole
        gamma = weights[f"{name}.weight"] + whole.architecture.norm_offset
        gamma = interleave_rope(gamma, whole.head_dim, whole.rotary_dim)
        gamma, self._eps = _over_padding(tp, pad(gamma, (0, tp.local.head_dim - whole.head_dim)))
        self._gamma = replicate(
            gamma.reshape(1, 1, -1, TILE), mesh_device, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT
        )
        self._configs = configs

    def prefill(self, heads: ttnn.Tensor) -> ttnn.Tensor:
        """[1, n, S, head_dim] -> the same."""
        return ttnn.rms_norm(
            heads, weight=self._gamma, epsilon=self._eps, compute_kernel_config=self._configs.norm_compute
        )

    def decode(self, heads: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 32, n, head_dim], one user a core -> the same."""
        memory = heads.memory_config()
        normed = self.prefill(ttnn.sharded_to_interleaved(heads, ttnn.L1_MEMORY_CONFIG))
        return ttnn.interleaved_to_sharded(normed, memory)


class AllHeadsNorm:
    """RMS norm of all query heads together and of all key heads together (OLMo 2), on the fused projection.

    Over several devices they gather the sums of squares. Raises InputError where a device has heads of zeros: those would count.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        layer: int,
    ) -> None:
        whole, local = tp.whole, tp.local
        zeros = any(None in heads for heads in tp.q_heads + tp.kv_heads)
        repeats = {len(tp.kv_head_locations(head)) for head in range(tp.n_kv_heads)}
        if zeros or len(repeats) > 1:
            raise InputError(
                f"{tp.devices} devices: q_norm and k_norm are over all heads, and {whole.n_heads} heads of"
                f" {whole.n_kv_heads} key-value heads do not divide evenly"
            )
        q, k = (
            interleave_rope(
                weights[f"model.layers.{layer}.self_attn.{name}_norm.weight"],
                whole.head_dim,
                whole.rotary_dim,
            )[None, None, None]
            for name in "qk"
        )
        gammas, self._eps = _over_padding(tp, tp.qkv(q, k, k))
        parts = gammas.reshape(tp.rows, -1)
        self._widths = [
            heads * local.head_dim for heads in (local.n_heads, local.n_kv_heads, local.n_kv_heads)
        ]
        self._gammas = [
            scatter(
                part.reshape(1, 1, -1, TILE),
                mesh_device,
                tp.shard_dims(-2, None),
                ttnn.bfloat16,
                layout=ttnn.ROW_MAJOR_LAYOUT,
            )
            for part in parts.split(self._widths, -1)[:2]
        ]
        self._partitions, self._axis = tp.rows, tp.heads_axis
        self._configs = configs

    def __call__(self, qkv: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, a device's (nq + 2 nkv) hd], interleaved -> the same."""
        rows, start, parts = qkv.shape[-2], 0, []
        for width in self._widths:
            parts.append(ttnn.slice(qkv, (0, 0, 0, start), (1, 1, rows, start + width)))
            start += width
        normed = [self._normed(part, gamma) for part, gamma in zip(parts, self._gammas, strict=False)]
        return ttnn.concat([*normed, parts[2]], dim=-1)

    def _normed(self, x: ttnn.Tensor, gamma: ttnn.Tensor) -> ttnn.Tensor:
        compute = self._configs.norm_compute
        if self._partitions == 1:
            return ttnn.rms_norm(x, weight=gamma, epsilon=self._eps, compute_kernel_config=compute)
        sums = ttnn.rms_norm_pre_all_gather(x, dtype=x.dtype, compute_kernel_config=compute)
        return ttnn.rms_norm_post_all_gather(
            x,
            all_gather(sums, self._partitions * TILE, ttnn.DRAM_MEMORY_CONFIG, self._axis),
            epsilon=self._eps,
            weight=gamma,
            compute_kernel_config=compute,
            dtype=ttnn.bfloat16,
        )


def _over_padding(tp: TensorParallel, gamma: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The weight and epsilon with which the norm of heads that are padded with zeros is the norm of what they hold.

    The mean of squares is smaller by the share that is padding: x / sqrt(share * mean + share * eps) * sqrt(share) * gamma.
    """
    share = tp.whole.head_dim / tp.local.head_dim
    return gamma * share**0.5, tp.whole.norm_eps * share


def _as_dtype(x: ttnn.Tensor, dtype: ttnn.DataType) -> ttnn.Tensor:
    # The norm's output has its input's format, fp32 where the residual is.
    return x if x.dtype == dtype else ttnn.typecast(x, dtype)
