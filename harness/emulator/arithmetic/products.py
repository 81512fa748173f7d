"""The products of mode `fast`: operands as they are, one float32 sum, the result rounded once.

Where the CPU has units for bfloat16 they multiply, else its float32 units do, in a kernel of our own: bfloat16 numbers and their
products are exact there, so that only the order of the sum differs. A row's bits are its own, however many rows there are: what
a library sums in another order for a few rows than for many would part a prompt from its continuation. `form` makes an operand
what `multiply` wants; keep it with the operand.
"""

from __future__ import annotations

import ctypes
from enum import Enum, auto

import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.kernels import cpu


class Numbers(Enum):
    """What the operands hold, and what the result is to hold."""

    BFLOAT16 = auto()  # bfloat16, rounded to bfloat16 (half to even)
    WIDE = auto()  # bfloat16, the float32 sum
    TF32 = auto()  # TF32 in float32, the float32 sum


def form(x: Tensor, numbers: Numbers, *, weight: bool = False) -> Tensor:
    """An operand, bfloat16 or float32 of any shape, for `multiply`; may be `x` itself. Of a `weight` the kernel makes float32
    as it reads it, so that nothing twice its size is kept."""
    if x.dtype is torch.float32 or (numbers is Numbers.BFLOAT16 and cpu.capability().bf16_units):
        return x
    return x if weight and _compiled() is not None else x.float()


def multiply(a: Tensor, b: Tensor, numbers: Numbers) -> Tensor:
    """a [..., M, K] @ b [..., K, N] of two forms, with torch.matmul's rules of shapes; bfloat16 or float32 as `numbers` says."""
    if numbers is Numbers.BFLOAT16 and cpu.capability().bf16_units:
        return torch.matmul(a, b)
    if numbers is Numbers.WIDE and cpu.capability().bf16_units:
        return _on_bf16_units(a.float(), b.float())
    library = _compiled()
    if library is not None and b.dim() == 2 and a.dim() >= 1:
        return _in_library(library, a, b, narrow=numbers is Numbers.BFLOAT16)
    product = torch.matmul(a.float(), b.float())
    return product.bfloat16() if numbers is Numbers.BFLOAT16 else product


def _compiled() -> kernels.Library | None:
    """The kernels, where products go through them."""
    return None if cpu.capability().bf16_units else kernels.load()


class _Product(ctypes.Structure):
    """`FloatProduct` of kernels/product.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in0", "in1", "out")),
        *((name, ctypes.c_int64) for name in ("m", "k", "n", "k_stride", "n_stride")),
        *((name, ctypes.c_int32) for name in ("wide", "narrow", "threads")),
    )


def _in_library(library: kernels.Library, a: Tensor, b: Tensor, *, narrow: bool) -> Tensor:
    """a [..., K] @ b [K, N]."""
    k, n = b.shape
    if a.shape[-1] != k:
        raise ValueError(f"shapes do not fit: {list(a.shape)} and {list(b.shape)}")
    a = a.float().contiguous()
    out = torch.empty((*a.shape[:-1], n), dtype=torch.bfloat16 if narrow else torch.float32)
    call = _Product(
        in0=a.data_ptr(),
        in1=b.data_ptr(),
        out=out.data_ptr(),
        m=a.shape[:-1].numel(),
        k=k,
        n=n,
        k_stride=b.stride(0),
        n_stride=b.stride(1),
        wide=b.dtype is torch.float32,
        narrow=narrow,
        threads=kernels.threads(),
    )
    library.float_product(ctypes.byref(call))
    return out


def scores(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """scale * queries [B, M, D] @ keys [B, D, S], bfloat16 or its forms: the scale acts on the float32 sum, then it is rounded."""
    result = torch.baddbmm(torch.zeros(1, 1, 1, dtype=queries.dtype), queries, keys, beta=0, alpha=scale)
    return result.bfloat16()


def _on_bf16_units(a: Tensor, b: Tensor) -> Tensor:
    """Float32 operands that are exact in bfloat16, summed in float32: a fifth of the time on the float32 units."""
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        return torch.matmul(a, b)
    finally:
        settings.fp32_precision = before
