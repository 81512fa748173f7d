"""Token ids to the residual."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden("embedding", seq_len=[128, 1024])
def test_prefill(tt_module, golden, compare):
    """Every token's row is the table's, to bf16."""
    compare(tt_module(golden.inputs), golden.output)


@pytest.mark.tt_golden("embedding", phase="decode", seq_len=128, batch=[1, 32])
def test_decode(tt_module, golden, compare):
    """Every user's row is that of the user's own token."""
    compare(tt_module(golden.inputs), golden.output)
