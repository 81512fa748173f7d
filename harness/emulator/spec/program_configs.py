"""Compute kernel and program configs: plain values with ttnn's names and defaults, checked where an op uses them."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.emulator.spec.geometry import CoreCoord, CoreRangeSet
from harness.emulator.spec.types import Arch, MathFidelity, UnaryOpType


@dataclass(frozen=True, kw_only=True)
class WormholeComputeKernelConfig:
    math_fidelity: MathFidelity = MathFidelity.LoFi
    math_approx_mode: bool = True
    fp32_dest_acc_en: bool = False
    packer_l1_acc: bool = False
    dst_full_sync_en: bool = False
    throttle_level: int = 0


def init_device_compute_kernel_config(
    arch: Arch,
    device_kernel_config: WormholeComputeKernelConfig | None = None,
    *,
    math_fidelity: MathFidelity = MathFidelity.LoFi,
    math_approx_mode: bool = True,
    fp32_dest_acc_en: bool = False,
    packer_l1_acc: bool = False,
    dst_full_sync_en: bool = False,
    throttle_level: int = 0,
) -> WormholeComputeKernelConfig:
    """`device_kernel_config` itself when given, else a config of the keywords."""
    return device_kernel_config or WormholeComputeKernelConfig(
        math_fidelity=math_fidelity,
        math_approx_mode=math_approx_mode,
        fp32_dest_acc_en=fp32_dest_acc_en,
        packer_l1_acc=packer_l1_acc,
        dst_full_sync_en=dst_full_sync_en,
        throttle_level=throttle_level,
    )


class UnaryWithParam:
    """A unary op fused into another one, with its parameters."""

    __slots__ = ("op_type", "params")

    def __init__(self, op_type: UnaryOpType, *params: float) -> None:
        self.op_type, self.params = op_type, params

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnaryWithParam) and (self.op_type, self.params) == (
            other.op_type,
            other.params,
        )

    def __hash__(self) -> int:
        return hash((self.op_type, self.params))

    def __repr__(self) -> str:
        return f"UnaryWithParam({self.op_type}, {list(self.params)})"


@dataclass(frozen=True, kw_only=True)
class _OnGrid:
    """A program config that names its grid; a pair of numbers becomes a `CoreCoord`."""

    compute_with_storage_grid_size: CoreCoord

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "compute_with_storage_grid_size", CoreCoord(self.compute_with_storage_grid_size)
        )


@dataclass(frozen=True, kw_only=True)
class MatmulMultiCoreReuseProgramConfig(_OnGrid):
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_M: int
    per_core_N: int
    allowed_worker_cores: CoreRangeSet | None = None


@dataclass(frozen=True, kw_only=True)
class MatmulMultiCoreReuseMultiCastProgramConfig(_OnGrid):
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    out_block_h: int | None = None
    out_block_w: int | None = None
    per_core_M: int
    per_core_N: int
    transpose_mcast: bool
    fused_activation: UnaryWithParam | UnaryOpType | None = None
    fuse_batch: bool = True
    allowed_worker_cores: CoreRangeSet | None = None


@dataclass(frozen=True, kw_only=True)
class MatmulMultiCoreReuseMultiCast1DProgramConfig(_OnGrid):
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    out_block_h: int | None = None
    out_block_w: int | None = None
    per_core_M: int
    per_core_N: int
    fuse_batch: bool
    fused_activation: UnaryWithParam | UnaryOpType | None = None
    mcast_in0: bool
    gather_in0: bool = False
    hop_cores: CoreRangeSet = field(default_factory=lambda: CoreRangeSet([]))
    num_global_cb_receivers: int = 1
    untilize_out: bool = False
    allowed_worker_cores: CoreRangeSet | None = None
    stream_in1: bool = False


@dataclass(frozen=True, kw_only=True)
class MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig:
    in0_block_w: int
    per_core_M: int
    per_core_N: int
    fused_activation: UnaryWithParam | UnaryOpType | None = None
    num_workers_per_dram_bank: int = 1


@dataclass(frozen=True, kw_only=True)
class SDPAProgramConfig(_OnGrid):
    sub_core_grids: CoreRangeSet | None = None
    q_chunk_size: int
    k_chunk_size: int
    exp_approx_mode: bool | None = None
    max_cores_per_head_batch: int = 16
    max_k_splits: int = 1
    matmul_math_fidelity: MathFidelity | None = None
    segmented_accumulation: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerNormDefaultProgramConfig:
    legacy_reduction: bool = False
    legacy_rsqrt: bool = False
    use_welford: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerNormShardedMultiCoreProgramConfig(_OnGrid):
    subblock_w: int
    block_h: int
    block_w: int
    inplace: bool
    legacy_reduction: bool = False
    legacy_rsqrt: bool = False
    use_welford: bool = False
