"""Elementwise operations and reductions of the matrix unit (numerics.md, "Eltwise / reduce").

Operands are bfloat16 or float32 storage tensors; what the source registers keep of a float32 one (bfloat16, or TF32 with a
float32 Dest) is cut here. Results are Dest values in float32 or, where `dtype` asks for bfloat16, what the packer writes of
them to BFLOAT16. Exponents of 255 are ordinary numbers: nothing of the matrix unit makes a NaN.
"""

from __future__ import annotations

import ctypes
import math as _math

import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.arithmetic import accumulate, formats, fpu_rules
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.spec.types import DataType

_FACE = 16  # rows and columns of a tile's face


def add(a: Tensor, b: Tensor, *, fp32_dest: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """ELWADD: the smaller operand is rounded half away at 2**-10 of the larger, then the sum to the Dest. Broadcasts."""
    library = kernels.load()
    if library is None:
        return _as(fpu_rules.add(a, b, fp32_dest), dtype)
    call, out = _call(a, b, None, dtype)
    library.eltwise_add(ctypes.byref(call), 0, int(fp32_dest))
    return out


def subtract(a: Tensor, b: Tensor, *, fp32_dest: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """ELWSUB: `add` with b's sign turned."""
    library = kernels.load()
    if library is None:
        return _as(fpu_rules.add(a, -b, fp32_dest), dtype)
    call, out = _call(a, b, None, dtype)
    library.eltwise_add(ctypes.byref(call), 1, int(fp32_dest))
    return out


def multiply(
    a: Tensor, b: Tensor, math: Math, dest: Tensor | None = None, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """ELWMUL, a in SrcA (5 bits a phase), b in SrcB (7): each phase's product is added to the Dest and rounded there.

    `dest` is what the Dest held before (float32), zero by default. Broadcasts.
    """
    library = kernels.load()
    if library is None:
        return _as(fpu_rules.multiply(a, b, math, dest), dtype)
    call, out = _call(a, b, dest, dtype)
    library.eltwise_multiply(ctypes.byref(call), math.phases, int(math.fp32_dest))
    return out


def sfpu_multiply(
    a: Tensor, b: Tensor, *, fp32_dest: bool = False, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The SFPU's product, which `ttnn.multiply` takes by default: half to even in float32, with a bfloat16 Dest once more to
    bfloat16 (of bfloat16 operands), where 0 times anything is 0. Broadcasts."""
    if fp32_dest:
        return _as(lanes.mul(a.float(), b.float()), dtype)
    library = kernels.load()
    if library is not None:
        call, out = _call(a, b, None, dtype)
        library.eltwise_sfpu_multiply(ctypes.byref(call))
        return out
    a, b = copy(a), copy(b)
    product = lanes.round_bf16_even(lanes.mul(a, b))
    return _as(torch.where((a == 0) | (b == 0), 0.0, product), dtype)


def row_sum(x: Tensor, math: Math, scaler: float = 1.0) -> Tensor:
    """The sum over the last dimension times `scaler`, [..., H, W] -> [..., H, 1]: a matmul, x in SrcB, scalers in SrcA."""
    column = torch.full((x.shape[-1], 1), scaler).to(x.dtype)
    return accumulate.matmul(x, column, math)


def column_sum(x: Tensor, math: Math, scaler: float = 1.0) -> Tensor:
    """The sum over the last but one dimension times `scaler`, [..., H, W] -> [..., 1, W]: scalers in SrcB, x in SrcA.

    Pooling goes by faces: all phases of 16 rows, then the next 16.
    """
    side_by_side = x.movedim(-2, 0).reshape(x.shape[-2], -1)  # [H, ... * W]: columns are independent
    dest = torch.zeros(1, side_by_side.shape[1])
    for rows in side_by_side.split(_FACE):
        dest = accumulate.accumulate_into(dest, torch.full((1, len(rows)), scaler).to(x.dtype), rows, math)
    return dest.view(*x.shape[:-2], 1, x.shape[-1])


def row_max(x: Tensor) -> Tensor:
    """The largest of the last dimension, [..., W] -> [..., 1]: exact, by sign and magnitude, denormals as zero."""
    largest = copy(x.amax(-1, keepdim=True))
    if not largest.isnan().any():
        return largest
    words = copy(x).view(torch.int32)  # NaN is a number beyond Inf, of its sign
    ordered = torch.where(words < 0, words ^ 0x7FFFFFFF, words).amax(-1, keepdim=True)
    return torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)


def copy(x: Tensor) -> Tensor:
    """`copy_tile`: the value itself in Dest, denormals as zero."""
    words = x.float().contiguous().view(torch.int32)
    return torch.where(words & 0x7F800000 == 0, 0, words).view(torch.float32)


def _as(dest: Tensor, dtype: torch.dtype) -> Tensor:
    return dest if dtype is torch.float32 else formats.pack_round(dest, DataType.BFLOAT16)


class _Call(ctypes.Structure):
    """The arguments of an elementwise kernel, as in eltwise.cpp: element (r, c) of an operand is at r * row + c * column."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b", "dest", "out")),
        *((name, ctypes.c_long) for name in ("a_row", "a_column", "b_row", "b_column", "rows", "columns")),
        *((name, ctypes.c_long) for name in ("bf16_in", "bf16_out", "threads")),
        ("keep", ctypes.py_object),  # the tensors behind the pointers live as long as the call
    )


def _call(a: Tensor, b: Tensor, dest: Tensor | None, dtype: torch.dtype) -> tuple[_Call, Tensor]:
    shape = a.shape if a.shape == b.shape else torch.broadcast_tensors(a, b)[0].shape
    out = torch.empty(shape, dtype=dtype)
    columns = shape[-1] if shape else 1
    rows = out.numel() // columns if columns else 0
    if not (a.dtype is torch.bfloat16 and b.dtype is torch.bfloat16):
        a, b = a.float(), b.float()
    a, a_row, a_column = _rows(a, shape)
    b, b_row, b_column = _rows(b, shape)
    if dest is not None:
        dest = dest.float().expand(shape).contiguous()
    pointers = (a.data_ptr(), b.data_ptr(), None if dest is None else dest.data_ptr(), out.data_ptr())
    narrow = a.dtype is torch.bfloat16, dtype is torch.bfloat16
    sizes = a_row, a_column, b_row, b_column, rows, columns
    return _Call(*pointers, *sizes, *narrow, kernels.threads(), (a, b, dest)), out


def _rows(x: Tensor, shape: torch.Size) -> tuple[Tensor, int, int]:
    """x so that its element (r, c), for `shape` as rows of its last dimension, lies at r * row + c * column."""
    width = shape[-1] if shape else 1
    if x.numel() == 1:
        return x.contiguous(), 0, 0
    if x.shape == shape:
        return x.contiguous(), width, 1
    if x.numel() == width == x.shape[-1]:
        return x.contiguous(), 0, 1
    if x.shape[-1] == 1 and x.numel() == _math.prod(shape[:-1]):
        return x.contiguous(), 1, 0
    return x.expand(shape).contiguous(), width, 1
