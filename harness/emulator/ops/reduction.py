"""Reductions: `argmax`, `sum`, `mean`, `max`, `softmax`; and `plus_one`."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

from harness.emulator import formats, fpu, mode
from harness.emulator.errors import refuse
from harness.emulator.fidelity import Math
from harness.emulator.geometry import Shape
from harness.emulator.memory_config import MemoryConfig
from harness.emulator.mode import Mode
from harness.emulator.ops import softmax_steps
from harness.emulator.ops.movement import dim_of
from harness.emulator.ops.rounding import packed
from harness.emulator.program_configs import WormholeComputeKernelConfig
from harness.emulator.registry import op
from harness.emulator.tensor import (
    Compute,
    Shards,
    Tensor,
    device_of,
    make_tensor,
    output_config,
    require_device,
    require_layout,
    same_spec,
    write,
)
from harness.emulator.types import DataType, Layout, MathFidelity

_ARGMAX_TILE = (DataType.BFLOAT16, DataType.FLOAT32)
_ARGMAX_ROWS = (*_ARGMAX_TILE, DataType.INT32, DataType.UINT32, DataType.UINT16)
_FLOATS = (DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B)
# What a reduction without a compute kernel config gets, by tt-metal's public source.
_REDUCE = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi3, fp32_dest_acc_en=True)


@op("ttnn.argmax")
def argmax(
    input_tensor: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    memory_config: MemoryConfig | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """Index of the largest element along `dim` (of all elements without one), the lowest of equals: UINT32, ROW_MAJOR."""
    name = "ttnn.argmax"
    require_device(name, input_tensor)
    x = input_tensor
    if x.layout is Layout.TILE and x.dtype not in _ARGMAX_TILE:
        refuse(name, f"a TILE input must be BFLOAT16 or FLOAT32, got {x.dtype}")
    if dim is not None:
        dim = dim_of(name, dim, len(x.shape))
    if x.layout is Layout.TILE and dim is None:
        refuse(name, "a TILE input needs dim=")
    if x.layout is Layout.ROW_MAJOR and x.dtype not in _ARGMAX_ROWS:
        refuse(
            name, f"a ROW_MAJOR input must be one of {', '.join(d.name for d in _ARGMAX_ROWS)}, got {x.dtype}"
        )
    if x.dtype not in _ARGMAX_TILE and dim not in (None, len(x.shape) - 1):
        refuse(name, f"dim {dim} of {x.dtype} {list(x.shape)}: integers are searched along the last dim only")

    def shards() -> Shards:
        return [_first_largest(s, dim, keepdim) for s in x.shards]

    shape = _reduced(x.shape, dim, keepdim)
    if output_tensor is not None:
        return _write_indices(name, output_tensor, shards, shape)
    config = output_config(x, memory_config)
    return make_tensor(name, shards, shape, DataType.UINT32, Layout.ROW_MAJOR, config, device_of(x))


@op("ttnn.plus_one")
def plus_one(
    input_tensor: Tensor, sub_core_grids: object = None, skip_negative_entries: bool = False
) -> Tensor:
    """Add one to an integer tensor in place; entries below zero stay with `skip_negative_entries`."""
    name = "ttnn.plus_one"
    require_device(name, input_tensor)
    require_layout(name, Layout.ROW_MAJOR, input_tensor)
    if input_tensor.dtype not in (DataType.INT32, DataType.UINT32):
        refuse(name, f"input must be INT32 or UINT32, got {input_tensor.dtype}")

    def add() -> None:
        for shard in input_tensor.shards:
            shard.add_((shard >= 0).to(shard.dtype) if skip_negative_entries else 1)

    return write(name, input_tensor, add)


@op("ttnn.softmax")
def softmax(
    input_tensor: Tensor,
    dim: int = -1,
    *,
    memory_config: MemoryConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    numeric_stable: bool = True,
) -> Tensor:
    """Softmax along `dim`."""
    name = "ttnn.softmax"
    require_device(name, input_tensor)
    if input_tensor.layout is Layout.ROW_MAJOR and input_tensor.dtype in _FLOATS:
        refuse(name, "the emulator does not model a ROW_MAJOR input")
    _require_tiled_float(name, input_tensor)
    dtype, axis = input_tensor.dtype, dim_of(name, dim, len(input_tensor.shape)) - len(input_tensor.shape)
    fast = mode.current() is Mode.FAST

    def shards() -> Shards:
        if fast:
            return [packed(torch.softmax(s.float(), dim), dtype) for s in input_tensor.shards]
        return [
            softmax_steps.softmax(
                torch.atleast_2d(s), axis, numeric_stable, compute_kernel_config, dtype
            ).view(s.shape)
            for s in input_tensor.shards
        ]

    return same_spec(name, input_tensor, shards, output_config(input_tensor, memory_config))


def _reduction(
    name: str, kind: str, reduce: Callable[[torch.Tensor, int, bool], torch.Tensor]
) -> Callable[..., Tensor]:
    @op(name)
    def reduction(
        input_tensor: Tensor,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        memory_config: MemoryConfig | None = None,
        compute_kernel_config: WormholeComputeKernelConfig | None = None,
        scalar: float = 1.0,
    ) -> Tensor:
        _require_tiled_float(name, input_tensor)
        x = input_tensor
        if dim is None:
            refuse(name, "the emulator models a reduction along one dim; give dim=")
        exactly = mode.current() is not Mode.FAST and kind != "extreme"
        chosen = compute_kernel_config or _REDUCE
        math = Math(chosen.math_fidelity, chosen.fp32_dest_acc_en)
        scaler = scalar / x.shape[dim] if kind == "mean" else scalar

        def shards() -> Shards:
            if not exactly:
                return [packed(reduce(s.float(), dim, keepdim) * scalar, x.dtype) for s in x.shards]
            sums = [formats.pack_round(_sum(s, dim, math, scaler), x.dtype) for s in x.shards]
            return sums if keepdim else [s.squeeze(dim) for s in sums]

        config, shape = output_config(x, memory_config), _reduced(x.shape, dim, keepdim)
        return make_tensor(name, shards, shape, x.dtype, x.layout, config, device_of(x))

    return reduction


sum_ = _reduction("ttnn.sum", "sum", lambda x, dim, keep: x.sum(dim, keep))
mean = _reduction("ttnn.mean", "mean", lambda x, dim, keep: x.mean(dim, keep))
# The pool takes the largest as it is: no rounding to model.
max_ = _reduction("ttnn.max", "extreme", lambda x, dim, keep: x.amax(dim, keep))
min_ = _reduction("ttnn.min", "extreme", lambda x, dim, keep: x.amin(dim, keep))


def _sum(x: torch.Tensor, dim: int, math: Math, scaler: float) -> torch.Tensor:
    """The scaled sum in Dest, `dim` kept: along rows a matmul, along columns pooling; another dim is made the columns'."""
    if dim % x.dim() == x.dim() - 1:
        return fpu.row_sum(x, math, scaler)
    return fpu.column_sum(x.transpose(dim, -2), math, scaler).transpose(dim, -2)


def _reduced(shape: Shape, dim: int | None, keepdim: bool) -> Shape:
    """The shape without `dim`, or with 1 there; without any where all are reduced."""
    axes = range(len(shape)) if dim is None else [dim % len(shape)]
    return Shape(1 if i in axes else size for i, size in enumerate(shape) if keepdim or i not in axes)


def _write_indices(name: str, output: Tensor, shards: Compute, shape: Shape) -> Tensor:
    require_device(name, output)
    require_layout(name, Layout.ROW_MAJOR, output)
    if output.dtype is not DataType.UINT32 or output.volume() != prod(shape):
        refuse(name, f"output_tensor is {output.dtype} {list(output.shape)}, the result UINT32 {list(shape)}")

    def copy() -> None:
        for mine, new in zip(output.shards, shards(), strict=True):
            mine.copy_(new.view(mine.shape))

    return write(name, output, copy)


def _first_largest(x: torch.Tensor, dim: int | None, keepdim: bool) -> torch.Tensor:
    # torch's CPU argmax returns the first of equal elements (tested), in int64: UINT32's storage. Bf16 is five times slower.
    return torch.argmax(x.float() if x.dtype is torch.bfloat16 else x, dim, keepdim)


def _require_tiled_float(name: str, x: Tensor) -> None:
    require_device(name, x)
    require_layout(name, Layout.TILE, x)
    if x.dtype not in _FLOATS:
        refuse(name, f"dtype {x.dtype} is not one of {', '.join(d.name for d in _FLOATS)}")
