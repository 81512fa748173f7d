"""RMS norm and layer norm in the steps of the device's kernels (modes device and exact).

The kernels keep their intermediate buffers in bfloat16, or in float32 with a float32 Dest; a float32 one is cut to TF32 on its
way into the matrix unit. Only the mean differs between the interleaved kernel and the sharded one, where each core sums its
own columns and one core joins the sums; its factors, as 1 / columns and 1 / cores, are cut to bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.emulator.arithmetic import formats, fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.spec.types import TILE_SIZE, DataType


@dataclass(frozen=True)
class Cores:
    """The cores that share a row: `count` in rows of `per_row`, each with `columns` of the tensor."""

    columns: int
    count: int
    per_row: int


def normalise(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    *,
    centred: bool,
    epsilon: float,
    math: Math,
    dtype: DataType,
    cores: Cores | None = None,
) -> torch.Tensor:
    """x [..., W] (+ residual of its shape), gamma and beta [W] or None -> [..., W] packed to `dtype`.

    RMS norm, or layer norm when `centred`; interleaved, or with `cores` sharded. Every tensor is a storage tensor.
    """
    buffer = _buffer(math)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return _mean(values, math, buffer) if cores is None else _mean_by_core(values, cores, math, buffer)

    if residual is not None:
        x = formats.pack_round(fpu.add(x, residual, fp32_dest=math.fp32_dest), buffer)
    if centred:
        x = formats.pack_round(fpu.subtract(x, mean(x), fp32_dest=math.fp32_dest), buffer)
    squares = formats.pack_round(fpu.multiply(x, x, math), buffer)
    return _scaled(x, mean(squares), gamma, beta, epsilon, math, dtype)


def square_sums(x: torch.Tensor, math: Math, dtype: DataType, on_sfpu: bool) -> torch.Tensor:
    """x [..., W] -> [..., 1] packed to `dtype`: a device's share of a distributed norm's sum of squares.

    `on_sfpu`: squares and sum in float32 there; in what order it adds is not known, the sum here is the exact one rounded.
    """
    if on_sfpu:
        squares = lanes.mul(x.float(), x.float())
        return formats.pack_round(squares.double().sum(-1, keepdim=True).float(), dtype)
    buffer = _buffer(math)
    return formats.pack_round(fpu.row_sum(formats.pack_round(fpu.multiply(x, x, math), buffer), math), dtype)


def normalise_by(
    x: torch.Tensor,
    sums: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    *,
    columns: int,
    epsilon: float,
    math: Math,
    dtype: DataType,
) -> torch.Tensor:
    """RMS norm of a device's part x [..., W] of rows of `columns` values, from all devices' sums of squares.

    sums [..., 32 a device], each the first column of an otherwise empty tile. The mean is one sum of them in the matrix unit
    with a factor of 1 / columns.
    """
    mean = formats.pack_round(fpu.row_sum(sums, math, _scaler(columns)), _buffer(math))
    return _scaled(x, mean, gamma, beta, epsilon, math, dtype)


def _scaled(
    x: torch.Tensor,
    mean_square: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    epsilon: float,
    math: Math,
    dtype: DataType,
) -> torch.Tensor:
    buffer = _buffer(math)
    # The reader cuts epsilon to bfloat16; sum and root share one pass through the Dest.
    raised = fpu.add(mean_square, _cut_bf16(epsilon), fp32_dest=math.fp32_dest)
    inverse = formats.pack_round(sfpu.rsqrt(raised, fp32_dest=math.fp32_dest), buffer)
    result = fpu.multiply(x, inverse, math)
    if gamma is not None:
        result = fpu.multiply(formats.pack_round(result, buffer), gamma, math)
    if beta is not None:
        result = fpu.add(formats.pack_round(result, buffer), beta, fp32_dest=math.fp32_dest)
    return formats.pack_round(result, dtype)


def _buffer(math: Math) -> DataType:
    return DataType.FLOAT32 if math.fp32_dest else DataType.BFLOAT16


def _mean(x: torch.Tensor, math: Math, buffer: DataType) -> torch.Tensor:
    """[..., W] -> [..., 1]: one sum over all of W in the Dest, times 1/W on the SFPU, whose store cuts."""
    total = fpu.row_sum(x, math)
    scaled = lanes.store(lanes.mul(total, 1.0 / x.shape[-1]), fp32_dest=math.fp32_dest)
    return formats.pack_round(scaled, buffer)


def _mean_by_core(x: torch.Tensor, cores: Cores, math: Math, buffer: DataType) -> torch.Tensor:
    """[..., W] -> [..., 1]: a mean a core; the first core of each row of cores sums its row's, the very first all of them."""
    short = cores.count * cores.columns - x.shape[-1]
    by_core = torch.nn.functional.pad(x, (0, short)).unflatten(-1, (cores.count, cores.columns))
    means = formats.pack_round(fpu.row_sum(by_core, math, _scaler(cores.columns)), buffer)[..., 0]
    if cores.per_row < cores.count:
        others = means[..., cores.per_row :]
        others = torch.nn.functional.pad(others, (0, -cores.count % cores.per_row)).unflatten(
            -1, (-1, cores.per_row)
        )
        sums = formats.pack_round(fpu.row_sum(_a_tile_each(others), math), buffer)[..., 0]
        means = torch.cat((means[..., : cores.per_row], sums), -1)
    return formats.pack_round(fpu.row_sum(_a_tile_each(means), math, _scaler(cores.count)), buffer)


def _a_tile_each(values: torch.Tensor) -> torch.Tensor:
    """[..., n] -> [..., 32 n]: as they reach the matrix unit, each the first column of an otherwise empty tile."""
    return torch.nn.functional.pad(values.unsqueeze(-1), (0, TILE_SIZE - 1)).flatten(-2)


def _scaler(count: int) -> float:
    return _cut_bf16(1.0 / count).item()


def _cut_bf16(value: float) -> torch.Tensor:
    return (torch.tensor([value]).view(torch.int32) & -0x10000).view(torch.float32)
