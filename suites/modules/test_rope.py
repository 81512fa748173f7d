"""Rotary position embedding of queries and keys, compared in Hugging Face's head order."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden("rope", layer=[0, 14], seq_len=[128, 1024])
def test_prefill(tt_module, golden, compare):
    """Heads are rotated by their position from 0 on."""
    rotated = tt_module.rope(golden.inputs)
    for name in ("q", "k"):
        compare(rotated[name], golden.outputs[name])


@pytest.mark.tt_golden("rope", layer=[0, 14], phase="decode", seq_len=128, batch=32)
@pytest.mark.tt_golden("rope", layer=0, phase="decode", seq_len=1024, batch=1)
def test_decode(tt_module, golden, compare):
    """Each user's heads are rotated by that user's own position."""
    rotated = tt_module.rope(golden.inputs)
    for name in ("q", "k"):
        compare(rotated[name], golden.outputs[name])
