"""Instructions of the SFPU on float32 lanes, bit for bit (numerics.md, "SFPU").

Functions take and return float32 tensors whose bits are the lane registers; a number stands for a constant register.
Denormals count as zero. `mad` runs compiled where there is a compiler; its rules are spelled out here in torch.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from harness.emulator import kernels

Lanes = Tensor | float

_GUARD = 3  # bits kept below the 24 of a significand while a multiply-add aligns its terms
_GONE = 27  # a term shifted right by this much leaves no sticky bit behind
_SIGN = 0x80000000
_INF = 0x7F800000
_NAN = 0x7F800001
_MANTISSA = 0x7FFFFF


def mad(x: Lanes, y: Lanes, z: Lanes) -> Tensor:
    """SFPMAD: x * y + z, not fused: the product is cut to 3 bits below the significand, with a sticky bit.

    The sum is rounded half to even, and results below the smallest normal become +0. A NaN has the sign of the term it came
    from and keeps what the adder left in the mantissa. Tensors broadcast; at least one operand is one.
    """
    library = kernels.load()
    return _mad_in_torch(x, y, z) if library is None else _mad_compiled(library, (x, y, z))


def mul(x: Lanes, y: Lanes) -> Tensor:
    """SFPMUL: round half to even."""
    return mad(x, y, 0.0)


def add(x: Lanes, y: Lanes) -> Tensor:
    """SFPADD: round half to even."""
    return mad(x, 1.0, y)


def round_bf16(x: Tensor) -> Tensor:
    """SFP_STOCH_RND to bfloat16 without its randomness: half away from zero; zeros and denormals +0, NaN signed Inf."""
    w = words(x)
    field = w >> 23 & 255
    rounded = torch.where(field == 255, w & _SIGN | _INF, w + 0x8000 & 0xFFFF0000)
    return from_words(torch.where(field == 0, 0, rounded))


def round_bf16_even(x: Tensor) -> Tensor:
    """The integer steps kernels take to round to bfloat16 half to even: no case for zero, denormals or NaN."""
    w = x.contiguous().view(torch.int32)
    odd = (w >> 16).bitwise_and_(1)
    return odd.add_(w).add_(0x7FFF).bitwise_and_(-0x10000).view(torch.float32)


def store(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """SFPSTORE to Dest: a bfloat16 Dest truncates; denormals become zero and keep their sign."""
    w = x.contiguous().view(torch.int32)
    w = torch.where(w & _INF == 0, w & -0x80000000, w)
    return (w if fp32_dest else w & -0x10000).view(torch.float32)


def to_int16(x: Tensor) -> Tensor:
    """SFP_STOCH_RND to a sign and 15 bits: half away from zero, saturating; the values as float32."""
    sign, field, significand = _fields(x)
    shift = (150 - field).clamp(0, 26)
    # Below a shift of 9 the magnitude is beyond 15 bits, however it is rounded.
    magnitude = (significand + (1 << shift >> 1) >> shift).clamp(max=32767)
    return _signed(sign, magnitude).float()


def exponent(x: Tensor) -> Tensor:
    """The biased exponent field, int64."""
    return words(x) >> 23 & 255


def with_exponent(x: Tensor, biased: Tensor) -> Tensor:
    """SFPSETEXP: x with another exponent field (its low 8 bits)."""
    return from_words(words(x) & 0x807FFFFF | (biased & 255) << 23)


def with_sign(x: Tensor, sign_of: Tensor) -> Tensor:
    """SFPSETSGN: x with another number's sign."""
    return from_words(words(x) & 0x7FFFFFFF | words(sign_of) & _SIGN)


def negated(x: Tensor) -> Tensor:
    """x with its sign turned, zeros and NaN too."""
    return from_words(words(x) ^ _SIGN)


def words(x: Lanes) -> Tensor:
    """The lanes' bits, int64 in 0..2**32-1."""
    tensor = x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float32)
    return tensor.contiguous().view(torch.int32).long() & 0xFFFFFFFF


def from_words(w: Tensor) -> Tensor:
    """Lanes from the low 32 bits of an int64 tensor."""
    return w.int().view(torch.float32)  # the conversion keeps the low bits


def _mad_compiled(library: kernels.Library, operands: tuple[Lanes, Lanes, Lanes]) -> Tensor:
    tensors = [x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float32) for x in operands]
    shape = torch.broadcast_tensors(*tensors)[0].shape
    single = [x.numel() == 1 for x in tensors]
    tensors = [(x if one else x.expand(shape)).contiguous() for x, one in zip(tensors, single, strict=True)]
    out = torch.empty(shape)
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in (*tensors, out)]
    steps = [0 if one else 1 for one in single]
    library.sfpu_mad(*pointers, *steps, ctypes.c_long(out.numel()), kernels.threads())
    return out


def _mad_in_torch(x: Lanes, y: Lanes, z: Lanes) -> Tensor:
    sign_x, exp_x, man_x = _fields(x)
    sign_y, exp_y, man_y = _fields(y)
    sign_z, exp_z, man_z = _fields(z)
    sign_p = sign_x ^ sign_y
    exact = man_x * man_y
    exp_p = exp_x + exp_y - 127
    infinite = ((exact > 0) & (exp_p >= 255)) | (exp_x == 255) | (exp_y == 255)
    cut = 23 - _GUARD
    product = exact >> cut | (exact & (1 << cut) - 1 > 0)
    product = torch.where(exp_p + (product >> 24 + _GUARD) <= 0, 0, product)
    exp_p = exp_p.clamp(max=255)

    addend = man_z << _GUARD
    top = torch.maximum(torch.where(product > 0, exp_p, -1024), torch.where(addend > 0, exp_z, -1024))
    total = _signed(sign_p, _shifted(product, top - exp_p)) + _signed(sign_z, _shifted(addend, top - exp_z))
    ordinary = _normalised(total, top)

    nan_p = _is_nan(exp_x, man_x) | _is_nan(exp_y, man_y)
    nan_p = nan_p | ((exp_x == 255) & (man_y == 0)) | ((exp_y == 255) & (man_x == 0))
    nan_z = _is_nan(exp_z, man_z)
    inf_z = (exp_z == 255) & ~nan_z
    clash = infinite & inf_z & (sign_p != sign_z)
    w = torch.where(inf_z, sign_z << 31 | _INF, ordinary)
    w = torch.where(infinite, sign_p << 31 | _INF, w)
    sign = torch.where(nan_p | ~nan_z, sign_p, sign_z)
    w = torch.where(nan_p | nan_z | clash, sign << 31 | _NAN | ordinary & _MANTISSA, w)
    return from_words(w)


def _fields(x: Lanes) -> tuple[Tensor, Tensor, Tensor]:
    """Sign, biased exponent, 24-bit significand (0 for zeros and denormals)."""
    w = words(x)
    field = w >> 23 & 255
    return w >> 31, field, torch.where(field == 0, 0, w & _MANTISSA | 0x800000)


def _is_nan(field: Tensor, significand: Tensor) -> Tensor:
    return (field == 255) & (significand != 0x800000)


def _signed(sign: Tensor, magnitude: Tensor) -> Tensor:
    return torch.where(sign > 0, -magnitude, magnitude)


def _shifted(magnitude: Tensor, by: Tensor) -> Tensor:
    """Shifted right with a sticky bit, unless everything goes."""
    by = by.clamp(0, _GONE)
    quotient = magnitude >> by
    return torch.where(by == _GONE, 0, quotient | (quotient << by != magnitude))


def _normalised(total: Tensor, top: Tensor) -> Tensor:
    """Words of `total` (up to 29 bits, unit 2**(top - 127 - 26)), half to even; tiny +0, huge Inf."""
    w = words(total.float())  # an integer becomes a float32 by the same rounding
    sign = w & _SIGN
    biased = (w >> 23) - (sign >> 23) + top - 127 - (23 + _GUARD)
    result = torch.where(biased >= 255, sign | _INF, sign | biased << 23 | w & _MANTISSA)
    return torch.where((biased <= 0) | (total == 0), 0, result)
