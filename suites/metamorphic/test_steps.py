"""A decode step is the next row of a longer prefill, whatever the cache holds beyond it."""

from __future__ import annotations

import pytest
import torch

from tt_llm.kv_cache import BLOCK_SIZE

LONG = 3 * BLOCK_SIZE


def test_what_the_cache_holds_beyond(generator, tt_session, decode, unchanged):
    """Later tokens that are still in the cache are not looked at."""
    tokens, at = tt_session.tokens(LONG, 1).int(), 40
    generator.prefill_forward(tokens[:, :at])
    fresh = decode(tokens[:, at : at + 1], [at], [0])
    generator.prefill_forward(tokens)
    unchanged(fresh, decode(tokens[:, at : at + 1], [at], [0]), f"a step at {at} over a cache of {LONG}")


@pytest.mark.parametrize("at", [1, BLOCK_SIZE - 1, BLOCK_SIZE, LONG - 1], ids=lambda at: f"at{at}")
def test_a_step_is_the_next_row(generator, tt_session, decode, compare, at):
    """Prefill up to a token and a step with it give that token's row of a prefill over it, within the gates."""
    tokens = tt_session.tokens(LONG, 1).int()
    whole = generator.prefill_forward(tokens[:, : at + 1])
    generator.prefill_forward(tokens[:, :at])
    compare(decode(tokens[:, at : at + 1], [at], [0]), whole, module="model", note=f"the step at {at}")


def test_generated_text_is_the_likeliest_token_each_time(generator, tt_session, unchanged):
    """What `generate` writes is the argmax of its own prefill and steps, each user's for itself."""
    count, lens = 6, [20, 33]
    tokens = tt_session.tokens(max(lens), 2).int()
    prompts = [row[:length].tolist() for row, length in zip(tokens, lens, strict=True)]
    written = torch.tensor(generator.generate(prompts, count, stop_at_eos=False))
    at = torch.tensor(lens, dtype=torch.int32)
    step = generator.prefill_forward(tokens, prompt_lens=lens).argmax(-1)
    text = [step]
    for number in range(count - 1):
        step = generator.decode_forward(step.int(), at + number).argmax(-1)
        text.append(step)
    unchanged(torch.cat(text, dim=1), written, "generated tokens")
