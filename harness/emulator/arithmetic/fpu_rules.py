"""Elementwise operations of the matrix unit in torch, rule by rule (numerics.md, "Eltwise / reduce"): what `fpu` answers with
where there is no compiler, and what the compiled kernels are tested against. Results are float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.emulator.arithmetic.fidelity import Math

# Phase by phase: whether A's and B's lower slice is taken, and the exponent's share. 5 bits of A meet 7 of B.
_PHASES = ((False, False, 0), (True, False, -5), (False, True, -7), (True, True, -12))
_UNIT = 10  # fraction bits of a source significand, and of what a bfloat16 Dest is aligned to
_UNIT_FP32 = 23


def add(a: Tensor, b: Tensor, fp32_dest: bool, dest: Tensor | None = None) -> Tensor:
    """Both operands rounded half away at 2**-10 of the larger one's exponent, then the sum to the Dest, or onto `dest`."""
    sign_a, exp_a, man_a = _source(a, fp32_dest)
    sign_b, exp_b, man_b = _source(b, fp32_dest)
    top = torch.maximum(exp_a, exp_b)
    total = sign_a * _shifted(man_a, top - exp_a) + sign_b * _shifted(man_b, top - exp_b)
    if dest is not None:
        return _accumulated(dest, torch.sign(total), total.abs(), top, fp32_dest)
    return _to_dest(total, top, _UNIT, fp32_dest)


def multiply(a: Tensor, b: Tensor, math: Math, dest: Tensor | None) -> Tensor:
    """Phase after phase: the product of two slices, added to the Dest, which is rounded each time."""
    sign_a, exp_a, man_a = _source(a, math.fp32_dest)
    sign_b, exp_b, man_b = _source(b, math.fp32_dest)
    shape = torch.broadcast_shapes(a.shape, b.shape)
    result = torch.zeros(shape) if dest is None else dest.expand(shape)
    for low_a, low_b, share in _PHASES[: math.phases]:
        slice_a = man_a >> 1 & 31 if low_a else man_a >> 6
        slice_b = (man_b & 15) << 3 if low_b else man_b >> 4
        exponent = torch.where((man_a > 0) & (man_b > 0), exp_a + exp_b - 127 + share, 0)
        result = _accumulated(result, sign_a * sign_b, slice_a * slice_b, exponent, math.fp32_dest)
    return result


def _source(x: Tensor, fp32_dest: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sign (1 or -1), biased exponent and 11-bit significand (0 for zero) in a source register, int32."""
    words = x.float().contiguous().view(torch.int32) & (-0x2000 if fp32_dest else -0x10000)
    return _fields(words, _UNIT)


def _fields(words: Tensor, unit: int) -> tuple[Tensor, Tensor, Tensor]:
    exponent = words >> 23 & 255
    significand = (words & 0x7FFFFF | 0x800000) >> (23 - unit)
    return torch.where(words < 0, -1, 1).int(), exponent, torch.where(exponent == 0, 0, significand)


def _shifted(magnitude: Tensor, by: Tensor, tie: int | Tensor = 0) -> Tensor:
    """magnitude / 2**by to the nearest integer, halves up, or down where `tie` is 1."""
    by = by.clamp(0, 31)
    half = torch.where(by > 0, (1 << (by - 1).clamp(min=0)) - tie, 0)
    return torch.where(by == 31, 0, magnitude + half >> by).int()


def _accumulated(dest: Tensor, sign: Tensor, product: Tensor, exponent: Tensor, fp32_dest: bool) -> Tensor:
    """The Dest after one product (12 bits, unit 2**(exponent - 127 - 10); nothing where exponent <= 0) was added to it."""
    unit = _UNIT_FP32 if fp32_dest else _UNIT
    sign_d, exp_d, man_d = _fields(dest.contiguous().view(torch.int32), unit)
    present = exponent > 0
    top = torch.maximum(exp_d, torch.where(present, exponent, 0))
    term = torch.where(present, product << (unit - _UNIT), 0)
    # Halves of negative products go toward zero; those of a negative Dest away from it.
    moved = sign * _shifted(term, top - exponent, (sign < 0).int())
    return _to_dest(sign_d * _shifted(man_d, top - exp_d) + moved, top, unit, fp32_dest)


def _to_dest(total: Tensor, exponent: Tensor, unit: int, fp32_dest: bool) -> Tensor:
    """`total` in units of 2**(exponent - 127 - unit), rounded half away to Dest's significand; tiny ones +0."""
    if unit == _UNIT_FP32:
        total = torch.where(total == -1, -(1 << 27), total)  # the silicon bug of numerics.md, "MVMUL"
    drop = 52 - (23 if fp32_dest else 7)
    bits = total.double().view(torch.int64) + (1 << (drop - 1)) & -(1 << drop)
    scale = (exponent.long() + (1023 - 127 - unit) << 52).view(torch.float64)
    value = bits.view(torch.float64) * scale
    return torch.where(value.abs() < 2.0**-126, 0.0, value).float()
