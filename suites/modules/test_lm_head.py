"""Normed hidden state to logits."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden("lm_head", seq_len=128)
def test_prefill(tt_module, golden, compare):
    """Logits of every position."""
    compare(tt_module(golden.inputs), golden.output)


@pytest.mark.tt_golden("lm_head", phase="decode", seq_len=128, batch=[1, 32])
def test_decode(tt_module, golden, compare):
    """Logits of every user."""
    compare(tt_module(golden.inputs), golden.output)
