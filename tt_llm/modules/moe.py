"""A mixture of experts (arXiv:1701.06538, Mixtral's arXiv:2401.04088) as one wide MLP: all experts side by side, weighed.

Every expert is computed for every token, and what goes into the down projection is multiplied by the router's weights, zero for
experts that were not chosen: the sum over experts is the projection's own. Over devices it is parallel as any MLP is: by columns, so
by whole experts where these divide. A decode step of 32 users reads nearly every expert's weights anyway (of 8 with 2 chosen
all, of 128 with 8 chosen 87%); prefill multiplies `count / per_token` times what a sparse one would.
"""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.config import Experts
from tt_llm.linear import Linear, local_k_slice
from tt_llm.mesh import all_reduce, partition, replicate
from tt_llm.mlp_weights import NEVER, RouterWeights, expert_columns, router_weights
from tt_llm.modules.mlp import MLP
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import RESIDUAL_AXIS, TensorParallel


class Router:
    """The weight of each expert for each token, zero of those not chosen; in fp32 up to there, as a near tie is decided by the
    last bits. Where experts tie for the last place, all of them are chosen.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: RouterWeights,
        configs: OpConfigs,
        experts: Experts,
    ) -> None:
        self._linear = Linear(
            mesh_device=mesh_device,
            weight=weights.weight,
            config=configs.router,
            weight_dtype=ttnn.bfloat16,
            output_dtype=ttnn.float32,
            dims=(None, -2 if tp.is_2d else None),
        )
        self._bias = replicate(weights.bias, mesh_device, ttnn.float32)
        self._reduces, self._config = tp.is_2d, configs.router
        self._experts, self._compute = experts, configs.router.compute

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim] bf16 in DRAM -> [1, 1, S, experts] bf16 in DRAM."""
        return self._chosen(self._linear.prefill(local_k_slice(x, self._config)))

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim] bf16 width-sharded in L1 -> [1, 1, 32, experts] bf16 interleaved in L1."""
        scores = self._linear.decode(local_k_slice(x, self._config))
        return self._chosen(ttnn.sharded_to_interleaved(scores, ttnn.L1_MEMORY_CONFIG))

    def _chosen(self, scores: ttnn.Tensor) -> ttnn.Tensor:
        if self._reduces:
            scores = all_reduce(scores, RESIDUAL_AXIS)
        scores = ttnn.add(scores, self._bias)
        if self._experts.share_of_all:
            scores = ttnn.softmax(scores, dim=-1, compute_kernel_config=self._compute)
        k = self._experts.per_token
        best, _ = ttnn.topk(scores, k, dim=-1)  # [1, 1, S, k], descending
        last = ttnn.slice(best, (0, 0, 0, k - 1), (1, 1, best.shape[-2], k))
        mask = ttnn.ge(scores, last)
        if self._experts.share_of_all:
            return ttnn.typecast(ttnn.multiply(scores, mask), ttnn.bfloat16)
        scores = ttnn.where(mask, scores, NEVER)
        return ttnn.typecast(ttnn.softmax(scores, dim=-1, compute_kernel_config=self._compute), ttnn.bfloat16)


class MoE:
    """One layer's router and experts."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        precision: Precision,
        layer: int,
    ) -> None:
        experts = tp.whole.architecture.experts
        assert experts is not None
        own = router_weights(weights, layer, experts)
        self.router = Router(mesh_device=mesh_device, tp=tp, weights=own, configs=configs, experts=experts)
        self._experts = MLP(
            mesh_device=mesh_device, tp=tp, weights=weights, configs=configs, precision=precision, layer=layer
        )
        self._columns = Linear(
            mesh_device=mesh_device,
            weight=tp.pad_hidden(expert_columns(experts, tp.whole.hidden_dim), -1),
            config=configs.expert_columns,
            weight_dtype=ttnn.bfloat16,
            output_dtype=ttnn.bfloat16,
            dims=tp.shard_dims(-1, None),
        )
        self._biases = None
        if own.down_biases is not None:
            self._biases = Linear(
                mesh_device=mesh_device,
                weight=own.down_biases,
                config=configs.expert_biases,
                weight_dtype=ttnn.bfloat16,
                output_dtype=precision.sublayer_output,
                dims=(None, None),
            )
        self._input = configs.expert_columns.decode_input
        self._sharded, self._axis = tp.residual_is_sharded, tp.residual_axis

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim] bf16 -> [1, 1, S, dim] in the residual's format."""
        weights = self.router.prefill(x)
        y = self._experts.prefill(x, self._columns.prefill(weights))
        if self._biases is None:
            return y
        bias = self._biases.prefill(weights)
        return ttnn.add(y, partition(bias, self._axis) if self._sharded else bias, dtype=y.dtype)

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim] bf16 width-sharded -> the same shape and shards, in the residual's format."""
        weights = ttnn.interleaved_to_sharded(self.router.decode(x), self._input)
        y = self._experts.decode(x, self._columns.decode(weights))
        if self._biases is None:
            return y
        return ttnn.add(y, self._biases.decode(weights), dtype=y.dtype, memory_config=y.memory_config())
