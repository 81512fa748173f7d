"""A prompt's logits are those of its own tokens: not of its padding, nor of what comes after."""

from __future__ import annotations

import pytest
import torch

from harness.targets import active


@pytest.fixture
def lengths() -> tuple[int, int]:
    """Tokens of a prompt and of a longer one: padded to one chunk of 128 and to two, where a device's bits are the same.

    Not so in two modes of the emulator, where they share a chunk: `fast` leaves the order of a sum to the CPU's libraries, who
    choose it by the number of rows, and `device` sums more than 128 rows loosely (accumulate.EXACT_ROWS).
    """
    return (60, 100) if active().mode in ("fast", "device") else (100, 140)


def test_padding(generator, tt_session, lengths, unchanged):
    """What stands in a batch beyond a prompt's end is not read, and more padding changes nothing."""
    short, long = lengths
    tokens = tt_session.tokens(long, 1).int()
    prompt = generator.prefill_forward(tokens[:, :short], all_logits=True)
    beside = generator.prefill_forward(tokens, prompt_lens=[short], all_logits=True)
    none = torch.zeros(1, long - short, prompt.shape[-1])  # a prompt has no logits beyond its end
    unchanged(torch.cat([prompt, none], dim=1), beside, "a prompt with other tokens after its end")
    last = generator.prefill_forward(tokens[:, :short])
    unchanged(prompt[:, -1:], last, "the last token's logits alone")


def test_tokens_after(generator, tt_session, lengths, unchanged):
    """A token's logits do not change with the tokens after it, in the same chunk of the prompt or in the next."""
    short, long = lengths
    tokens = tt_session.tokens(long, 2).int()
    longer = generator.prefill_forward(tokens[:1], all_logits=True)
    shorter = generator.prefill_forward(tokens[:1, :short], all_logits=True)
    unchanged(shorter, longer[:, :short], f"the first {short} tokens of {long}")
    other = torch.cat([tokens[:1, :short], tokens[1:, short:]], dim=1)
    unchanged(
        longer[:, :short],
        generator.prefill_forward(other, all_logits=True)[:, :short],
        "a prompt that goes on otherwise",
    )
