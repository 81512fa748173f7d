"""`ttnn.rms_norm` and `ttnn.layer_norm`."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import refuse
from harness.emulator.ops.norm import norm_steps
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import same_spec
from harness.emulator.runtime.tensor import (
    Compute,
    Tensor,
    output_config,
    require_device,
    require_layout,
)
from harness.emulator.spec.geometry import round_up
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import (
    LayerNormShardedMultiCoreProgramConfig,
    WormholeComputeKernelConfig,
)
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout, MathFidelity, ShardOrientation

_FLOATS = (DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B)


@op("ttnn.rms_norm")
def rms_norm(
    input_tensor: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: Any = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * weight + bias over the last dim; dtype and layout of the input.

    Weight and bias: TILE [..., W], or ROW_MAJOR [..., W/32, 32].
    """
    return _norm(
        "ttnn.rms_norm",
        input_tensor,
        False,
        epsilon,
        weight,
        bias,
        residual_input_tensor,
        memory_config,
        program_config,
        compute_kernel_config,
    )


@op("ttnn.layer_norm")
def layer_norm(
    input_tensor: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: Any = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """(x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias over the last dim; arguments as `rms_norm`."""
    return _norm(
        "ttnn.layer_norm",
        input_tensor,
        True,
        epsilon,
        weight,
        bias,
        residual_input_tensor,
        memory_config,
        program_config,
        compute_kernel_config,
    )


def _norm(
    name: str,
    x: Tensor,
    centred: bool,
    epsilon: float,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    memory_config: MemoryConfig | None,
    program_config: Any,
    compute_kernel_config: WormholeComputeKernelConfig | None,
) -> Tensor:
    require_device(name, x)
    if centred and x.layout is Layout.ROW_MAJOR:
        refuse(name, "the emulator does not model a ROW_MAJOR input")
    if x.layout is not Layout.TILE:
        refuse(name, f"input must be in TILE layout, got {x.layout}")
    if x.dtype not in _FLOATS:
        refuse(name, f"input dtype {x.dtype} is not one of {', '.join(d.name for d in _FLOATS)}")
    if isinstance(program_config, LayerNormShardedMultiCoreProgramConfig):
        _check_sharded(name, x, program_config)
    gamma = per_column(name, "weight", weight, x) if weight is not None else None
    beta = per_column(name, "bias", bias, x) if bias is not None else None
    if weight is not None and bias is not None and weight.layout is not bias.layout:
        refuse(name, f"weight and bias must have one layout, got {weight.layout} and {bias.layout}")
    if residual is not None:
        require_device(name, residual)
        require_layout(name, Layout.TILE, residual)
        if residual.dtype not in _FLOATS:
            refuse(name, f"the emulator does not model a residual of {residual.dtype}")
        if residual.shape != x.shape:
            refuse(name, f"residual {list(residual.shape)} must have the input's shape {list(x.shape)}")
    config = _placed(output_config(x, memory_config), x)
    if mode.current() is not Mode.FAST:
        math = math_of(compute_kernel_config, centred)
        cores = _cores(x, program_config)

        def exact() -> list[torch.Tensor]:
            return [
                norm_steps.normalise(
                    torch.atleast_2d(shard),
                    torch.atleast_2d(residual.shards[index]) if residual is not None else None,
                    gamma()[index] if gamma is not None else None,
                    beta()[index] if beta is not None else None,
                    centred=centred,
                    epsilon=epsilon,
                    math=math,
                    dtype=x.dtype,
                    cores=cores,
                ).view(shard.shape)
                for index, shard in enumerate(x.shards)
            ]

        return same_spec(name, x, exact, config)

    def normalise(index: int, shard: torch.Tensor) -> torch.Tensor:
        values = shard.float()
        if residual is not None:
            values = values + residual.shards[index]
        if centred:
            values = values - values.mean(-1, keepdim=True)
        mean_square = torch.linalg.vector_norm(values, dim=-1, keepdim=True).square_().div_(values.shape[-1])
        values = values * mean_square.add_(epsilon).rsqrt_()
        if gamma is not None:
            values.mul_(gamma()[index])
        if beta is not None:
            values.add_(beta()[index])
        return packed(values, x.dtype)

    return same_spec(name, x, lambda: list(itertools.starmap(normalise, enumerate(x.shards))), config)


def math_of(config: WormholeComputeKernelConfig | None, centred: bool) -> Math:
    """Without a compute kernel config (numerics.md, "Between K blocks") only layer norm has a float32 Dest."""
    if config is None:
        return Math(MathFidelity.HiFi4, fp32_dest=centred)
    return Math(config.math_fidelity, config.fp32_dest_acc_en)


def _cores(x: Tensor, program_config: Any) -> norm_steps.Cores | None:
    """Those that share a row in the sharded kernel. Whole-height shards in several rows of cores are joined row by row."""
    spec = x.config.shard_spec
    if not isinstance(program_config, LayerNormShardedMultiCoreProgramConfig) or spec is None:
        return None
    box = spec.grid.bounding_box()
    wide, tall = box.end.x - box.start.x + 1, box.end.y - box.start.y + 1
    if spec.orientation is ShardOrientation.COL_MAJOR:
        wide, tall = tall, wide
    if x.volume() // x.shape[-1] > spec.shape[0]:
        return norm_steps.Cores(spec.shape[1], wide, wide)
    count = spec.num_cores()
    return norm_steps.Cores(spec.shape[1], count, wide if tall > 1 and wide > 1 else count)


def _placed(config: MemoryConfig, x: Tensor) -> MemoryConfig:
    return (
        config.with_shard_spec(x.config.shard_spec)
        if config.sharded and config.shard_spec is None
        else config
    )


def per_column(name: str, what: str, parameter: Tensor, x: Tensor) -> Compute:
    """Gives a weight or bias as float32 [W], cached on it."""
    require_device(name, parameter)
    if parameter.dtype not in _FLOATS:
        tiled = "the emulator does not model" if parameter.layout is Layout.TILE else "cannot take"
        refuse(name, f"{tiled} a {what} of {parameter.dtype}")
    width = x.shape[-1]
    if parameter.layout is Layout.ROW_MAJOR:
        if parameter.shape[-1] != TILE_SIZE or parameter.volume() != round_up(width):
            refuse(
                name,
                f"ROW_MAJOR {what} must be [..., {round_up(width) // TILE_SIZE}, {TILE_SIZE}] for an input of width {width}, "
                f"got {list(parameter.shape)}",
            )
    elif parameter.shape[-1] != width and round_up(parameter.shape[-1]) == round_up(width):
        refuse(
            name,
            f"the emulator does not model a {what} of width {parameter.shape[-1]} for a width of {width}",
        )
    elif parameter.shape[-1] != width:
        refuse(name, f"{what} width {parameter.shape[-1]} does not equal the input's width {width}")

    def columns() -> list[torch.Tensor]:
        if parameter.layout is Layout.ROW_MAJOR:
            return [s.reshape(-1)[:width].float() for s in parameter.shards]
        return [s.reshape(-1, width)[0].float() for s in parameter.shards]

    return lambda: parameter.derived(("columns", width), columns)


def _check_sharded(name: str, x: Tensor, program: LayerNormShardedMultiCoreProgramConfig) -> None:
    spec = x.config.shard_spec
    if spec is None:
        refuse(name, "a sharded program config needs a sharded input")
    block = [program.block_h * TILE_SIZE, program.block_w * TILE_SIZE]
    if block != spec.shape:
        refuse(
            name,
            f"block_h x block_w = {block[0]}x{block[1]} elements must equal the shard shape {spec.shape}",
        )
    if program.block_w % program.subblock_w:
        refuse(name, f"block_w ({program.block_w}) must be divisible by subblock_w ({program.subblock_w})")
