"""Recorded arrays, bfloat16 tensors, and the modes that follow the device's arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.conformance.numerics import recordings
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

# For tests that hold in both: `@in_device_modes` gives a test the argument `arithmetic`.
in_device_modes = pytest.mark.parametrize("arithmetic", [Mode.DEVICE, Mode.EXACT], ids=lambda m: m.value)


def recorded(name: str) -> dict[str, torch.Tensor]:
    """Every array of a recording of the numerics suite; floats as bfloat16, which holds them exactly."""
    return {
        key: value.bfloat16() if bool((value.bfloat16() == value).all()) else value
        for key, value in recordings.arrays(name).items()
    }


def attention_vectors() -> dict[str, torch.Tensor]:
    """The arrays of data/attention.npz, bfloat16."""
    with np.load(Path(__file__).parent / "data" / "attention.npz") as stored:
        return {
            key: torch.from_numpy(stored[key].view(np.int16)).view(torch.bfloat16) for key in stored.files
        }


using = mode.using
EXACT = Mode.EXACT
