"""`ttnn.rms_norm_pre_all_gather` and `rms_norm_post_all_gather`: an RMS norm of rows that lie over several devices.

Each device sums the squares of its columns, the sums are gathered, and each scales its columns by the mean of them all.
The steps are read from the kernels of ttnn 0.81.1; nothing of them was recorded. Interleaved tensors only.
"""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import refuse
from harness.emulator.ops.norm import norm_steps
from harness.emulator.ops.norm.norm import math_of, per_column
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import (
    Tensor,
    device_of,
    output_config,
    require_device,
    require_layout,
)
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout

_INPUTS = (DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B)
_STATS = (DataType.BFLOAT16, DataType.FLOAT32)


@op("ttnn.rms_norm_pre_all_gather")
def rms_norm_pre_all_gather(
    input_tensor: Tensor,
    *,
    dtype: DataType = DataType.BFLOAT16,
    memory_config: MemoryConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    fast_and_approximate_mode: bool = False,
) -> Tensor:
    """[..., S, W] -> [..., S, 32] of `dtype`: in the first column the sum of a row's squares, zeros beside it.

    An fp32 input is squared and summed in float32 on the SFPU, unless `fast_and_approximate_mode`.
    """
    name, x = "ttnn.rms_norm_pre_all_gather", input_tensor
    _check(name, x)
    if dtype not in _STATS:
        refuse(name, f"the emulator's statistics are {_names(_STATS)}, not {dtype}")
    math = math_of(compute_kernel_config, centred=False)
    on_sfpu = x.dtype is DataType.FLOAT32 and not fast_and_approximate_mode

    def sums(shard: torch.Tensor) -> torch.Tensor:
        if mode.current() is Mode.FAST:
            total = packed(shard.float().square().sum(-1, keepdim=True), dtype)
        else:
            total = norm_steps.square_sums(shard, math, dtype, on_sfpu)
        return torch.nn.functional.pad(total, (0, TILE_SIZE - 1))

    shape = Shape((*x.shape[:-1], TILE_SIZE))
    config = output_config(x, memory_config)
    return make_tensor(
        name, lambda: [sums(shard) for shard in x.shards], shape, dtype, Layout.TILE, config, device_of(x)
    )


@op("ttnn.rms_norm_post_all_gather")
def rms_norm_post_all_gather(
    input_tensor: Tensor,
    stats: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    memory_config: MemoryConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    dtype: DataType | None = None,
) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * weight + bias over the rows of all devices; `stats` are their sums, side by side.

    stats [..., S, 32 a device]; weight and bias as in `rms_norm`, a device's columns of them. dtype defaults to the input's.
    """
    name, x = "ttnn.rms_norm_post_all_gather", input_tensor
    _check(name, x)
    _check(name, stats)
    if stats.dtype not in _STATS:
        refuse(name, f"stats must be {_names(_STATS)}, got {stats.dtype}")
    if stats.shape[-1] % TILE_SIZE or stats.padded_shape[:-1] != x.padded_shape[:-1]:
        refuse(
            name,
            f"stats {list(stats.shape)} must be the rows of the input {list(x.shape)}, {TILE_SIZE} columns a device",
        )
    gamma = per_column(name, "weight", weight, x) if weight is not None else None
    beta = per_column(name, "bias", bias, x) if bias is not None else None
    columns = x.shape[-1] * (stats.shape[-1] // TILE_SIZE)
    math, out = math_of(compute_kernel_config, centred=False), dtype or x.dtype

    def normalised(index: int) -> torch.Tensor:
        values, sums = x.shards[index], stats.shards[index]
        factor = gamma()[index] if gamma is not None else None
        offset = beta()[index] if beta is not None else None
        if mode.current() is not Mode.FAST:
            return norm_steps.normalise_by(
                values, sums, factor, offset, columns=columns, epsilon=epsilon, math=math, dtype=out
            )
        mean = sums.float().sum(-1, keepdim=True).div_(columns)
        result = values * mean.add_(epsilon).rsqrt_()
        result = result if factor is None else result.mul_(factor)
        return packed(result if offset is None else result.add_(offset), out)

    def shards() -> list[torch.Tensor]:
        return [normalised(index) for index in range(len(x.shards))]

    return make_tensor(name, shards, x.shape, out, Layout.TILE, output_config(x, memory_config), device_of(x))


def _check(name: str, x: Tensor) -> None:
    require_device(name, x)
    require_layout(name, Layout.TILE, x)
    if x.dtype not in _INPUTS:
        refuse(name, f"dtype {x.dtype} is not one of {_names(_INPUTS)}")
    if x.config.sharded:
        refuse(name, "the emulator models interleaved tensors only")


def _names(dtypes: tuple[DataType, ...]) -> str:
    return ", ".join(dtype.name for dtype in dtypes)
