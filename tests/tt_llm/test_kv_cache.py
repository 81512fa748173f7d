"""The paged KV cache and its page tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from tt_llm import InputError
from tt_llm.checkpoint import interleave_rope
from tt_llm.config import ModelConfig
from tt_llm.kv_cache import PagedKVCache, blocks_for, default_page_table, padded_page_table
from tt_llm.mesh import replicate
from tt_llm.tensor_parallel import TensorParallel


@pytest.mark.parametrize(("positions", "blocks"), [(1, 1), (31, 1), (32, 1), (33, 2), (1024, 32), (1025, 33)])
def test_a_block_holds_32_positions(positions: int, blocks: int) -> None:
    """blocks_for rounds up to whole blocks."""
    assert blocks_for(positions) == blocks


def test_the_default_table_gives_each_user_blocks_of_their_own() -> None:
    """Users' blocks follow one another, none is shared, none is left out."""
    table = default_page_table(3, 70)
    assert table.dtype == torch.int32
    assert table.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_padded_table_has_a_row_for_each_tile_row() -> None:
    """Rows beyond the users name block 0."""
    padded = padded_page_table(torch.tensor([[3, 1], [2, 0]]), n_blocks=4)
    assert padded.shape == (32, 2)
    assert padded.dtype == torch.int32
    assert padded[:2].tolist() == [[3, 1], [2, 0]]
    assert not padded[2:].any()


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (torch.zeros(4, dtype=torch.int32), ["[4]", "[users, blocks]"]),
        (torch.zeros(0, 4, dtype=torch.int32), ["[0, 4]", "1 to 32 users"]),
        (torch.zeros(33, 4, dtype=torch.int32), ["[33, 4]", "1 to 32 users"]),
        (torch.zeros(2, 0, dtype=torch.int32), ["[2, 0]", "at least 1 block"]),
        (torch.tensor([[0, 8]]), ["blocks 0 to 8", "0 to 7"]),
        (torch.tensor([[-1, 3]]), ["blocks -1 to 3", "0 to 7"]),
    ],
    ids=["rank", "no users", "33 users", "no blocks", "block too high", "block negative"],
)
def test_a_bad_table_is_refused(one_line: Any, table: torch.Tensor, parts: list[str]) -> None:
    """Rank, users and blocks are checked, and the message says what the cache has."""
    with pytest.raises(InputError) as caught:
        padded_page_table(table, n_blocks=8)
    message = one_line(caught.value)
    assert message.startswith("page table")
    assert all(part in message for part in parts)


@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.bfloat8_b])
def test_a_new_cache_is_zero_and_has_the_models_shape(tiny: Any, mesh_device: Any, dtype: Any) -> None:
    """Each layer has keys and values of [blocks, n_kv_heads, 32, head_dim], all zero."""
    tp = TensorParallel.of(ModelConfig.from_folder(tiny("gqa").folder), 1)
    cache = PagedKVCache(mesh_device=mesh_device, tp=tp, n_blocks=5, dtype=dtype)
    assert cache.n_blocks == 5
    assert len(cache.layers) == 2
    for pair in cache.layers:
        for pages in pair:
            assert tuple(pages.shape) == (5, 3, 32, 64)
            assert pages.dtype == dtype
            assert not ttnn.to_torch(pages).any()
    addresses = {pages.buffer_address() for pair in cache.layers for pages in pair}
    assert len(addresses) == 4


def test_gather_follows_the_page_table(tiny: Any, mesh_device: Any) -> None:
    """Position p of a user comes from row p % 32 of the block that the table names p // 32th."""
    tp = TensorParallel.of(ModelConfig.from_folder(tiny("gqa").folder), 1)
    cache = PagedKVCache(mesh_device=mesh_device, tp=tp, n_blocks=6, dtype=ttnn.bfloat16)
    keys = torch.randn(6, 3, 32, 64).bfloat16()
    values = torch.randn(6, 3, 32, 64).bfloat16()
    cache.layers[1] = (
        replicate(keys, mesh_device, ttnn.bfloat16),
        replicate(values, mesh_device, ttnn.bfloat16),
    )
    table = torch.tensor([[4, 0], [1, 5]], dtype=torch.int32)
    for expected, gathered in zip((keys, values), cache.gather(1, table, 40), strict=True):
        assert gathered.shape == (2, 3, 40, 64)
        for user, position in ((0, 0), (0, 31), (0, 32), (1, 7), (1, 39)):
            row = expected[table[user, position // 32], :, position % 32]
            assert torch.equal(gathered[user, :, position].to(row.dtype), row)


@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.bfloat8_b])
@pytest.mark.parametrize(("sources", "destinations"), [([1], [3]), ([1, 1, 4], [5, 0, 2])])
def test_blocks_are_copied_whole_in_every_layer(
    tiny: Any, mesh_device: Any, dtype: Any, sources: list[int], destinations: list[int]
) -> None:
    """A destination then holds its source's bits; no other block has changed."""
    tp = TensorParallel.of(ModelConfig.from_folder(tiny("gqa").folder), 1)
    cache = PagedKVCache(mesh_device=mesh_device, tp=tp, n_blocks=6, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    cache.layers = [
        tuple(replicate(torch.randn(6, 3, 32, 64, generator=generator), mesh_device, dtype) for _ in range(2))
        for _ in cache.layers
    ]
    expected = [ttnn.to_torch(pages).clone() for pair in cache.layers for pages in pair]
    for blocks in expected:
        blocks[destinations] = blocks[sources].clone()
    cache.copy_blocks(sources, destinations)
    for blocks, pages in zip(expected, (pages for pair in cache.layers for pages in pair), strict=True):
        assert torch.equal(ttnn.to_torch(pages), blocks)


def test_prefill_and_decode_fill_the_cache_with_keys_and_values(tiny: Any, load: Any) -> None:
    """Layer 0 holds Hugging Face's rotated keys (interleaved) and values at every position a user has reached."""
    model = tiny("gqa")
    tokens = model.prompt(41)
    generator = load(model)
    generator.prefill_forward(tokens[:, :40])
    generator.decode_forward(tokens[:, 40:], torch.tensor([40]))
    with torch.inference_mode():
        expected = model.reference(tokens, use_cache=True).past_key_values.layers[0]
    keys, values = generator.kv_cache.gather(0, generator.page_table[:1], 41)
    for mine, theirs in ((keys, interleave_rope(expected.keys, 64)), (values, expected.values)):
        assert mine.shape == theirs.shape
        for position in range(41):
            error = (mine[:, :, position] - theirs[:, :, position]).norm() / theirs[:, :, position].norm()
            assert error < 0.02
