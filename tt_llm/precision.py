"""Which number format and math fidelity each op uses: the named precisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import ttnn

from tt_llm.errors import InputError


@dataclass(frozen=True)
class Compute:
    """How an op multiplies and accumulates.

    `fidelity`: how many mantissa bits of each operand the multiplier sees, LoFi to HiFi4.
    `fp32_dest`: accumulate in an fp32 destination register; otherwise it is bf16, rounded after every 16 products.
    """

    fidelity: ttnn.MathFidelity
    fp32_dest: bool

    def kernel_config(
        self, mesh_device: ttnn.MeshDevice, packer_l1_acc: bool = True
    ) -> ttnn.WormholeComputeKernelConfig:
        """`packer_l1_acc`: K-block partials are added by the packer in L1 instead of being reloaded."""
        return ttnn.init_device_compute_kernel_config(
            mesh_device.arch(),
            math_fidelity=self.fidelity,
            math_approx_mode=False,
            fp32_dest_acc_en=self.fp32_dest,
            packer_l1_acc=packer_l1_acc,
        )


@dataclass(frozen=True)
class Precision:
    """A named precision: formats of weights and activations, and the compute of each kind of op."""

    name: str
    attention_weights: ttnn.DataType
    gate_up_weights: ttnn.DataType
    down_weights: ttnn.DataType
    lm_head_weights: ttnn.DataType
    residual: ttnn.DataType
    silu_mul_output: ttnn.DataType
    kv_cache: ttnn.DataType
    linear: Compute
    gate_up: Compute
    router: Compute
    norm: Compute
    rope: Compute
    sdpa_prefill: Compute
    sdpa_decode: Compute
    all_gather_matmul: bool  # on several devices: no sum over K is split, see RowParallelLinear

    @property
    def sublayer_output(self) -> ttnn.DataType:
        """Format of what attention and MLP add to the residual.

        The residual's own: ttnn adds two fp32 tensors exactly rounded, but an fp32 and a bf16 one on the
        11-bit adder.
        """
        return self.residual


_HIFI4_FP32 = Compute(ttnn.MathFidelity.HiFi4, fp32_dest=True)
_HIFI2_BF16 = Compute(ttnn.MathFidelity.HiFi2, fp32_dest=False)
_LOFI_BF16 = Compute(ttnn.MathFidelity.LoFi, fp32_dest=False)

_ACCURACY = Precision(
    name="accuracy",
    attention_weights=ttnn.bfloat16,
    gate_up_weights=ttnn.bfloat16,
    down_weights=ttnn.bfloat16,
    lm_head_weights=ttnn.bfloat16,
    residual=ttnn.float32,
    silu_mul_output=ttnn.bfloat16,
    kv_cache=ttnn.bfloat16,
    linear=_HIFI4_FP32,
    gate_up=_HIFI4_FP32,
    router=_HIFI4_FP32,
    norm=_HIFI4_FP32,
    rope=_HIFI4_FP32,
    sdpa_prefill=_HIFI4_FP32,
    sdpa_decode=_HIFI4_FP32,
    # A sum split over devices rounds elsewhere than an undivided one, and thirty layers make of a last bit in an fp32
    # residual .8% in SmolLM2's logits (relative L2, emulator): as far apart as two roundings of the whole model are.
    all_gather_matmul=True,
)

_PERFORMANCE = Precision(
    name="performance",
    attention_weights=ttnn.bfloat8_b,
    gate_up_weights=ttnn.bfloat8_b,
    down_weights=ttnn.bfloat8_b,
    lm_head_weights=ttnn.bfloat8_b,
    residual=ttnn.bfloat16,
    silu_mul_output=ttnn.bfloat8_b,
    kv_cache=ttnn.bfloat8_b,
    linear=_HIFI2_BF16,
    gate_up=_HIFI2_BF16,
    router=_HIFI4_FP32,  # small, and a wrong expert costs more than a rounding
    norm=_HIFI2_BF16,
    rope=_HIFI4_FP32,
    # Long rows of softmax weights, all positive, are what a bf16 destination is worst at: prefill at HiFi2 with one left the
    # attention of SmolLM2's layer 14 at PCC .9989, its worst row at .986 (emulator, bit-exact to the recorded SDPA).
    sdpa_prefill=_HIFI4_FP32,
    sdpa_decode=_HIFI2_BF16,
    all_gather_matmul=False,
)

_BFP4_MLP = replace(_PERFORMANCE, name="bfp4_mlp", gate_up_weights=ttnn.bfloat4_b, gate_up=_LOFI_BF16)

PRECISIONS = {precision.name: precision for precision in (_ACCURACY, _PERFORMANCE, _BFP4_MLP)}


def named(name: str) -> Precision:
    """The precision of that name; raises InputError with the names there are."""
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r}: choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
