"""Prefill and decode against the fp32 Hugging Face model, at precision `accuracy`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tt_llm.kv_cache import PagedKVCache

MIN_PCC = 0.999
MAX_RELATIVE_ERROR = 0.05  # of a row's norm; PCC is blind to scale
NEAR_TIE = 0.1  # of a row's standard deviation: closer than this, bf16 may order the best two the other way


def pcc(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([actual, expected]).double())[0, 1])


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Row by row [.., vocab]: PCC, scale, and the same best token unless it leads by next to nothing."""
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    for mine, theirs in zip(actual.flatten(0, -2), expected.flatten(0, -2), strict=True):
        assert pcc(mine, theirs) > MIN_PCC
        assert float((mine - theirs).norm() / theirs.norm()) < MAX_RELATIVE_ERROR
        best, second = theirs.topk(2).values
        if best - second > NEAR_TIE * theirs.std():
            assert int(mine.argmax()) == int(theirs.argmax())


@pytest.mark.parametrize("length", [1, 31, 32, 33, 100, 128, 129])
def test_prefill_gives_the_logits_of_every_position(tiny: Any, load: Any, length: int) -> None:
    """With all_logits, prompts below, at and above a tile and a padding step get the logits of each position."""
    model = tiny("mha")
    tokens = model.prompt(length)
    assert_close(load(model).prefill_forward(tokens, all_logits=True), model.logits(tokens))


def test_every_kind_of_model_prefills(each_tiny: Any, load: Any) -> None:
    """Shared and own KV heads, tied and untied heads, RoPE scaling, and any vocabulary size give right logits."""
    tokens = each_tiny.prompt(100, users=2)
    assert_close(load(each_tiny).prefill_forward(tokens, all_logits=True), each_tiny.logits(tokens))


@pytest.mark.parametrize("length", [1, 32, 33, 128, 129])
def test_prefill_gives_the_last_logits_alone_by_default(tiny: Any, load: Any, length: int) -> None:
    """Without all_logits there is one row, that of the last token."""
    model = tiny("gqa")
    tokens = model.prompt(length)
    assert_close(load(model).prefill_forward(tokens), model.logits(tokens)[:, -1:])


def test_prompts_of_different_lengths_share_a_batch(tiny: Any, load: Any) -> None:
    """Each row is read to its own prompt_len: the last logits are those there, and beyond it all are zero."""
    model = tiny("gqa")
    tokens, lens = model.prompt(150, users=4), [1, 64, 150, 33]
    generator = load(model)
    last = generator.prefill_forward(tokens, prompt_lens=lens)
    every = generator.prefill_forward(tokens, prompt_lens=lens, all_logits=True)
    assert every.shape == (4, 150, 1000)
    for user, length in enumerate(lens):
        expected = model.logits(tokens[user : user + 1, :length])
        assert_close(every[user : user + 1, :length], expected)
        assert_close(last[user : user + 1], expected[:, -1:])
        assert not every[user, length:].any()


def test_decode_follows_prefill_step_by_step(each_tiny: Any, load: Any) -> None:
    """Teacher-forced decode steps after prompts of different lengths, over a block's end, give the full pass's logits."""
    tokens, lens = each_tiny.prompt(70, users=3), [5, 30, 64]
    expected = each_tiny.logits(tokens)
    generator = load(each_tiny)
    generator.prefill_forward(tokens, prompt_lens=lens)
    rows = torch.arange(3)
    for step in range(5):
        positions = torch.tensor(lens) + step
        actual = generator.decode_forward(tokens[rows, positions][:, None], positions)
        assert_close(actual, expected[rows, positions][:, None])


def test_decode_starts_from_an_empty_cache(tiny: Any, load: Any) -> None:
    """Decoding from position 0 on, without a prefill, gives what a full pass gives."""
    model = tiny("gqa")
    tokens = model.prompt(34, seed=2)
    expected = model.logits(tokens)
    generator = load(model, users=1)
    for position in range(34):
        actual = generator.decode_forward(tokens[:, position : position + 1], torch.tensor([position]))
        assert_close(actual, expected[:, position : position + 1])


def test_rows_without_a_user_give_zero_and_write_nothing(tiny: Any, load: Any) -> None:
    """Position -1 gives a row of zeros, disturbs no other row and leaves that user's cache as it was."""
    model = tiny("mha")
    tokens = model.prompt(41, users=3)
    expected = model.logits(tokens)
    generator = load(model)
    generator.prefill_forward(tokens[:, :40])
    before = generator.kv_cache.gather(0, generator.page_table, 64)
    actual = generator.decode_forward(tokens[:, 40:], torch.tensor([40, -1, 40]))
    assert not actual[1].any()
    assert_close(actual[[0, 2]], expected[[0, 2], 40:])
    for old, new in zip(before, generator.kv_cache.gather(0, generator.page_table, 64), strict=True):
        assert torch.equal(old[1], new[1])
        assert not torch.equal(old[0], new[0])


def test_a_full_batch_decodes_like_single_users(tiny: Any, load: Any) -> None:
    """With 32 users, each row's logits are that user's own."""
    model = tiny("mha")
    tokens = model.prompt(9, users=32)
    generator = load(model, users=32, max_seq_len=128)
    generator.prefill_forward(tokens[:, :8])
    actual = generator.decode_forward(tokens[:, 8:], torch.full((32,), 8))
    assert_close(actual, model.logits(tokens)[:, 8:])


def test_any_page_table_gives_the_same_answer(tiny: Any, load: Any) -> None:
    """A caller's own page table and cache, with the blocks in any order, change nothing, and only they are used."""
    model = tiny("gqa")
    tokens = model.prompt(61, users=2, seed=3)
    generator = load(model)
    tp, mesh = generator.model.tp, generator.mesh_device
    mine = PagedKVCache(mesh_device=mesh, tp=tp, n_blocks=20, dtype=generator.precision.kv_cache)
    table = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:16].reshape(2, 8).int()
    own = generator.kv_cache.gather(0, generator.page_table, 128)

    def run(**where: Any) -> tuple[torch.Tensor, torch.Tensor]:
        prefilled = generator.prefill_forward(tokens[:, :60], **where)
        return prefilled, generator.decode_forward(tokens[:, 60:], torch.tensor([60, 60]), **where)

    shuffled = run(page_table=table, kv_cache=mine)
    for before, after in zip(own, generator.kv_cache.gather(0, generator.page_table, 128), strict=True):
        assert torch.equal(before, after)
    usual = run()
    assert torch.equal(shuffled[0], usual[0])
    assert torch.equal(shuffled[1], usual[1])
    for layer in range(tp.local.n_layers):
        theirs = mine.gather(layer, table, 61)
        for a, b in zip(theirs, generator.kv_cache.gather(layer, generator.page_table[:2], 61), strict=True):
            assert torch.equal(a, b)


def test_two_users_do_not_see_each_other(tiny: Any, load: Any) -> None:
    """A user's logits are the same whatever the other rows of the batch hold."""
    model = tiny("mha")
    tokens, others = model.prompt(50, users=2, seed=4), model.prompt(50, users=2, seed=5)
    others[0] = tokens[0]
    generator = load(model)
    outputs = []
    for batch in (tokens, others):
        first = generator.prefill_forward(batch[:, :49])
        outputs.append((first[0], generator.decode_forward(batch[:, 49:], torch.tensor([49, 49]))[0]))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


@pytest.mark.parametrize("length", [2048, 2049, 2500])
def test_a_prompt_beyond_the_fold_is_right(make_tiny: Any, load: Any, length: int) -> None:
    """Prompts of more than 2,048 tokens, which matmuls compute in folds, have right logits from first to last."""
    model = make_tiny(num_hidden_layers=1, max_position_embeddings=4096, vocab_size=96)
    tokens = model.prompt(length)
    actual = load(model, users=1, max_seq_len=4096).prefill_forward(tokens, all_logits=True)
    assert_close(actual, model.logits(tokens))


def test_less_precision_gives_worse_logits(tiny: Any, load: Any) -> None:
    """The error grows from policy accuracy over performance to bfp4_mlp, in prefill and in decode."""
    model = tiny("gqa")
    tokens = model.prompt(65, users=2)
    expected = model.logits(tokens)
    errors = []
    for precision in ("accuracy", "performance", "bfp4_mlp"):
        generator = load(model, precision)
        prefilled = generator.prefill_forward(tokens[:, :64], all_logits=True)
        decoded = generator.decode_forward(tokens[:, 64:], torch.tensor([64, 64]))
        errors.append(
            (float((prefilled - expected[:, :64]).norm()), float((decoded - expected[:, 64:]).norm()))
        )
    for better, worse in itertools.pairwise(errors):
        assert worse[0] > 1.5 * better[0]
        assert worse[1] > 1.5 * better[1]
