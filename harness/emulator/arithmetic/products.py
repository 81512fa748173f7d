"""The products of mode `fast`: operands as they are, one float32 sum, the result rounded once.

Where the CPU has units for bfloat16 they multiply, else its float32 units do: bfloat16 numbers and their products are exact
there, so that only the order of the sum differs. Both are kernels of our own. A row's bits are its own, however many rows there
are, and a column's, however many columns: what a library sums in another order for a few rows than for many would part a
prompt from its continuation, and one device from several. `form` makes an operand what `multiply` wants; keep it with the
operand.
"""

from __future__ import annotations

import ctypes
import functools
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.kernels import cpu


class Numbers(Enum):
    """What the operands hold, and what the result is to hold."""

    BFLOAT16 = auto()  # bfloat16, rounded to bfloat16 (half to even)
    WIDE = auto()  # bfloat16, the float32 sum
    TF32 = auto()  # TF32 in float32, the float32 sum


@functools.cache
def on_bf16_units() -> bool:
    """Whether bfloat16 operands are multiplied as such: the CPU has the units, and the system lets a process use them."""
    library = kernels.load()
    return cpu.capability().bf16_units and library is not None and bool(library.bf16_product_allowed())


def form(x: Tensor, numbers: Numbers, *, weight: bool = False) -> Tensor:
    """An operand, bfloat16 or float32 of any shape, for `multiply`; may be `x` itself. Of a `weight` the kernel makes float32
    as it reads it, so that nothing twice its size is kept."""
    if numbers is not Numbers.TF32 and on_bf16_units():
        return x.bfloat16()
    return x if x.dtype is torch.float32 or (weight and kernels.load() is not None) else x.float()


def multiply(a: Tensor, b: Tensor, numbers: Numbers) -> Tensor:
    """a [..., M, K] @ b [..., K, N] of two forms, with torch.matmul's rules of shapes; bfloat16 or float32 as `numbers` says."""
    library = kernels.load()
    if library is not None and b.dim() == 2 and a.dim() >= 1:
        narrow = numbers is Numbers.BFLOAT16
        if numbers is not Numbers.TF32 and on_bf16_units():
            return _of_bf16(library, a, b, narrow=narrow)
        return _of_float(library, a, b, narrow=narrow)
    product = torch.matmul(a.float(), b.float())
    return product.bfloat16() if numbers is Numbers.BFLOAT16 else product


class _Product(ctypes.Structure):
    """`FloatProduct` of kernels/fast/product.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in0", "in1", "out")),
        *((name, ctypes.c_int64) for name in ("m", "k", "n", "k_stride", "n_stride")),
        *((name, ctypes.c_int32) for name in ("wide", "narrow", "threads")),
    )


class _Bf16Product(ctypes.Structure):
    """`Bf16Product` of kernels/fast/bf16_product.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in0", "in1", "out")),
        *((name, ctypes.c_int64) for name in ("m", "k", "n", "k_stride", "n_stride")),
        *((name, ctypes.c_int32) for name in ("narrow", "threads")),
    )


def _of_float(library: kernels.Library, a: Tensor, b: Tensor, *, narrow: bool) -> Tensor:
    """a [..., K] in float32 @ b [K, N] in float32 or bfloat16."""
    a, out, common = _operands(a.float(), b, narrow)
    call = _Product(**common, wide=b.dtype is torch.float32)
    library.float_product(ctypes.byref(call))
    return out


def _of_bf16(library: kernels.Library, a: Tensor, b: Tensor, *, narrow: bool) -> Tensor:
    """a [..., K] @ b [K, N], both bfloat16."""
    a, out, common = _operands(a, b, narrow)
    call = _Bf16Product(**common)
    library.bf16_product(ctypes.byref(call))
    return out


def _operands(a: Tensor, b: Tensor, narrow: bool) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`a` row by row, what the result goes to, and what both kernels are told."""
    k, n = b.shape
    if a.shape[-1] != k:
        raise ValueError(f"shapes do not fit: {list(a.shape)} and {list(b.shape)}")
    a = a.contiguous()
    out = torch.empty((*a.shape[:-1], n), dtype=torch.bfloat16 if narrow else torch.float32)
    return (
        a,
        out,
        {
            "in0": a.data_ptr(),
            "in1": b.data_ptr(),
            "out": out.data_ptr(),
            "m": a.shape[:-1].numel(),
            "k": k,
            "n": n,
            "k_stride": b.stride(0),
            "n_stride": b.stride(1),
            "narrow": narrow,
            "threads": kernels.threads(),
        },
    )
