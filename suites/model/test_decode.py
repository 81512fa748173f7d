"""One decode step of the whole model, each user at its own position."""

from __future__ import annotations

import pytest
import torch


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


def test_users_do_not_see_each_other(generator, tt_session):
    """A user's logits do not change, bit for bit, when others join the batch, or when it decodes in another row."""
    tokens = tt_session.tokens(length=64, count=3).int()
    generator.prefill_forward(tokens[:, :40])
    at = torch.tensor([40, 40, 40], dtype=torch.int32)
    together = generator.decode_forward(tokens[:, 40:41], at)
    alone = generator.decode_forward(tokens[:1, 40:41], at[:1])
    assert torch.equal(together[:1], alone), "user 0 changes when others join"
    idle = torch.tensor([-1, -1, 40], dtype=torch.int32)
    moved = generator.decode_forward(
        tokens[[0, 1, 0], 40:41], idle, page_table=generator.page_table[[1, 2, 0]]
    )
    assert torch.equal(moved[2:], alone), "user 0 changes when it moves to row 2"


def test_pages_may_lie_anywhere(generator, tt_session):
    """The order of a user's pages in the cache does not change its logits, bit for bit."""
    tokens = tt_session.tokens(length=128, count=1).int()
    ordered = generator.page_table[:1]
    shuffled = ordered[:, torch.randperm(ordered.shape[1], generator=torch.Generator().manual_seed(0))]
    steps = []
    for table in (ordered, shuffled):
        generator.prefill_forward(tokens[:, :100], page_table=table)
        steps.append(
            generator.decode_forward(tokens[:, 100:101], torch.tensor([100], dtype=torch.int32), table)
        )
    assert torch.equal(*steps)
