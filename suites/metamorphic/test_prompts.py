"""A prompt's logits are those of its own tokens: not of its padding, nor of what comes after."""

from __future__ import annotations

import torch

SHORT, LONG = 100, 140  # padded to one chunk of 128, and to two


def test_padding(generator, tt_session, unchanged):
    """What stands in a batch beyond a prompt's end is not read, and more padding changes nothing."""
    tokens = tt_session.tokens(LONG, 1).int()
    prompt = generator.prefill_forward(tokens[:, :SHORT], all_logits=True)
    beside = generator.prefill_forward(tokens, prompt_lens=[SHORT], all_logits=True)
    none = torch.zeros(1, LONG - SHORT, prompt.shape[-1])  # a prompt has no logits beyond its end
    unchanged(torch.cat([prompt, none], dim=1), beside, "a prompt with other tokens after its end")
    last = generator.prefill_forward(tokens[:, :SHORT])
    unchanged(prompt[:, -1:], last, "the last token's logits alone")


def test_tokens_after(generator, tt_session, unchanged):
    """A token's logits do not change with the tokens after it, in the same chunk of the prompt or in the next."""
    tokens = tt_session.tokens(LONG, 2).int()
    longer = generator.prefill_forward(tokens[:1], all_logits=True)
    shorter = generator.prefill_forward(tokens[:1, :SHORT], all_logits=True)
    unchanged(shorter, longer[:, :SHORT], f"the first {SHORT} tokens of {LONG}")
    other = torch.cat([tokens[:1, :SHORT], tokens[1:, SHORT:]], dim=1)
    unchanged(
        longer[:, :SHORT],
        generator.prefill_forward(other, all_logits=True)[:, :SHORT],
        "a prompt that goes on otherwise",
    )
