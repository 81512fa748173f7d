"""`ttnn.typecast` into and out of integers, by the rules of its Wormhole kernels; between floats see `formats.typecast_round`.

| into | of a float | of an integer |
|---|---|---|
| UINT16 | half away from zero, 0 to 65535, saturating; below zero 0 | saturating |
| INT32 | toward zero, saturating | its bits |
| UINT32 | toward zero, saturating; below zero 0 | its bits |
| UINT8 | toward zero, modulo 256; 0 where the magnitude is 2**31 or more | modulo 256 |

NaN counts as Inf of its sign. Out of an integer a float32 is made half to even, and of that a bfloat16 half away from zero,
which block floats are packed from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.emulator.arithmetic import formats
from harness.emulator.spec.types import DataType

INTEGERS = frozenset((DataType.UINT32, DataType.INT32, DataType.UINT16, DataType.UINT8))
_WORDS = frozenset((DataType.UINT32, DataType.INT32))
_TOP_BIT = 2**31


def typecast(x: Tensor, source: DataType, dtype: DataType) -> Tensor:
    """Storage tensor `x` of dtype `source` as one of `dtype`; at least one of the two is an integer. Any shape."""
    if source not in INTEGERS:
        return _of_float(x.float(), dtype)
    if dtype in INTEGERS:
        return _of_integer(x.long(), dtype)
    return _to_float(x, source, dtype)


def moves_bits(source: DataType, dtype: DataType) -> bool:
    """Whether a copy without a typecast kernel has a known result: between floats, and between integers of 32 bits."""
    return source is dtype or {source, dtype} <= _WORDS or not (source in INTEGERS or dtype in INTEGERS)


def _of_float(x: Tensor, dtype: DataType) -> Tensor:
    magnitude = torch.where(x.isnan(), torch.inf, x.abs()).double()
    negative = x.signbit()
    if dtype is DataType.UINT16:
        whole = torch.where(negative, 0, magnitude + 0.5).clamp(max=2**16 - 1)
    elif dtype is DataType.UINT32:
        whole = torch.where(negative, 0, magnitude).clamp(max=2**32 - 1)
    elif dtype is DataType.INT32:
        whole = torch.where(
            negative, -magnitude.floor().clamp(max=_TOP_BIT), magnitude.clamp(max=_TOP_BIT - 1)
        )
    else:
        magnitude = torch.where(magnitude < _TOP_BIT, magnitude.floor(), 0)
        whole = torch.where(negative, -magnitude, magnitude)
    return wrapped(whole.floor().long(), dtype)


def _of_integer(x: Tensor, dtype: DataType) -> Tensor:
    return wrapped(x.clamp(0, 2**16 - 1) if dtype is DataType.UINT16 else x, dtype)


def wrapped(x: Tensor, dtype: DataType) -> Tensor:
    """The low bits of an int64 tensor, in `dtype`'s storage."""
    if dtype is DataType.INT32:
        return x.to(torch.int32)  # keeps the low bits
    bits = {DataType.UINT8: 8, DataType.UINT16: 16, DataType.UINT32: 32}[dtype]
    return x.bitwise_and(2**bits - 1).to(formats.storage_dtype(dtype))


def _to_float(x: Tensor, source: DataType, dtype: DataType) -> Tensor:
    if dtype is DataType.FLOAT32:
        return x.float()
    if source is DataType.UINT32:  # the sign bit is added to the other 31, already rounded, as 2**31
        low = (x & (_TOP_BIT - 1)).float()
        value = torch.where(x >= _TOP_BIT, low + float(_TOP_BIT), low)
    else:
        value = x.float()
    return formats.typecast_round(formats.pack_round(value, DataType.BFLOAT16), dtype)
