"""One decode step of the whole model, each user at its own position."""

from __future__ import annotations

import pytest


@pytest.mark.tt_golden("model", phase="decode", seq_len=128, batch=[1, 8])
def test_step_after_prefill(generator, golden, compare):
    """Prefill up to each user's position, then one step: the golden's logits there."""
    tokens, positions = golden.inputs["tokens"].int(), golden.inputs["start_pos"]
    prefilled = positions > 0  # a user at position 0 has nothing to prefill
    if prefilled.any():
        generator.prefill_forward(
            tokens[prefilled],
            page_table=generator.page_table[: len(tokens)][prefilled],
            prompt_lens=positions[prefilled].tolist(),
        )
    step = tokens.gather(1, positions.long()[:, None])
    compare(generator.decode_forward(step, positions), golden.output)
