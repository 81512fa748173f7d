from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode

NQ, NKV, HD, BLOCK = 9, 3, 64, 32
# Relative L2 of N(0, 1) data. Fast has bf16 scores, weights and results, the others the approximate exponential too.
TOLERANCE = {mode.Mode.FAST: 0.02, mode.Mode.DEVICE: 0.04, mode.Mode.EXACT: 0.04}


@pytest.fixture(autouse=True, params=list(mode.Mode), ids=lambda m: m.value)
def arithmetic(request):
    """Everything here holds in every mode."""
    with mode.using(request.param):
        yield


def bf16(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).bfloat16()


def reference(q, k, v, **options):
    """float32 attention with the KV heads spelled out."""
    group = q.shape[1] // k.shape[1]
    k, v = (t.float().repeat_interleave(group, 1) for t in (k, v))
    return F.scaled_dot_product_attention(q.float(), k, v, **options)


def close(actual, expected):
    error = float((actual.float() - expected.float()).norm() / expected.float().norm())
    return error < TOLERANCE[mode.current()]


@pytest.mark.parametrize("rows", [32, 96, 160, 384])
@pytest.mark.parametrize("batch", [1, 2])
def test_prefill_attention_is_causal_and_grouped(ttnn, put, rows, batch):
    """Causal grouped-query attention equals torch's float32, at lengths that fill chunks and that do not."""
    q, k, v = bf16(batch, NQ, rows, HD), bf16(batch, NKV, rows, HD), bf16(batch, NKV, rows, HD)
    out = ttnn.transformer.scaled_dot_product_attention(put(q), put(k), put(v), is_causal=True)
    assert close(ttnn.to_torch(out), reference(q, k, v, is_causal=True))


def test_later_tokens_do_not_change_earlier_rows(ttnn, put):
    """Causality, bit for bit: rows before a changed token stay."""
    q, k, v = bf16(1, NQ, 256, HD), bf16(1, NKV, 256, HD), bf16(1, NKV, 256, HD)
    sdpa = ttnn.transformer.scaled_dot_product_attention
    before = ttnn.to_torch(sdpa(put(q), put(k), put(v)))
    k[:, :, 200:], v[:, :, 200:] = 7.0, -3.0
    after = ttnn.to_torch(sdpa(put(q), put(k), put(v)))
    assert torch.equal(before[:, :, :200], after[:, :, :200])
    assert not torch.equal(before[:, :, 200:], after[:, :, 200:])


@pytest.mark.parametrize("heads", [1, NQ])
def test_prefill_attention_with_a_mask_and_other_keys(ttnn, put, heads):
    """Without causality a mask is added to the scores, and keys may be more than queries."""
    q, k, v = bf16(1, NQ, 64, HD), bf16(1, NKV, 192, HD), bf16(1, NKV, 192, HD)
    mask = torch.zeros(1, heads, 64, 192).masked_fill(torch.rand(1, heads, 64, 192) < 0.3, -1e9).bfloat16()
    out = ttnn.transformer.scaled_dot_product_attention(
        put(q), put(k), put(v), attn_mask=put(mask), is_causal=False, scale=0.1
    )
    assert close(ttnn.to_torch(out), reference(q, k, v, attn_mask=mask.float(), scale=0.1))


def test_equal_kv_heads_give_equal_query_groups(ttnn, put):
    """GQA equals attention with every KV head repeated for its group, bit for bit."""
    q, k, v = bf16(1, NQ, 64, HD), bf16(1, NKV, 64, HD), bf16(1, NKV, 64, HD)
    sdpa = ttnn.transformer.scaled_dot_product_attention
    grouped = ttnn.to_torch(sdpa(put(q), put(k), put(v)))
    spelled = ttnn.to_torch(sdpa(put(q), put(k.repeat_interleave(3, 1)), put(v.repeat_interleave(3, 1))))
    assert torch.equal(grouped, spelled)


class Decode:
    """A paged cache for `users`, its page table, and the calls of a decode step."""

    def __init__(self, ttnn, put, rows_on_cores, users=8, blocks=4, dtype=None, permutation=None):
        self.ttnn, self.put, self.users = ttnn, put, users
        self.on_cores = rows_on_cores(users, HD)
        pages = (
            permutation if permutation is not None else torch.randperm(users * blocks + 5)[: users * blocks]
        )
        self.table = self.ints(pages.view(users, blocks))
        shape, kind = (users * blocks + 5, NKV, BLOCK, HD), dtype or ttnn.bfloat16
        self.keys, self.values = put(torch.zeros(shape), kind), put(torch.zeros(shape), kind)

    def ints(self, values):
        return self.put(torch.as_tensor(values).int(), self.ttnn.int32, self.ttnn.ROW_MAJOR_LAYOUT)

    def fill(self, user, k, v):
        for cache, rows in ((self.keys, k), (self.values, v)):
            tensor = self.ttnn.typecast(self.put(rows), cache.dtype)
            self.ttnn.experimental.paged_fill_cache(cache, tensor, self.table, batch_idx=user)

    def update(self, positions, k, v):
        for cache, rows in ((self.keys, k), (self.values, v)):
            self.ttnn.experimental.paged_update_cache(
                cache,
                self.put(rows, memory=self.on_cores),
                update_idxs_tensor=self.ints(positions),
                page_table=self.table,
            )

    def attend(self, q, positions):
        out = self.ttnn.transformer.paged_scaled_dot_product_attention_decode(
            self.put(q), self.keys, self.values, self.table, cur_pos_tensor=self.ints(positions)
        )
        return self.ttnn.to_torch(out)


@pytest.fixture
def decode(ttnn, put, rows_on_cores):
    return lambda **options: Decode(ttnn, put, rows_on_cores, **options)


def test_fill_update_and_decode_equal_full_attention(decode):
    """Prompt filled, one token updated, decode attention: the last row of attention over the whole sequence."""
    step, lengths = decode(), [5, 31, 32, 33, 64, 90, 100, 127]
    q, new_k, new_v = bf16(1, 8, NQ, HD), bf16(1, 8, NKV, HD), bf16(1, 8, NKV, HD)
    prompts = [(bf16(1, NKV, n, HD), bf16(1, NKV, n, HD)) for n in lengths]
    for user, (k, v) in enumerate(prompts):
        step.fill(user, k, v)
    step.update(lengths, new_k, new_v)
    out = step.attend(q, lengths)
    for user, (k, v) in enumerate(prompts):
        whole_k = torch.cat((k, new_k[:, user].unsqueeze(2)), 2)
        whole_v = torch.cat((v, new_v[:, user].unsqueeze(2)), 2)
        expected = reference(q[:, user].unsqueeze(2), whole_k, whole_v)[:, :, 0]
        assert close(out[:, user], expected), user


def test_page_order_does_not_matter(decode):
    """Another page table gives the same decode attention, bit for bit."""
    q, k, v = bf16(1, 8, NQ, HD), bf16(1, NKV, 100, HD), bf16(1, NKV, 100, HD)
    outs = []
    for permutation in (torch.arange(32), torch.randperm(37)[:32]):
        step = decode(permutation=permutation)
        for user in range(8):
            step.fill(user, k * (user + 1), v - user)
        outs.append(step.attend(q, [99 - user for user in range(8)]))
    assert torch.equal(outs[0], outs[1])


def test_users_do_not_affect_one_another(decode):
    """Changing one user's cache, query and position leaves every other user's row, bit for bit."""
    q, k, v = bf16(1, 8, NQ, HD), bf16(1, NKV, 64, HD), bf16(1, NKV, 64, HD)
    step = decode()
    for user in range(8):
        step.fill(user, k, v)
    before = step.attend(q, [63] * 8)
    step.fill(3, k * 2, -v)
    q[:, 3] = 1.0
    after = step.attend(q, [63, 63, 63, 10, 63, 63, 63, 63])
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_position_minus_one_is_skipped(ttnn, decode):
    """An update at -1 writes nothing, and decode attention leaves its row undefined without harm to others."""
    step = decode()
    k, v, q = bf16(1, 8, NKV, HD), bf16(1, 8, NKV, HD), bf16(1, 8, NQ, HD)
    step.update([0, -1] * 4, k, v)
    cache, table = ttnn.to_torch(step.keys), ttnn.to_torch(step.table)
    written = {int(table[user, 0]) for user in range(0, 8, 2)}
    for block in range(cache.shape[0]):
        assert bool(cache[block].any()) == (block in written)
    out = step.attend(q, [0, -1] * 4)
    assert out[:, 1::2].isnan().all()
    assert close(out[:, ::2], v.repeat_interleave(3, 2)[:, ::2])  # one key: its value, whatever the query


def test_prefilled_and_decoded_bfp8_rows_round_differently(ttnn, decode):
    """typecast rounds a bfp8 row once, paged_update_cache twice: some values differ, by one step."""
    step = decode(dtype=ttnn.bfloat8_b)
    rows = bf16(1, NKV, 1, HD)
    step.fill(0, rows, rows)
    step.update(
        [-1, 0] + [-1] * 6,
        rows.transpose(1, 2).expand(1, 8, NKV, HD).contiguous(),
        rows.transpose(1, 2).expand(1, 8, NKV, HD).contiguous(),
    )
    cache, table = ttnn.to_torch(step.keys), ttnn.to_torch(step.table)
    filled, updated = cache[table[0, 0], :, 0], cache[table[1, 0], :, 0]
    different = (filled != updated).float().mean()
    assert 0 < different < 0.2
    assert ((filled - updated).abs() <= 2.0**-5).all()


def test_a_position_outside_the_cache_is_refused(decode):
    """Positions beyond the page table, and page tables that name no block, are refused."""
    step = decode()
    rows = bf16(1, 8, NKV, HD)
    with pytest.raises(DeviceError, match="position 128 lies beyond"):
        step.update([128] + [0] * 7, rows, rows)
    with pytest.raises(DeviceError, match="position 128 lies beyond"):
        step.attend(bf16(1, 8, NQ, HD), [128] + [0] * 7)
    step.table = step.ints(torch.full((8, 4), 99))
    with pytest.raises(DeviceError, match="block 99"):
        step.update([0] * 8, rows, rows)


def test_page_table_must_be_int32_row_major_and_fit_the_batch(ttnn, put, decode):
    """uint32 ids, tiles or another number of users are refused with the op's name."""
    step = decode()
    q = bf16(1, 8, NQ, HD)
    for table in (
        put(torch.zeros(8, 4), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT),
        put(torch.zeros(8, 4), ttnn.int32, ttnn.TILE_LAYOUT),
        put(torch.zeros(4, 4), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT),
    ):
        step.table = table
        with pytest.raises(DeviceError, match="paged_scaled_dot_product_attention_decode"):
            step.attend(q, [0] * 8)


def test_contiguous_decode_equals_paged(ttnn, put, decode):
    """The same keys in a contiguous cache give the same decode attention."""
    step = decode(permutation=torch.arange(32))
    k, v, q = bf16(8, NKV, 128, HD), bf16(8, NKV, 128, HD), bf16(1, 8, NQ, HD)
    for user in range(8):
        step.fill(user, k[user : user + 1], v[user : user + 1])
    positions = [3, 17, 31, 32, 63, 64, 100, 127]
    paged = step.attend(q, positions)
    plain = ttnn.transformer.scaled_dot_product_attention_decode(put(q), put(k), put(v), cur_pos=positions)
    assert torch.equal(ttnn.to_torch(plain), paged)
