"""Where a user's pages lie in the cache does not matter, and nobody writes into another's."""

from __future__ import annotations

import torch

from tt_llm.kv_cache import BLOCK_SIZE, blocks_for

PROMPT = 100


def held(generator, table, length) -> torch.Tensor:
    """What the first layer and the last hold of the users of a table at positions 0 to length - 1."""
    layers = dict.fromkeys([0, len(generator.kv_cache.layers) - 1])
    return torch.stack([part for layer in layers for part in generator.kv_cache.gather(layer, table, length)])


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
    before = held(generator, mine, PROMPT)
    generator.prefill_forward(tokens[1:], page_table=theirs)
    unchanged(before, held(generator, mine, PROMPT), "cache of user 0 when user 1 comes")


def test_pages_not_allocated(generator, tt_session, unchanged):
    """A table that names block 0 where a user has no page, as a server's does, does not let its padding into block 0."""
    # Mine fills its last page, so that it has no padding: else the mistake would be in what it is held against, too.
    full, prompt = 4 * BLOCK_SIZE, BLOCK_SIZE + 8  # 128 tokens; two pages, padded to four
    tokens = tt_session.tokens(full, 2).int()
    mine = generator.page_table[:1]
    assert int(mine[0, 0]) == 0
    generator.prefill_forward(tokens[:1], page_table=mine)
    before = held(generator, mine, full)
    theirs = torch.zeros_like(mine)
    allocated = blocks_for(prompt)
    theirs[0, :allocated] = generator.page_table[1, :allocated]
    generator.prefill_forward(tokens[1:, :prompt], page_table=theirs)
    unchanged(
        before, held(generator, mine, full), "cache of user 0 when a padded prompt has no page in block 0"
    )
