"""Prefill of the whole model."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.tt_golden("model", seq_len=128, batch=[1, 4])
def test_logits_of_every_position(generator, golden, compare):
    """Prompts of a batch are prefilled one user at a time and give the golden's logits at every position."""
    tokens = golden.inputs["tokens"].int()
    compare(generator.prefill_forward(tokens, all_logits=True), golden.output)


@pytest.mark.tt_golden("model", seq_len=100)
def test_prompt_that_fills_no_tile(generator, golden, compare):
    """A prompt's padding to 128 tokens does not show."""
    tokens = golden.inputs["tokens"].int()
    compare(generator.prefill_forward(tokens, all_logits=True), golden.output)


@pytest.mark.tt_golden("model", seq_len=128, rows="last")
def test_last_token_alone(generator, golden, compare):
    """The cheap path, which runs the LM head on one tile row, gives the last token's logits."""
    tokens = golden.inputs["tokens"].int()
    last = generator.prefill_forward(tokens)
    compare(last, golden.output)
    every = generator.prefill_forward(tokens, all_logits=True)
    assert torch.equal(last[:, 0], every[:, -1]), "the last token's logits differ between the two paths"
