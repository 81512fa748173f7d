"""The gated MLP (SwiGLU, GEGLU, arXiv:2002.05202): down(activation(gate(x)) * up(x))."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.linear import ColumnParallelLinear, RowParallelLinear, local_k_slice
from tt_llm.mlp_weights import mlp_weights
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import TensorParallel

_ACTIVATIONS = {
    "silu": ttnn.UnaryOpType.SILU,
    "gelu": ttnn.UnaryOpType.GELU,
    "gelu_tanh": ttnn.UnaryOpType.GELU_TANH,
}


class MLP:
    """One layer's MLP."""

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
        own = mlp_weights(weights, layer, tp.whole)
        self._gate, self._up = (
            ColumnParallelLinear(
                mesh_device=mesh_device,
                tp=tp,
                weight=tp.pad_hidden(weight, -1),
                config=configs.gate_up,
                weight_dtype=precision.gate_up_weights,
                output_dtype=ttnn.bfloat16,
                bias=None if bias is None else tp.pad_hidden(bias, -1),
            )
            for weight, bias in ((own.gate, own.gate_bias), (own.up, own.up_bias))
        )
        self._down = RowParallelLinear(
            mesh_device=mesh_device,
            tp=tp,
            weight=tp.pad_hidden(own.down, -2),
            config=configs.down,
            configs=configs,
            weight_dtype=precision.down_weights,
            output_dtype=precision.sublayer_output,
            bias=own.down_bias,
        )
        self._activations = [_ACTIVATIONS[tp.whole.architecture.activation]]
        self._config = configs.gate_up
        self._gated_dtype = precision.silu_mul_output

    def prefill(self, x: ttnn.Tensor, scales: ttnn.Tensor | None = None) -> ttnn.Tensor:
        """[1, 1, S, dim] bf16 -> [1, 1, S, dim] in the residual's format.

        `scales` [1, 1, S, a device's part of hidden_dim] bf16 multiply what goes into down.
        """
        x = local_k_slice(x, self._config)
        return self._down.prefill(self._gated(self._gate.prefill(x), self._up.prefill(x), scales))

    def decode(self, x: ttnn.Tensor, scales: ttnn.Tensor | None = None) -> ttnn.Tensor:
        """[1, 1, 32, dim] bf16 width-sharded -> the same shape and shards, in the residual's format; `scales` likewise."""
        x = local_k_slice(x, self._config)
        return self._down.decode(self._gated(self._gate.decode(x), self._up.decode(x), scales))

    def _gated(self, gate: ttnn.Tensor, up: ttnn.Tensor, scales: ttnn.Tensor | None) -> ttnn.Tensor:
        # [.., a device's part of hidden_dim] each -> the same
        if scales is not None:
            unscaled, up = up, ttnn.mul(up, scales)
            ttnn.deallocate(unscaled)
        gated = ttnn.mul(gate, up, input_tensor_a_activations=self._activations, dtype=self._gated_dtype)
        ttnn.deallocate(gate)
        ttnn.deallocate(up)
        return gated
