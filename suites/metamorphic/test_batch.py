"""A user's answer is its own: not that of its neighbours, of its row, or of rows without a user."""

from __future__ import annotations

import torch

PROMPT = 40


def test_others_in_the_batch(generator, tt_session, decode, unchanged):
    """A user decodes the same alone, with others, and in another row beside rows without a user."""
    tokens = tt_session.tokens(PROMPT + 1, 3).int()
    generator.prefill_forward(tokens[:, :PROMPT])
    step = tokens[:, PROMPT:]
    alone = decode(step[:1], [PROMPT], [0])
    together = decode(step, [PROMPT] * 3, [0, 1, 2])
    unchanged(alone, together[:1], "user 0 when others join")
    moved = decode(step[[1, 2, 0]], [-1, -1, PROMPT], [1, 2, 0])
    unchanged(alone, moved[2:], "user 0 when it moves to row 2")


def test_users_at_other_positions(generator, tt_session, decode, unchanged):
    """Users of one step may be anywhere: none is taken to be where another is."""
    tokens = tt_session.tokens(PROMPT + 1, 3).int()
    generator.prefill_forward(tokens[:, :PROMPT])
    at = [PROMPT, 7, 33]
    step = torch.stack([tokens[user, position] for user, position in enumerate(at)])[:, None]
    together = decode(step, at, [0, 1, 2])
    for user, position in enumerate(at):
        alone = decode(step[user : user + 1], [position], [user])
        unchanged(alone, together[user : user + 1], f"user {user} at {position} beside users at {at}")


def test_prompts_in_another_order(generator, tt_session, unchanged):
    """A batch of prompts gives each the logits it has alone, whatever its place."""
    tokens = tt_session.tokens(PROMPT, 2).int()
    lens = [PROMPT, PROMPT - 9]
    alone = torch.cat(
        [
            generator.prefill_forward(tokens[user : user + 1], prompt_lens=[length])
            for user, length in enumerate(lens)
        ]
    )
    unchanged(alone, generator.prefill_forward(tokens, prompt_lens=lens), "logits of two prompts")
    other = generator.prefill_forward(tokens.flip(0), prompt_lens=lens[::-1])
    unchanged(alone.flip(0), other, "logits of two prompts in the other order")


def test_rows_without_a_user_write_nothing(generator, tt_session, decode, unchanged):
    """A step leaves the pages of a user that sits it out as they were, in the first layer and the last."""
    tokens = tt_session.tokens(PROMPT + 1, 2).int()
    generator.prefill_forward(tokens[:, :PROMPT])
    layers = [0, len(generator.kv_cache.layers) - 1]

    def pages(layer: int) -> torch.Tensor:
        return torch.stack(generator.kv_cache.gather(layer, generator.page_table[1:2], 2 * PROMPT))

    before = [pages(layer) for layer in layers]
    decode(tokens[:, PROMPT:], [PROMPT, -1], [0, 1])
    for layer, copy in zip(layers, before, strict=True):
        unchanged(copy, pages(layer), f"cache of user 1, layer {layer}, after a step without it")
