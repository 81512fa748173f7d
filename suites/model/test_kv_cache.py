"""What the whole model leaves in its KV cache, at every position."""

from __future__ import annotations

import pytest
import torch

from tt_llm.checkpoint import split_rope_halves

DECODED = 16  # of the positions, the last ones


def compare_cache(generator, golden, compare, layer: int) -> None:
    users, _, length, head_dim = golden.outputs["k"].shape
    k, v = generator.kv_cache.gather(layer, generator.page_table[:users], length)
    rotary_dim = generator.model.config.rotary_dim
    compare(split_rope_halves(k, head_dim, rotary_dim), golden.outputs["k"], module="kv_cache")
    compare(v, golden.outputs["v"], module="kv_cache")


@pytest.mark.tt_golden("decoder", layer=[0, 14, -1], seq_len=512)
def test_after_prefill(generator, tt_session, golden, golden_spec, compare):
    """Keys and values of a prompt, with the error of all layers before."""
    generator.prefill_forward(tt_session.tokens(golden_spec.seq_len, golden_spec.batch).int())
    compare_cache(generator, golden, compare, golden_spec.layer)


@pytest.mark.tt_golden("decoder", layer=-1, seq_len=128, batch=4)
def test_after_decode(generator, tt_session, golden, golden_spec, compare):
    """Keys and values of a prompt continued by decode steps, both parts of the cache."""
    tokens = tt_session.tokens(golden_spec.seq_len, golden_spec.batch).int()
    prefilled = golden_spec.seq_len - DECODED
    generator.prefill_forward(tokens[:, :prefilled])
    for at in range(prefilled, golden_spec.seq_len):
        generator.decode_forward(
            tokens[:, at : at + 1], torch.full((golden_spec.batch,), at, dtype=torch.int32)
        )
    compare_cache(generator, golden, compare, golden_spec.layer)
