"""Positions and pages beyond caches, in every op that takes them: refused, and named."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError, api

E = api.experimental
DECODE = api.transformer.scaled_dot_product_attention_decode
PAGED = api.transformer.paged_scaled_dot_product_attention_decode


@pytest.fixture
def ints(put):
    return lambda values: put(torch.tensor(values).int(), api.int32, api.ROW_MAJOR_LAYOUT)


@pytest.fixture
def zeros(put):
    return lambda *shape: put(torch.zeros(shape))


@pytest.fixture
def token(put, rows_on_cores):
    """A row of 3 heads for each of 2 users, all ones."""
    return put(torch.ones(1, 2, 3, 64), memory=rows_on_cores(2, 64))


NO_LIST = [[-1, 3], [1, 1.5], [1, 2**32], 5, "12", torch.tensor([1, 3])]


@pytest.mark.parametrize("positions", NO_LIST, ids=str)
def test_a_list_that_ttnn_has_no_signature_for_is_a_type_error(zeros, token, positions):
    """Negative numbers, floats, tensors: TypeError, as ttnn, naming the value."""
    for call in (
        lambda: E.paged_update_cache(zeros(2, 3, 64, 64), token, update_idxs=positions),
        lambda: DECODE(zeros(1, 2, 4, 64), *(zeros(2, 2, 64, 64) for _ in "kv"), cur_pos=positions),
    ):
        with pytest.raises(TypeError, match=r"^ttnn\..*(update_idxs|cur_pos).* must be"):
            call()


@pytest.mark.parametrize("index", [-1, 1.0, "1"])
def test_users_and_positions_that_are_no_unsigned_integers(zeros, ints, index):
    """batch_idx, update_idx and token_index alike."""
    cache, table = zeros(2, 3, 64, 64), ints([[0], [1]])
    for call in (
        lambda: E.paged_fill_cache(cache, zeros(1, 3, 64, 64), table, batch_idx=index),
        lambda: api.fill_cache(cache, zeros(1, 3, 64, 64), index),
        lambda: api.fill_cache(cache, zeros(1, 3, 32, 64), 0, update_idx=index),
        lambda: api.update_cache(cache, zeros(1, 3, 2, 64), index),
        lambda: E.rotary_embedding(zeros(1, 1, 32, 64), zeros(1, 1, 64, 64), zeros(1, 1, 64, 64), index),
    ):
        with pytest.raises(TypeError, match="must be an integer from 0"):
            call()


@pytest.mark.parametrize("position", [64, 100, -2])
def test_a_position_beyond_a_contiguous_cache_is_named(zeros, ints, token, position):
    """The position, the user and where the cache ends; a list is refused before anything runs."""
    said = f"{position} .*user 1"
    q, cache = zeros(1, 2, 4, 64), zeros(2, 2, 64, 64)
    calls = [
        lambda: DECODE(q, cache, cache, cur_pos_tensor=ints([5, position])),
        lambda: E.paged_update_cache(zeros(2, 3, 64, 64), token, update_idxs_tensor=ints([5, position])),
    ]
    if position >= 0:
        calls += [
            lambda: DECODE(q, cache, cache, cur_pos=[5, position]),
            lambda: DECODE(q, cache, cache, cur_pos=[5, position], is_causal=False),
            lambda: E.paged_update_cache(zeros(2, 3, 64, 64), token, update_idxs=[5, position]),
        ]
    for call in calls:
        with pytest.raises(DeviceError, match=said):
            call()


@pytest.mark.parametrize("page", [8, 80, -1])
def test_a_page_beyond_a_paged_cache_is_named(zeros, ints, token, page):
    """The user, the page and how many blocks there are; of pages beyond a user's position nothing is said."""
    cache, table = zeros(8, 3, 32, 64), ints([[0, 1, 77], [2, page, 77]])
    q = zeros(1, 2, 3, 64)
    said = f"user 1 names block {page}, .* 8 blocks"
    calls = [
        lambda: PAGED(q, cache, cache, table, cur_pos_tensor=ints([5, 40])),
        lambda: E.paged_update_cache(cache, token, update_idxs_tensor=ints([5, 40]), page_table=table),
    ]
    if page >= 0:  # -1 skips a block of paged_fill_cache
        calls.append(lambda: E.paged_fill_cache(cache, zeros(1, 3, 64, 64), table, batch_idx=1))
    for call in calls:
        with pytest.raises(DeviceError, match=said):
            call()
    PAGED(q, cache, cache, table, cur_pos_tensor=ints([5, 31]))
    E.paged_update_cache(cache, token, update_idxs_tensor=ints([5, -1]), page_table=table)


def test_decode_without_causality_looks_at_every_page(zeros, ints):
    """No position limits what is read."""
    cache, q = zeros(8, 2, 32, 64), zeros(1, 2, 4, 64)
    with pytest.raises(DeviceError, match="user 0 names block 9"):
        PAGED(q, cache, cache, ints([[0, 9], [2, 3]]), is_causal=False)


def test_a_shared_cache_takes_every_users_row(put, zeros, ints, token):
    """share_cache: [1, nkv, S, D], written by all; else the cache has as many users as the input."""
    cache = zeros(1, 3, 64, 64)
    E.paged_update_cache(cache, token, update_idxs=[1, 40], share_cache=True)
    written = api.to_torch(cache)[0, :, :, 0].bool().all(0).nonzero()[:, 0].tolist()
    assert written == [1, 40]
    for wrong, options in ((1, {}), (2, {"share_cache": True}), (4, {})):
        with pytest.raises(DeviceError, match="it must be"):
            E.paged_update_cache(zeros(wrong, 3, 64, 64), token, update_idxs=[1, 40], **options)
    with pytest.raises(DeviceError, match="either update_idxs or update_idxs_tensor"):
        E.paged_update_cache(zeros(2, 3, 64, 64), token, update_idxs=[1, 2], update_idxs_tensor=ints([1, 2]))


def test_a_fill_writes_whole_tiles(put, zeros, ints):
    """Rows up to the end of the last tile become zero, those after it stay; several users in one call."""
    cache = put(torch.ones(4, 1, 64, 32))
    E.paged_fill_cache(
        cache, put(2 * torch.ones(2, 1, 40, 32)), ints([[3], [1]]), batch_idx_tensor=ints([1, 0])
    )
    seen = api.to_torch(cache)[:, 0, :, 0]
    assert seen[[1, 3], :40].eq(2).all()
    assert seen[[1, 3], 40:].eq(0).all()
    assert seen[[0, 2]].eq(1).all()
    E.paged_fill_cache(cache, put(3 * torch.ones(1, 1, 8, 32)), ints([[3], [1]]))
    assert api.to_torch(cache)[3, 0, ::8, 0].tolist() == [3, 0, 0, 0, 2, 0, 0, 0]


def test_contiguous_caches_are_filled_and_updated(put, rows_on_cores):
    """A user's prompt from a tile on, and one row of every user; the row of a bfloat8_b cache is packed as the packer does."""
    cache, new = put(torch.ones(2, 3, 64, 64)), torch.randn(1, 3, 20, 64).bfloat16()
    api.fill_cache(cache, put(new), 1, update_idx=32)
    seen = api.to_torch(cache)
    assert torch.equal(seen[1:, :, 32:52], new)
    assert seen[1, :, 52:].eq(0).all()
    assert seen[0].eq(1).all()
    assert seen[1, :, :32].eq(1).all()
    rows = torch.randn(1, 3, 4, 64).bfloat16()
    api.kv_cache.update_cache_for_token_(cache, put(rows), 7, 2)
    assert torch.equal(api.to_torch(cache)[:, :, 7], rows[0, :, 2:].transpose(0, 1))
    coarse, paged = (put(torch.zeros(2, 3, 64, 64), api.bfloat8_b) for _ in range(2))
    api.update_cache(coarse, put(rows[:, :, :2].contiguous()), 7)
    on_cores = put(rows[:, :, :2].transpose(1, 2).contiguous(), memory=rows_on_cores(2, 64))
    E.paged_update_cache(paged, on_cores, update_idxs=[7, 7])
    assert torch.equal(api.to_torch(coarse), api.to_torch(paged))
    for call, said in (
        (lambda: api.fill_cache(cache, put(new), 2), "2 lies beyond the cache's 2 users"),
        (lambda: api.fill_cache(cache, put(new), 1, update_idx=5), "multiple of 32"),
        (lambda: api.fill_cache(cache, put(torch.zeros(1, 3, 65, 64)), 1), "beyond the cache's 64 positions"),
        (lambda: api.update_cache(cache, put(rows), 64), "64 lies beyond the cache's 64 positions"),
        (lambda: api.update_cache(cache, put(rows), 1, batch_offset=3), "beyond the input's 4 rows"),
    ):
        with pytest.raises(DeviceError, match=said):
            call()


def test_two_caches_are_updated_at_once(put, ints, rows_on_cores):
    """paged_fused_update_cache is paged_update_cache twice; inputs on the same cores are refused."""
    apart = api.create_sharded_memory_config(
        (32, 64),
        api.CoreRangeSet([api.CoreRange(api.CoreCoord(2, 0), api.CoreCoord(3, 0))]),
        api.ShardStrategy.HEIGHT,
        use_height_and_width_as_shard_shape=True,
    )
    k, v = torch.randn(1, 2, 1, 64).bfloat16(), torch.randn(1, 2, 1, 64).bfloat16()
    table, at = ints([[0, 1], [2, 3]]), ints([3, 40])
    caches = [put(torch.zeros(4, 1, 32, 64)) for _ in range(4)]
    options = {"update_idxs_tensor": at, "page_table": table}
    E.paged_fused_update_cache(
        caches[0], put(k, memory=rows_on_cores(2, 64)), caches[1], put(v, memory=apart), **options
    )
    for cache, rows in ((caches[2], k), (caches[3], v)):
        E.paged_update_cache(cache, put(rows, memory=apart), **options)
    assert torch.equal(api.to_torch(caches[0]), api.to_torch(caches[2]))
    assert torch.equal(api.to_torch(caches[1]), api.to_torch(caches[3]))
    with pytest.raises(DeviceError, match="must not overlap"):
        E.paged_fused_update_cache(
            caches[0], put(k, memory=apart), caches[1], put(v, memory=apart), **options
        )
