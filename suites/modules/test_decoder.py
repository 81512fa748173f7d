"""One decoder layer: the residual in and out."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden("decoder", layer=[0, 14, -1], seq_len=[128, 1024])
def test_prefill(tt_module, golden, compare):
    """The residual after the layer, and its cache at every position."""
    compare(tt_module(golden.inputs), golden.output)
    length = golden.outputs["k"].shape[2]
    for name, rows in tt_module.cached(length).items():
        compare(rows, golden.outputs[name], module="kv_cache")


@pytest.mark.tt_golden("decoder", layer=[0, 14, -1], phase="decode", seq_len=128, batch=[1, 32])
def test_decode(tt_module, golden, compare):
    """The residual after the layer for every user."""
    compare(tt_module(golden.inputs), golden.output)
