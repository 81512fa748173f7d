"""RMS norm: before attention, before the MLP, and the final one."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden(["attention_norm", "mlp_norm"], layer=[0, 14, -1], seq_len=[128, 1024])
@pytest.mark.tt_golden("final_norm", seq_len=[128, 1024])
def test_prefill(tt_module, golden, compare):
    """Every row comes out normed, those with massive activations too."""
    compare(tt_module(golden.inputs), golden.output)


@pytest.mark.tt_golden(
    ["attention_norm", "mlp_norm"], layer=[0, 14, -1], phase="decode", seq_len=128, batch=[1, 32]
)
@pytest.mark.tt_golden("final_norm", phase="decode", seq_len=128, batch=[1, 32])
def test_decode(tt_module, golden, compare):
    """Every user's row comes out normed from sharded L1."""
    compare(tt_module(golden.inputs), golden.output)
