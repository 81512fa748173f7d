"""Reductions: `argmax`, `sum`, `mean`, `max`, `min`, `softmax`; and `plus_one`. Tensors of any rank, none included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch

from harness.emulator.arithmetic import formats, fpu, mode
from harness.emulator.arithmetic.casts import wrapped
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import refuse
from harness.emulator.ops.reduction import softmax_steps
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import (
    Compute,
    Tensor,
    device_of,
    output_config,
    require_device,
    require_layout,
)
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import DataType, Layout, MathFidelity

_ARGMAX = {
    Layout.TILE: (DataType.BFLOAT16, DataType.FLOAT32),
    Layout.ROW_MAJOR: (
        DataType.BFLOAT16,
        DataType.FLOAT32,
        DataType.INT32,
        DataType.UINT32,
        DataType.UINT16,
    ),
}
_INTEGERS = (DataType.INT32, DataType.UINT32)
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
    rank = len(x.shape)
    axis = None if dim is None else _axis(name, dim, rank)
    if rank == 0:
        return make_tensor(
            name,
            lambda: [torch.zeros((), dtype=torch.int64)] * len(x.shards),
            x.shape,
            DataType.UINT32,
            x.layout,
            x.config,
            device_of(x),
        )
    if x.dtype not in _ARGMAX[x.layout]:
        names = ", ".join(d.name for d in _ARGMAX[x.layout])
        refuse(name, f"a {x.layout.name} input must be one of {names}, got {x.dtype}")
    if x.layout is Layout.TILE and dim is None:
        refuse(name, "dim must be given for an input in TILE layout")
    if x.dtype not in _ARGMAX[Layout.TILE] and axis not in (None, rank - 1):
        refuse(name, f"of {x.dtype} only the last dim is reduced, got dim {dim} of shape {list(x.shape)}")

    def shards() -> list[torch.Tensor]:
        return [_first_largest(s, dim, keepdim) for s in x.shards]

    shape = _reduced(x.shape, range(rank) if axis is None else (axis,), keepdim)
    if output_tensor is not None:
        return _write_indices(name, output_tensor, shards, shape)
    config = output_config(x, memory_config)
    return make_tensor(name, shards, shape, DataType.UINT32, Layout.ROW_MAJOR, config, device_of(x))


@op("ttnn.plus_one", kind=Kind.IN_PLACE, writes=("input_tensor",))
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
    name, x = "ttnn.softmax", input_tensor
    require_device(name, x)
    rank = len(x.shape)
    axis = _axis(name, dim, rank)
    _require_float(name, x)
    # ttnn tilizes rows for one of its kernels only: that of a tensor of four dimensions along the last.
    if x.layout is Layout.ROW_MAJOR and (rank, axis) != (4, 3) and rank:
        refuse(
            name, f"the emulator does not model ROW_MAJOR along dim {dim} of {list(x.shape)}; give it TILE"
        )
    dtype = x.dtype
    fp32_dest = compute_kernel_config is None or compute_kernel_config.fp32_dest_acc_en
    if dtype is DataType.FLOAT32 and (axis != rank - 1 or rank > 4) and not fp32_dest:
        refuse(
            name,
            f"dim {dim} of a FLOAT32 input of {rank} dimensions needs fp32_dest_acc_en in the compute kernel config",
        )
    fast = mode.current() is Mode.FAST or not rank

    def shards() -> list[torch.Tensor]:
        if fast:
            return [packed(torch.softmax(s.float(), axis), dtype) for s in x.shards]
        rows = [s if rank > 1 else s[None] for s in x.shards]
        results = [
            softmax_steps.softmax(s, axis + s.dim() - rank, numeric_stable, compute_kernel_config, dtype)
            for s in rows
        ]
        return [m.view(x.shape) for m in results]

    layout = Layout.TILE if rank else x.layout
    config = output_config(x, memory_config)
    return make_tensor(name, shards, x.shape, dtype, layout, config, device_of(x))


def _reduction(
    name: str, kind: str, reduce: Callable[[torch.Tensor, int, bool], torch.Tensor]
) -> Callable[..., Tensor]:
    """`reduce(x, axis, keepdim)` is one axis of mode `fast`; of several, each is reduced and packed after the other."""

    @op(name)
    def reduction(
        input_tensor: Tensor,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        *,
        memory_config: MemoryConfig | None = None,
        compute_kernel_config: WormholeComputeKernelConfig | None = None,
        scalar: float = 1.0,
    ) -> Tensor:
        """Along one dim, several, or all of them (None or none named); the result is scaled by `scalar`."""
        x = input_tensor
        require_device(name, x)
        axes = _axes(name, dim, len(x.shape))
        if kind == "sum" and x.dtype in (DataType.BFLOAT16, DataType.BFLOAT8_B):
            axes.sort(key=lambda axis: axis >= len(x.shape) - 2)  # ttnn adds up whole tiles first
        integer = x.dtype in _INTEGERS
        if kind == "mean" and integer:
            refuse(name, f"integer inputs are not supported, got {x.dtype}")
        if integer and scalar != 1:
            refuse(name, f"the emulator does not model scalar {scalar:g} of integers; ttnn does")
        if not integer:
            _require_float(name, x)
        exactly = mode.current() is not Mode.FAST and kind != "extreme" and not integer
        compute = compute_kernel_config or _REDUCE
        math = Math(compute.math_fidelity, compute.fp32_dest_acc_en)

        def along(s: torch.Tensor, axis: int, scaler: float) -> torch.Tensor:
            if integer:
                return wrapped(reduce(s.long(), axis, True), x.dtype)
            if not exactly:
                return packed(reduce(s.float(), axis, True) * scaler, x.dtype)
            scaler = scaler / s.shape[axis] if kind == "mean" else scaler
            return formats.pack_round(_sum(s, axis, math, scaler), x.dtype)

        def whole(s: torch.Tensor) -> torch.Tensor:
            for place, axis in enumerate(axes):
                s = along(s, axis, scalar if place == 0 else 1.0)
            return s.reshape(shape) if axes else s.clone()

        def shards() -> list[torch.Tensor]:
            return [whole(s) for s in x.shards]

        shape = _reduced(x.shape, axes, keepdim)
        config, layout = output_config(x, memory_config), _reduced_layout(x, axes, kind)
        return make_tensor(name, shards, shape, x.dtype, layout, config, device_of(x))

    return reduction


sum_ = _reduction("ttnn.sum", "sum", lambda x, dim, keep: x.sum(dim, keep))
mean = _reduction("ttnn.mean", "mean", lambda x, dim, keep: x.mean(dim, keep))
# The pool takes the largest as it is: no rounding to model.
max_ = _reduction("ttnn.max", "extreme", lambda x, dim, keep: x.amax(dim, keep))
min_ = _reduction("ttnn.min", "extreme", lambda x, dim, keep: x.amin(dim, keep))


def _sum(x: torch.Tensor, dim: int, math: Math, scaler: float) -> torch.Tensor:
    """The scaled sum in Dest, `dim` kept: along rows a matmul, along columns pooling; another dim is made the columns'."""
    if x.dim() == 1:
        return fpu.row_sum(x[None], math, scaler)[0]
    if dim == x.dim() - 1:
        return fpu.row_sum(x, math, scaler)
    return fpu.column_sum(x.transpose(dim, -2), math, scaler).transpose(dim, -2)


def _axis(name: str, dim: int, rank: int) -> int:
    """The dim counted from the front; a tensor of no dimension has 0 and -1."""
    if not isinstance(dim, int):
        raise TypeError(f"{name}: dim must be an int, got {dim!r}")
    bound = max(rank, 1)
    if not -bound <= dim < bound:
        refuse(name, f"dim {dim} is outside the range [{-bound}, {bound - 1}] of a tensor of rank {rank}")
    return dim % bound


def _axes(name: str, dim: int | Sequence[int] | None, rank: int) -> list[int]:
    """The dims to reduce, last first; none named are all."""
    dims = [] if dim is None else list(dim) if isinstance(dim, Sequence) else [dim]
    axes = sorted((_axis(name, d, rank) for d in dims), reverse=True)
    if len(set(axes)) < len(axes):
        refuse(name, f"dim {list(dims)} names a dimension twice")
    if not rank:
        return []
    return axes or list(reversed(range(rank)))


def _reduced(shape: Shape, axes: Sequence[int], keepdim: bool) -> Shape:
    """The shape without `axes`, or with 1 there."""
    return Shape(1 if i in axes else size for i, size in enumerate(shape) if keepdim or i not in axes)


def _reduced_layout(x: Tensor, axes: Sequence[int], kind: str) -> Layout:
    """Rows stay rows where ttnn has a kernel for them: sums of floats, but not over height and width at once, nor, in
    BFLOAT16, over a dimension before them."""
    rank = len(x.shape)
    if x.layout is Layout.TILE or not axes:
        return x.layout
    both = rank > 1 and set(axes) == {rank - 1, rank - 2}
    added = kind == "sum" and x.dtype is DataType.BFLOAT16 and min(axes) < rank - 2
    rows = kind in ("sum", "mean") and x.dtype not in _INTEGERS and not both and not added
    return Layout.ROW_MAJOR if rows else Layout.TILE


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


def _require_float(name: str, x: Tensor) -> None:
    if x.dtype not in _FLOATS:
        refuse(name, f"dtype {x.dtype} is not one of {', '.join(d.name for d in _FLOATS)}")
