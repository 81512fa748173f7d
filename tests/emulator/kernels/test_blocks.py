from __future__ import annotations

import pytest
import torch

from harness.emulator import kernels
from harness.emulator.arithmetic.formats import pack_round
from harness.emulator.spec.types import DataType
from tests.emulator.arithmetic.test_fpu import INSTRUCTION_SETS, as_bf16, library_for, random_bits, scattered


def tiny(*shape: int) -> torch.Tensor:
    """Numbers around the smallest normal ones."""
    return scattered(*shape) * 2.0**-120


def huge(*shape: int) -> torch.Tensor:
    """Numbers around the largest."""
    return scattered(*shape) * 2.0**124


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize("values", [random_bits, scattered, tiny, huge])
@pytest.mark.parametrize("dtype", [DataType.BFLOAT8_B, DataType.BFLOAT4_B, DataType.BFLOAT16])
@pytest.mark.parametrize("precise", [False, True])
def test_compiled_packing_equals_torch(march, values, dtype, precise, monkeypatch):
    """Any bits in any width, from either Dest, are packed compiled as in torch."""
    library = library_for(march)
    for width in (64, 37, 16, 5):
        for x in (values(300, width), as_bf16(values(300, width))):
            packed = []
            for chosen in (library, None):
                monkeypatch.setattr(kernels, "load", lambda chosen=chosen: chosen)
                packed.append(pack_round(x, dtype, precise=precise).view(torch.int16))
            assert torch.equal(*packed)


def test_empty_tensors_pack_to_empty_ones():
    """No rows, or rows without elements, give a tensor of the same shape."""
    for shape in ((0, 32), (3, 0)):
        assert pack_round(torch.empty(shape), DataType.BFLOAT8_B).shape == shape
