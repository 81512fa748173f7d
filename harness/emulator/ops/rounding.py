"""How an op's result is packed in mode `fast`: the packer's rounding without its rare cases, where that saves passes."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.spec.types import DataType

# One part in 2**23 more turns a tie of float32 against bfloat16 into something beyond the middle.
_PAST_THE_TIE = 1 + 2.0**-23


def packed(x: torch.Tensor, dtype: DataType) -> torch.Tensor:
    """`formats.pack_round`, except that zeros keep their sign, and denormals and NaN stay what they are, in BFLOAT16.

    A bfloat16 `x` packed to BFLOAT16 comes back itself; a float32 one is rounded half away from zero, in two passes.
    """
    if dtype is DataType.BFLOAT16:
        return x if x.dtype is torch.bfloat16 else x.mul(_PAST_THE_TIE).bfloat16()
    if dtype is DataType.FLOAT32:
        return x.float()
    return formats.pack_round(x, dtype)
