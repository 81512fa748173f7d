"""Wormhole number formats: the value each format would hold, bit for bit.

Three rounding paths lead into a tensor, and they differ for block floats (BFLOAT8_B, BFLOAT4_B):

* `host_round`: `ttnn.from_torch` on the host, half to even;
* `pack_round`: the packer behind matmul, eltwise and `paged_update_cache` (a decoded cache row): half away from zero to
  7 significant bits per element, then half away again at the block exponent;
* `typecast_round`: `ttnn.typecast`, so also a cache filled by prefill: half away once, at the block exponent.

A block is 16 consecutive elements of the last dimension (one row of a tile face) that share an exponent E. An element is a
sign and a magnitude, value = magnitude * 2**(E - 133), with 7 magnitude bits; BFLOAT4_B keeps the top 3 of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.spec.types import DataType

BLOCK = 16  # elements that share one exponent: a row of a 16x16 tile face
BLOCK_FLOATS = frozenset({DataType.BFLOAT8_B, DataType.BFLOAT4_B})

_STORAGE = {
    DataType.BFLOAT16: torch.bfloat16,
    DataType.BFLOAT8_B: torch.bfloat16,
    DataType.BFLOAT4_B: torch.bfloat16,
    DataType.FLOAT32: torch.float32,
    DataType.UINT32: torch.int64,  # torch.uint32 has no arithmetic and cannot index
    DataType.INT32: torch.int32,
    DataType.UINT16: torch.int32,  # torch.uint16 likewise
    DataType.UINT8: torch.uint8,
}
INTEGER_RANGE = {
    DataType.UINT32: (0, 2**32 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.UINT8: (0, 2**8 - 1),
}
_SMALLEST_NORMAL = 2.0**-126
_LARGEST_DENORMAL = 0x7FFFFF * 2.0**-149
# The largest magnitudes that become +0: denormals, less those that rounding to 8 bits lifts to the smallest normal.
_VANISHES = {torch.bfloat16: 0x7F * 2.0**-133, torch.float32: 0x7F7FFF * 2.0**-149}
_EXPONENT = 0x7F800000  # exponent field of a float32, which is also the bits of Inf
_TINY = 23  # below this block exponent 2**(150 - E) overflows float32, so such blocks are rounded at a larger scale
_RESCALE = 2.0**64

# Per block exponent E: the unit of a 7-bit magnitude, and its inverse.
_UNIT = torch.ldexp(torch.ones(256), torch.arange(256) - 133)
_PER_UNIT = torch.ldexp(torch.ones(256), (133 - torch.arange(256)).clamp(max=133 - _TINY))
# Round half to even becomes half away from zero on values of at most 8 significant bits once they are this much larger.
_NUDGE = 1 + 2.0**-10

_Quantize = Callable[[Tensor, Tensor, DataType], Tensor]


def storage_dtype(dtype: DataType) -> torch.dtype:
    """The cheapest torch dtype that holds every value of `dtype` exactly and can compute."""
    return _STORAGE[dtype]


def host_round(x: Tensor, dtype: DataType) -> Tensor:
    """What `ttnn.from_torch(x, dtype)` stores on the host, in `storage_dtype(dtype)`; any shape.

    Integers wrap, as in ttnn. Floats become integers by truncation. What does not fit: INT32 has -2**31 for it, UINT32 wraps
    negative integers of 32 bits; all else raises ValueError, because there ttnn's answer depends on the element's place.
    """
    if dtype in INTEGER_RANGE:
        return _to_integer(x, dtype)
    if x.dtype not in (torch.float32, torch.bfloat16):
        x = x.float()
    if dtype == DataType.FLOAT32:
        return x.float()
    if dtype in BLOCK_FLOATS:
        return _in_blocks(x.float(), dtype, _quantize_host)
    if x.dtype == torch.bfloat16:
        return x
    rounded = x.bfloat16()
    return rounded if all_finite(x) else rounded.masked_fill_(x.isnan(), torch.nan)


def pack_round(x: Tensor, dtype: DataType, *, precise: bool = False) -> Tensor:
    """What the packer writes to L1 from a float32 or bfloat16 Dest holding `x`, in `storage_dtype(dtype)`; any shape.

    Half away from zero; zeros and denormals become +0, NaN becomes Inf of its sign. Only float32 to FLOAT32 is a plain
    copy: the same object comes back. `precise` is the packer's option for block floats: float32 is cut to bfloat16 (NaN
    stays a number beyond the largest), then all is rounded once. Raises ValueError for an integer `dtype`.
    """
    if dtype in BLOCK_FLOATS:
        library = kernels.load()
        if library is not None:
            return _packed_in_blocks(library, x, dtype, precise)
        if not precise:
            return _in_blocks(_seven_bits(_nan_to_inf(x.float())), dtype, _quantize_device)
        if x.dtype == torch.float32:
            return _in_blocks(_cut(x), dtype, _quantize_beyond)
        return _in_blocks(_nan_to_inf(x.float()), dtype, _quantize_device)
    if x.dtype == torch.bfloat16 and dtype not in INTEGER_RANGE:
        return _nan_to_inf(_flush(x)).to(storage_dtype(dtype))
    if dtype == DataType.FLOAT32:
        return x
    if dtype == DataType.BFLOAT16:
        return _half_away_bf16(x)
    raise ValueError(f"cannot pack {x.dtype} to {dtype.name}: it is no float format")


def typecast_round(x: Tensor, dtype: DataType) -> Tensor:
    """What `ttnn.typecast(x, dtype)` writes, in `storage_dtype(dtype)`; any shape, float32 or bfloat16 `x`.

    It differs from `pack_round` for BFLOAT8_B only: float32 is cut to bfloat16, then all is rounded once (the packer's
    precise mode).
    """
    return pack_round(x, dtype, precise=dtype == DataType.BFLOAT8_B)


def unpack(x: Tensor, dtype: DataType, *, fp32_dest: bool) -> Tensor:
    """What the unpacker puts into a Src register from L1 holding `x` in `dtype`, as `x`'s torch dtype allows; any shape.

    bfloat16 is exact. float32 is cut to TF32 (float32 out) with a float32 Dest, else to bfloat16, denormals to zero. A block
    float is normalised with its exponent modulo 256: what would be denormal wraps around to huge values, and -0 is -Inf.
    """
    if dtype == DataType.FLOAT32:
        if fp32_dest:
            return (x.view(torch.int32) & -0x2000).view(torch.float32)
        words = _cut(x).view(torch.int32)
        return _from_high_half(torch.where(words & _EXPONENT == 0, words & -0x80000000, words))
    if dtype not in BLOCK_FLOATS:
        return x
    words = x.view(torch.int16)
    if not x.numel() or (((words - 1) & 0x7FFF).amin() >= 0x7F and words.amin() != -0x8000):
        return x  # no denormal and no -0
    denormal = ((words & 0x7F80) == 0) & (words != 0)
    words = words.int()
    mantissa = words & 0x7F
    length = torch.frexp(mantissa.float())[1]  # bits in use
    wrapped = (((length - 7) & 0xFF) << 7) | ((mantissa << (8 - length)) & 0x7F)
    wrapped = torch.where(mantissa == 0, torch.where(words < 0, 0x7F80, 0), wrapped)
    return torch.where(denormal, wrapped | (words & -0x8000), words).to(torch.int16).view(torch.bfloat16)


def l1_accumulate(stored: Tensor, x: Tensor, dtype: DataType) -> Tensor:
    """What is in L1 after the packer added a Dest holding `x` onto `stored`, both in `dtype` (BFLOAT16 or FLOAT32) after it.

    The sum is exact, then rounded half to even; denormals in and out are zero. BFLOAT16 packs `x` first.
    """
    if dtype == DataType.BFLOAT16:
        x = pack_round(x, dtype)
    total = _zero_denormals(stored.float()) + _zero_denormals(x.float())
    total = _zero_denormals(total.to(storage_dtype(dtype)))
    return total if all_finite(total) else total.masked_fill_(total.isnan(), torch.nan)


def all_finite(x: Tensor) -> bool:
    """False where `x` holds NaN or Inf, and sometimes for huge finite values too: one pass decides the common case."""
    return bool(x.sum().isfinite())


def _packed_in_blocks(library: kernels.Library, x: Tensor, dtype: DataType, precise: bool) -> Tensor:
    """`pack_round` to a block float, compiled."""
    x = (x if x.dtype is torch.bfloat16 else x.float()).contiguous()
    if not x.dim():
        return _packed_in_blocks(library, x[None], dtype, precise)[0]
    out = torch.empty(x.shape, dtype=torch.bfloat16)
    width = x.shape[-1]
    library.blocks_pack(
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_void_p(out.data_ptr()),
        ctypes.c_long(x.numel() // max(width, 1)),
        ctypes.c_long(width),
        int(x.dtype is torch.bfloat16),
        int(precise),
        int(dtype is DataType.BFLOAT4_B),
        kernels.threads(),
    )
    return out


def _in_blocks(x: Tensor, dtype: DataType, quantize: _Quantize) -> Tensor:
    """Apply `quantize(blocks [n, 16], exponents [n], dtype)` to the blocks of float32 `x`; returns bfloat16."""
    if not x.dim():
        return _in_blocks(x[None], dtype, quantize)[0]
    width = x.shape[-1]
    padded = F.pad(x, (0, -width % BLOCK)) if width % BLOCK else x
    blocks = padded.reshape(-1, BLOCK)
    if not blocks.numel():
        return x.bfloat16()
    exponents = (blocks.view(torch.int32) & _EXPONENT).amax(-1).bitwise_right_shift_(23)
    values = quantize(blocks, exponents, dtype)
    if exponents.amin() < _TINY:
        tiny = (exponents < _TINY) & (exponents > 0)
        if tiny.any():
            larger = F.hardshrink(blocks[tiny], _LARGEST_DENORMAL) * _RESCALE
            values[tiny] = quantize(larger, exponents[tiny] + 64, dtype) / _RESCALE
    return values.view(padded.shape)[..., :width]


def _quantize_host(blocks: Tensor, exponents: Tensor, dtype: DataType) -> Tensor:
    """The host packer: align to the block exponent cutting to 24 bits, then half to even."""
    bits = 7 if dtype == DataType.BFLOAT8_B else 3
    units = _per_block(_PER_UNIT, exponents)
    # The conversion to int does the cut.
    aligned = (blocks * (units * 2.0**17)).int().float()
    step = 2.0 ** (7 - bits)
    magnitudes = aligned.mul_(2.0**-17 / step).round_().clamp_(1 - 2**bits, 2**bits - 1).add_(0.0)
    values = magnitudes.mul_(_per_block(_UNIT, exponents) * step).bfloat16()
    if exponents.amax() == 255:
        _host_specials(values, blocks, bits)
    return values


def _host_specials(values: Tensor, blocks: Tensor, bits: int) -> None:
    """Write Inf and NaN, in place: they keep the top bits of their payload, rounded half to even and saturated."""
    special = ~blocks.isfinite()
    words = blocks[special].view(torch.int32)
    shift = 24 - bits
    significands = (words & 0x7FFFFF) | 0x800000
    odd = (significands >> shift) & 1
    magnitudes = ((significands + (1 << (shift - 1)) - 1 + odd) >> shift).clamp_(max=2**bits - 1)
    payload = (magnitudes << shift) & 0x7FFFFF
    values[special] = _from_high_half((words & -0x80000000) | _EXPONENT | payload)


def _quantize_device(blocks: Tensor, exponents: Tensor, dtype: DataType) -> Tensor:
    """The packer's last step: align to the block exponent, half away from zero; BFLOAT4_B then cuts off 4 bits."""
    magnitudes = (blocks * (_per_block(_PER_UNIT, exponents) * _NUDGE)).round_().clamp_(-127, 127).add_(0.0)
    unit = _per_block(_UNIT, exponents)
    if dtype == DataType.BFLOAT4_B:
        return magnitudes.div_(16).int().float().mul_(unit * 16).bfloat16()
    return magnitudes.mul_(unit).bfloat16()


def _quantize_beyond(blocks: Tensor, exponents: Tensor, dtype: DataType) -> Tensor:
    """`_quantize_device` where Inf and NaN are the numbers of one more exponent, 255."""
    values = _quantize_device(blocks, exponents, dtype)
    if exponents.amax() == 255:
        top = exponents == 255
        words = blocks[top].view(torch.int32)
        smaller = torch.where(words & _EXPONENT > 64 << 23, words - (64 << 23), 0).view(torch.float32)
        quantized = _quantize_device(smaller, exponents[top] - 64, dtype).view(torch.int16)
        values[top] = torch.where(quantized != 0, quantized + (64 << 7), 0).view(torch.bfloat16)
    return values


def _per_block(table: Tensor, exponents: Tensor) -> Tensor:
    return table.index_select(0, exponents).unsqueeze(-1)  # [n, 1]


def _seven_bits(x: Tensor) -> Tensor:
    """Float32 `x` (no NaN) rounded half away from zero to 7 significant bits."""
    return (x.view(torch.int32) + 0x10000).bitwise_and_(-0x20000).view(torch.float32)


def _half_away_bf16(x: Tensor) -> Tensor:
    """Float32 to bfloat16, half away from zero, zero and denormals to +0, NaN to Inf of its sign."""
    library = kernels.load()
    if library is not None:
        x = x.contiguous()
        out = torch.empty(x.shape, dtype=torch.bfloat16)
        pointers = ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(out.data_ptr())
        library.pack_bf16(*pointers, ctypes.c_long(x.numel()), kernels.threads())
        return out
    # With its last bit set a tie is no longer one, and lies beyond the middle: half to even rounds it away from zero.
    rounded = _flush(x).view(torch.int32).bitwise_or_(1).view(torch.float32).bfloat16()
    if all_finite(x):
        return rounded
    return torch.where(x.isfinite(), rounded, _signed_inf(x).bfloat16())


def _cut(x: Tensor) -> Tensor:
    """Float32 with all but a bfloat16's bits cleared."""
    return (x.view(torch.int32) & -0x10000).view(torch.float32)


def _zero_denormals(x: Tensor) -> Tensor:
    """Denormals of float32 or bfloat16 made zeros of their sign."""
    return torch.where(x.abs() < _SMALLEST_NORMAL, x * 0, x)


def _flush(x: Tensor) -> Tensor:
    """A copy of `x` with zeros and what would still be denormal in bfloat16 made +0."""
    return F.hardshrink(x, _VANISHES[x.dtype])


def _nan_to_inf(x: Tensor) -> Tensor:
    return x if all_finite(x) else torch.where(x.isnan(), _signed_inf(x), x)


def _signed_inf(x: Tensor) -> Tensor:
    return torch.copysign(torch.full_like(x, torch.inf), x)


def _from_high_half(words: Tensor) -> Tensor:
    """Bfloat16 from the upper 16 bits of int32 `words`."""
    return (words >> 16).to(torch.int16).view(torch.bfloat16)


def _to_integer(x: Tensor, dtype: DataType) -> Tensor:
    low, high = INTEGER_RANGE[dtype]
    if x.is_floating_point():
        x = x.double().trunc()
        if dtype == DataType.INT32:
            x = torch.where((x >= low) & (x <= high), x, float(low))
        lowest = -(2**31) if dtype == DataType.UINT32 else low
        bad = ~((x >= lowest) & (x <= high))
        if bad.any():
            raise ValueError(f"{x[bad][0].item():g} does not fit {dtype.name} ({low} to {high})")
    wide = x.long()
    if not low:
        return wide.bitwise_and(high).to(storage_dtype(dtype))
    return wide.to(torch.int32)
