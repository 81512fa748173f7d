"""The gated MLP (SwiGLU, GEGLU, arXiv:2002.05202): down(activation(gate(x)) * up(x))."""

from __future__ import annotations

import ttnn

from tt_llm.checkpoint import Checkpoint
from tt_llm.linear import ColumnParallelLinear, RowParallelLinear, local_k_slice
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
        prefix = f"model.layers.{layer}.mlp"
        has = tp.whole.architecture
        gate, up = weights.gate_up(layer, tp.whole)
        down = weights.linear(f"{prefix}.down_proj")
        biases = {
            name: weights.bias(f"{prefix}.{name}_proj", has.mlp_bias) for name in ("gate", "up", "down")
        }
        self._gate, self._up = (
            ColumnParallelLinear(
                mesh_device=mesh_device,
                tp=tp,
                weight=tp.pad_hidden(weight, -1),
                config=configs.gate_up,
                weight_dtype=precision.gate_up_weights,
                output_dtype=ttnn.bfloat16,
                bias=None if (bias := biases[name]) is None else tp.pad_hidden(bias, -1),
            )
            for name, weight in (("gate", gate), ("up", up))
        )
        self._down = RowParallelLinear(
            mesh_device=mesh_device,
            tp=tp,
            weight=tp.pad_hidden(down, -2),
            config=configs.down,
            configs=configs,
            weight_dtype=precision.down_weights,
            output_dtype=precision.sublayer_output,
            bias=biases["down"],
        )
        self._activations = [_ACTIVATIONS[has.activation]]
        self._config = configs.gate_up
        self._gated_dtype = precision.silu_mul_output

    def prefill(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, S, dim] bf16 -> [1, 1, S, dim] in the residual's format."""
        x = local_k_slice(x, self._config)
        return self._down.prefill(self._gated(self._gate.prefill(x), self._up.prefill(x)))

    def decode(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, 32, dim] bf16 width-sharded -> the same shape and shards, in the residual's format."""
        x = local_k_slice(x, self._config)
        return self._down.decode(self._gated(self._gate.decode(x), self._up.decode(x)))

    def _gated(self, gate: ttnn.Tensor, up: ttnn.Tensor) -> ttnn.Tensor:
        # [.., a device's part of hidden_dim] twice -> the same
        gated = ttnn.mul(gate, up, input_tensor_a_activations=self._activations, dtype=self._gated_dtype)
        ttnn.deallocate(gate)
        ttnn.deallocate(up)
        return gated
