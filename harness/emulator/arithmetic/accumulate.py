"""Matmul as a Wormhole's matrix unit accumulates it: fidelity phases, Dest rounding, and partial sums between K blocks.

Dest is rounded half away from zero after every 16 k and every phase, in the order K tile, phase, K half (numerics.md, "MVMUL").
Mode EXACT has every rule, the fp32 Dest erratum (tt-metal #38306) among them. So has mode DEVICE, but for products of more than
EXACT_ROWS rows, whose form is loose: it leaves out what products lose when they are aligned within their group of 8. Of a 16-bit
Dest it has Dest's own roundings, which are coarser. Of a 32-bit Dest it has none, nor the erratum: what all phases multiply is one
float32 sum; a result in bfloat16 hardly shows that. Between blocks of K the partial sums leave Dest
(numerics.md, "Between K blocks"). The arithmetic is in kernels/ (C++), with mvmul.py (torch) where there is no compiler; there
DEVICE leaves out the alignment of all phases, whatever the Dest and the rows.
"""

from __future__ import annotations

import ctypes
import math as pymath
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.arithmetic import mode, mvmul
from harness.emulator.arithmetic.fidelity import Math, source
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.spec.types import DataType

# Rows up to which mode DEVICE has every rule in `ttnn.matmul` and `ttnn.linear`: decode steps and short prompts, where it is
# affordable. More rows, and attention of more queries, are summed loosely, at half of the cost and less.
EXACT_ROWS = 128
# K from which Dest is so large beside a group of products that what their alignment loses is lost in the roundings that follow.
_LOOSE_K = 128


@dataclass(frozen=True)
class Prepared:
    """An operand as it is in its source register."""

    values: Tensor  # bfloat16, or float32 holding TF32; any strides


@dataclass
class Erratum:
    """An error of the silicon that mode EXACT reproduces, and how many Dest values it hit in this process."""

    name: str
    hits: int = 0


FP32_DEST_ERRATUM = Erratum("tt-metal #38306: an fp32 Dest sum of exactly -2**(e-23) becomes -2**(e+4)")


def matmul(
    in0: Tensor | Prepared,
    in1: Tensor | Prepared,
    math: Math,
    blocks: Blocks | None = None,
    *,
    loose: bool = False,
) -> Tensor:
    """Dest after `in0 @ in1`, before the final pack: float32 [..., M, N].

    in0 [..., M, K] goes to SrcB and in1 [..., K, N] to SrcA, as bfloat16 or float32 with raw values; in1's batch dimensions are
    in0's, or all 1. Without `blocks` all of K is one block. With `blocks.bias` the result is the packed partial sum that a bias
    is to be added to. `loose`: a product of more than EXACT_ROWS rows, which mode DEVICE may sum loosely. A hit of the erratum is
    counted and warned of.
    """
    weight = in1 if isinstance(in1, Prepared) else prepare(in1, math)
    rows = in0.values if isinstance(in0, Prepared) else source(in0, math.fp32_dest)
    return _product(rows, weight, math, blocks, None, loose)


def prepare(in1: Tensor, math: Math) -> Prepared:
    """A weight's form for `matmul` with this `math`, to be made once; of a bfloat16 weight it is no copy."""
    return Prepared(source(in1, math.fp32_dest))


def accumulate_into(dest: Tensor, in0: Tensor, in1: Tensor | Prepared, math: Math) -> Tensor:
    """Dest after `in0 @ in1` was accumulated onto `dest` (Dest values, float32 [..., M, N]); shapes as in `matmul`."""
    weight = in1 if isinstance(in1, Prepared) else prepare(in1, math)
    return _product(source(in0, math.fp32_dest), weight, math, None, dest, loose=False)


def _product(
    in0: Tensor, weight: Prepared, math: Math, blocks: Blocks | None, dest: Tensor | None, loose: bool
) -> Tensor:
    """`matmul` of Src values, from a zero Dest or going on from `dest`."""
    *batch, m, k = in0.shape
    in1 = weight.values.reshape(-1, *weight.values.shape[-2:])
    if len(in1) not in (1, pymath.prod(batch)) or in1.shape[1] != k:
        raise ValueError(f"shapes do not fit: {list(in0.shape)} and {list(weight.values.shape)}")
    in0 = in0.reshape(1, -1, k) if len(in1) == 1 else in0.reshape(-1, m, k)
    shape = (in0.shape[0], in0.shape[1], in1.shape[2])
    onto = dest is not None
    dest = dest.float().reshape(shape).clone() if dest is not None else torch.empty(shape)
    library = kernels.load()
    if library is not None:
        exact = _exact() or not loose or k < _LOOSE_K
        hits = _in_library(library, in0.contiguous(), in1, math, blocks, dest, onto, exact)
    else:
        hits = mvmul.matmul(in0, in1, math, blocks, dest, onto, _exact())
    if hits and not FP32_DEST_ERRATUM.hits:
        message = (
            f"{hits} values struck by {FP32_DEST_ERRATUM.name}; the next ones are counted, without a warning"
        )
        warnings.warn(message, stacklevel=3)
    FP32_DEST_ERRATUM.hits += hits
    return dest.view(*batch, m, shape[2])


def _exact() -> bool:
    current = mode.current()
    if current is mode.Mode.FAST:
        raise ValueError("mode fast has no accumulation model")
    return current is mode.Mode.EXACT


class _Product(ctypes.Structure):
    """`Product` of kernels/matmul.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("in0", "in1", "dest")),
        *((name, ctypes.c_int64) for name in ("batch", "m", "k", "n")),
        ("in1_stride", ctypes.c_int64 * 3),
        ("block", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("in0_wide", "in1_wide", "phases", "fp32_dest", "exact")),
        *((name, ctypes.c_int32) for name in ("partial", "l1_acc", "partial_result", "onto_dest", "threads")),
    )


def _in_library(
    library: kernels.Library,
    in0: Tensor,
    in1: Tensor,
    math: Math,
    blocks: Blocks | None,
    dest: Tensor,
    onto: bool,
    exact: bool,
) -> int:
    batch, m, k = in0.shape
    blocks = blocks or Blocks(k, DataType.FLOAT32)
    product = _Product(
        in0=in0.data_ptr(),
        in1=in1.data_ptr(),
        dest=dest.data_ptr(),
        batch=batch,
        m=m,
        k=k,
        n=in1.shape[2],
        in1_stride=(in1.stride(0) if len(in1) > 1 else 0, in1.stride(1), in1.stride(2)),
        block=blocks.width,
        in0_wide=in0.dtype == torch.float32,
        in1_wide=in1.dtype == torch.float32,
        phases=math.phases,
        fp32_dest=math.fp32_dest,
        exact=exact,
        partial=blocks.partial.value,
        l1_acc=blocks.l1_acc,
        partial_result=blocks.bias,
        onto_dest=onto,
        threads=kernels.threads(),
    )
    library.tt_matmul.restype = ctypes.c_int64
    hits: int = library.tt_matmul(ctypes.byref(product))
    return hits
