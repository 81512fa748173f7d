"""Where a user's pages lie in the cache does not matter, and nobody writes into another's."""

from __future__ import annotations

import torch

from tt_llm.kv_cache import BLOCK_SIZE, blocks_for

PROMPT = 100


def test_order_of_pages(generator, tt_session, unchanged):
    """A user whose pages are in disorder prefills and decodes the same."""
    tokens = tt_session.tokens(PROMPT + 1, 1).int()
    ordered = generator.page_table[:1]
    shuffled = ordered[:, torch.randperm(ordered.shape[1], generator=torch.Generator().manual_seed(0))]
    at = torch.tensor([PROMPT], dtype=torch.int32)
    answers = []
    for table in (ordered, shuffled):
        prefilled = generator.prefill_forward(tokens[:, :PROMPT], page_table=table)
        answers.append(torch.cat([prefilled, generator.decode_forward(tokens[:, PROMPT:], at, table)], dim=1))
    unchanged(*answers, "prompt and step with shuffled pages")


def test_pages_of_others(generator, tt_session, unchanged):
    """A prompt that is prefilled later leaves the pages of the others as they were."""
    tokens = tt_session.tokens(PROMPT, 2).int()
    mine, theirs = generator.page_table[:1], generator.page_table[1:2]
    generator.prefill_forward(tokens[:1], page_table=mine)
    before = torch.stack(generator.kv_cache.gather(0, mine, PROMPT))
    generator.prefill_forward(tokens[1:], page_table=theirs)
    unchanged(
        before, torch.stack(generator.kv_cache.gather(0, mine, PROMPT)), "cache of user 0 when user 1 comes"
    )


def test_pages_not_allocated(generator, tt_session, unchanged):
    """A table that names block 0 where a user has no page, as a server's does, does not let its padding into block 0."""
    prompt = BLOCK_SIZE + 8  # two pages; padded to four
    tokens = tt_session.tokens(prompt, 2).int()
    mine = generator.page_table[:1]
    assert int(mine[0, 0]) == 0
    generator.prefill_forward(tokens[:1], page_table=mine)
    before = torch.stack(generator.kv_cache.gather(0, mine, prompt))
    theirs = torch.zeros_like(mine)
    allocated = blocks_for(prompt)
    theirs[0, :allocated] = generator.page_table[1, :allocated]
    generator.prefill_forward(tokens[1:], page_table=theirs)
    after = torch.stack(generator.kv_cache.gather(0, mine, prompt))
    unchanged(before, after, "block 0 of user 0 when a padded prompt has no page there")
