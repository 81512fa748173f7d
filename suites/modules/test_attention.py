"""Attention with its KV cache, checked at every position."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.tt_golden("attention", layer=[0, 14, -1], seq_len=[128, 1024])
@pytest.mark.tt_golden("attention", layer=0, seq_len=128, batch=4)
def test_prefill(tt_module, golden, compare):
    """Causal attention over the prompt, and the cache holds every key and value of it."""
    compare(tt_module(golden.inputs), golden.output)
    length = golden.outputs["k"].shape[2]
    for name, rows in tt_module.cached(length).items():
        compare(rows, golden.outputs[name], module="kv_cache")


@pytest.mark.tt_golden("attention", layer=[0, 14, -1], phase="decode", seq_len=128, batch=[1, 32])
@pytest.mark.tt_golden("attention", layer=0, phase="decode", seq_len=1024, batch=1)
def test_decode(tt_module, golden, compare):
    """Each user attends to its own pages, at its own position."""
    compare(tt_module(golden.inputs), golden.output)


@pytest.mark.tt_golden("attention", layer=[0, 14], phase="decode", seq_len=128, batch=[1, 32])
def test_decode_writes_one_row(tt_module, golden, compare):
    """A decode step writes each user's key and value at its position, and nothing anywhere else."""
    positions = golden.inputs["start_pos"].long()
    length = golden.inputs["k_cache"].shape[2]
    tt_module(golden.inputs)
    for name, rows in tt_module.cached(length).items():
        written = torch.stack([user[:, at : at + 1] for user, at in zip(rows, positions, strict=True)])
        compare(written, golden.outputs[f"{name}_row"], module="kv_cache")
        others = torch.arange(length)[None, :] != positions[:, None]  # [B, length]
        before = tt_module.loaded()[name]
        changed = ((rows != before).any(dim=(1, 3)) & others).nonzero()
        assert not len(changed), (
            f"{name} cache: (user, position) {changed.tolist()} changed beside the decoded rows"
        )
