"""A prompt's logits are those of its own tokens: not of its padding, nor of what comes after."""

from __future__ import annotations

import pytest
import torch

from harness.targets import active
from tt_llm.config import TILE
from tt_llm.generator import Generator

SHORT, LONG = 100, 140  # padded to one chunk of 128, and to two


@pytest.fixture
def lengths(generator: Generator) -> tuple[int, int]:
    """Tokens of a prompt and of one that fills a chunk more, whose common rows are summed alike; or both in one chunk.

    One chunk: ttnn's all-reduce goes over the last dimension whose tiles divide by the devices. Where that is the rows, because
    the residual's do not, the order of a row's sum hangs on how many there are (read from its kernels). More than 128 rows both:
    mode `device` sums those loosely (accumulate.EXACT_ROWS).
    """
    tp, tiles = generator.model.tp, generator.model.config.dim // TILE
    undivided = all(tiles % devices == 0 for devices in generator.mesh_device.shape) and not tp.is_2d
    if not (generator.precision.all_gather_matmul or undivided):
        return 60, SHORT
    return (200, 300) if active().mode == "device" else (SHORT, LONG)


def test_padding(generator, tt_session, unchanged):
    """What stands in a batch beyond a prompt's end is not read, and more padding changes nothing."""
    tokens = tt_session.tokens(LONG, 1).int()
    prompt = generator.prefill_forward(tokens[:, :SHORT], all_logits=True)
    beside = generator.prefill_forward(tokens, prompt_lens=[SHORT], all_logits=True)
    none = torch.zeros(1, LONG - SHORT, prompt.shape[-1])  # a prompt has no logits beyond its end
    unchanged(torch.cat([prompt, none], dim=1), beside, "a prompt with other tokens after its end")
    last = generator.prefill_forward(tokens[:, :SHORT])
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
