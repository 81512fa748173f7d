"""The gated MLP."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden("mlp", layer=[0, 14, -1], seq_len=[128, 1024])
def test_prefill(tt_module, golden, compare):
    """Every row of the prompt, those that make massive activations too."""
    compare(tt_module(golden.inputs), golden.output)


@pytest.mark.tt_golden("mlp", layer=[0, 14, -1], phase="decode", seq_len=128, batch=[1, 32])
def test_decode(tt_module, golden, compare):
    """Every user's row, from DRAM-sharded weights."""
    compare(tt_module(golden.inputs), golden.output)
