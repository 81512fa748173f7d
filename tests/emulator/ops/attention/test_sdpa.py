from __future__ import annotations

import dataclasses
import re

import pytest
import torch
import torch.nn.functional as F

from harness.conformance.numerics.recordings import Recording
from harness.emulator.arithmetic import accumulate, formats, fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.ops.attention import decode_steps, prefill_steps
from harness.emulator.spec.types import DataType, MathFidelity
from tests.emulator.recorded import EXACT, attention_vectors, in_device_modes, recorded, using

CASES = [step.point for step in Recording("sdpa").steps]
BF16_DEST, FP32_DEST = Math(MathFidelity.HiFi2, False), Math(MathFidelity.HiFi4, True)
NQ, NKV, HD = 6, 2, 64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def prefill(
    q, k, v, *, mask=None, causal=True, math=BF16_DEST, approx=False, q_chunk=64, k_chunk=64, exp_approx=False
):
    setting = prefill_steps.Setting(math, None, approx, exp_approx, HD**-0.5, q_chunk, k_chunk)
    return prefill_steps.attend(q, k, v, mask, causal, setting)


def heads(rows, *, batch=1):
    return (torch.randn(batch, n, rows, HD).bfloat16() for n in (NQ, NKV, NKV))


def golden(q, k, v, **options):
    k, v = (t.float().repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    return F.scaled_dot_product_attention(q.float(), k, v, **options)


def error(got, expected):
    return float((got.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("case", CASES)
def test_prefill_equals_the_recorded_bits(case):
    """Attention of a real layer for each chunk size, fidelity, destination, exponential and format recorded."""
    named = re.fullmatch(r"attn_S(\d+)_(\w+)_q(\d+)k(\d+)_(\w+)_fp32acc(\d)_approx(\d)", case)
    rows, dtype, q_chunk, k_chunk, fidelity, fp32_dest, exp_approx = named.groups()
    arrays, recording = recorded("sdpa"), Recording("sdpa")
    dtype = DataType.BFLOAT16 if dtype == "bf16" else DataType.BFLOAT8_B
    q, k, v = (formats.host_round(arrays[name][:, :, : int(rows)].float(), dtype) for name in "qkv")
    with using(EXACT):
        out = prefill(
            q,
            k,
            v,
            math=Math(MathFidelity[fidelity], fp32_dest == "1"),
            exp_approx=exp_approx == "1",
            q_chunk=int(q_chunk),
            k_chunk=int(k_chunk),
        )
    assert torch.equal(formats.pack_round(out, dtype)[:, :, -32:], recording.recorded(case).bfloat16())


@in_device_modes
@pytest.mark.parametrize("math", [BF16_DEST, FP32_DEST])
@pytest.mark.parametrize(("q_chunk", "k_chunk"), [(32, 32), (64, 32), (32, 128), (512, 512)])
def test_prefill_is_causal_grouped_attention(arithmetic, math, q_chunk, k_chunk):
    """Any chunks, and rows that do not fill them, give attention to the error of the exponential and of bfloat16."""
    q, k, v = heads(544, batch=2)
    with using(arithmetic):
        out = prefill(q, k, v, math=math, q_chunk=q_chunk, k_chunk=k_chunk)
    assert error(out, golden(q, k, v, is_causal=True)) < (0.01 if math.fp32_dest else 0.03)


@in_device_modes
@pytest.mark.parametrize("math", [BF16_DEST, FP32_DEST])
def test_a_longer_prefill_has_the_same_rows(arithmetic, math):
    """Padding a prompt changes nothing in its rows, bit for bit, whatever the padding holds."""
    q, k, v = heads(416)
    with using(arithmetic):
        whole = prefill(q, k, v, math=math, q_chunk=128, k_chunk=128)
        short = prefill(*(t[:, :, :130] for t in (q, k, v)), math=math, q_chunk=128, k_chunk=128)
    assert torch.equal(whole[:, :, :130], short)


@in_device_modes
@pytest.mark.parametrize("math", [BF16_DEST, FP32_DEST])
def test_heads_and_batches_do_not_meet(arithmetic, math):
    """A head's rows are the same beside other heads and batches, bit for bit."""
    q, k, v = heads(96, batch=3)
    with using(arithmetic):
        whole = prefill(q, k, v, math=math)
        one = prefill(q[1:2, 4:5], k[1:2, 1:], v[1:2, 1:], math=math)
    assert torch.equal(whole[1:2, 4:5], one)


@in_device_modes
@pytest.mark.parametrize("math", [BF16_DEST, FP32_DEST])
def test_a_mask_is_added_to_the_scores(arithmetic, math):
    """Without causality a mask of -1e9 hides keys, with more keys than queries and across chunks."""
    q, (_, k, v) = next(heads(64)), heads(192)
    mask = torch.zeros(1, 1, 64, 192).masked_fill(torch.rand(1, 1, 64, 192) < 0.3, -1e9).bfloat16()
    with using(arithmetic):
        out = prefill(q, k, v, mask=mask, causal=False, math=math)
    # A mask is added to unscaled scores, which -1e9 makes no difference to.
    assert error(out, golden(q, k, v, attn_mask=mask.float())) < (0.01 if math.fp32_dest else 0.03)


def test_math_approx_mode_and_the_products_own_fidelity_are_obeyed():
    """The reciprocal of the approximate mode is cut, and a matmul fidelity of its own changes the products."""
    q, k, v = heads(64)
    with using(EXACT):
        plain, approx = prefill(q, k, v), prefill(q, k, v, approx=True)
        setting = prefill_steps.Setting(BF16_DEST, MathFidelity.LoFi, False, False, HD**-0.5, 64, 64)
        low = prefill_steps.attend(q, k, v, None, True, setting)
    assert not torch.equal(plain, approx)
    assert error(approx, plain) < 2.0**-7  # one step of bfloat16 at most
    assert error(plain, low) > 0.01


def decode_setting(**changes):
    setting = decode_steps.Setting(
        math=BF16_DEST,
        approx=False,
        exp_approx=False,
        weights_approx=False,
        scale=HD**-0.5,
        k_chunk=32,
        cores=1,
    )
    return dataclasses.replace(setting, **changes)


def decoded(q, k, v, counts):
    """float32 attention of each user over its first keys, [users, nkv, group, D]."""
    outs = []
    for user, count in enumerate(counts):
        keys, values = (t[user, :, :count].float() for t in (k, v))
        outs.append(F.scaled_dot_product_attention(q[user].float(), keys, values))
    return torch.stack(outs)


@pytest.mark.parametrize("step", range(4))
def test_decode_gives_the_recorded_stream(step):
    """Two users of a real model: attention over their bfp8 caches, output projection and residual add, bit for bit."""
    arrays, vectors = recorded("decode"), attention_vectors()
    keys, values = (
        torch.stack(
            [arrays[f"{which}_layer0_user{user}_blocks"].transpose(0, 1).flatten(1, 2) for user in (0, 1)]
        )
        for which in "kv"
    )
    counts = [33 + step, 21 + step]
    # Nine heads fit half a tile, so the kernel takes the approximate exponential.
    setting = decode_setting(weights_approx=True)
    with using(EXACT):
        heads = decode_steps.attend(
            vectors["decode_q"][step].view(2, 3, 3, HD), keys, values, counts, setting
        )
        blocks = Blocks(64, DataType.BFLOAT16, l1_acc=True)
        out = accumulate.matmul(heads.reshape(2, 576), vectors["decode_wo"], BF16_DEST, blocks)
        stream = fpu.add(arrays["hidden"][step, 0], formats.pack_round(out, DataType.BFLOAT16))
    assert torch.equal(formats.pack_round(stream, DataType.BFLOAT16), vectors["decode_resid1"][step])


@in_device_modes
@pytest.mark.parametrize("math", [BF16_DEST, FP32_DEST])
@pytest.mark.parametrize("k_chunk", [0, 32, 128])
@pytest.mark.parametrize("cores", [1, 3, 8])
def test_decode_is_attention_over_each_users_keys(arithmetic, math, k_chunk, cores):
    """Fixed and automatic chunks, shared by cores that join along a tree, give attention to bfloat16's error."""
    counts = [1, 31, 32, 33, 200, 300]
    q, k, v = torch.randn(6, 2, 3, HD).bfloat16(), *(torch.randn(6, 2, 320, HD).bfloat16() for _ in "kv")
    with using(arithmetic):
        out = decode_steps.attend(q, k, v, counts, decode_setting(math=math, k_chunk=k_chunk, cores=cores))
    assert error(out, decoded(q, k, v, counts)) < 0.015


@in_device_modes
def test_users_and_later_cache_positions_do_not_matter(arithmetic):
    """Other users, and what lies in the cache beyond a user's position, change no bit of its row."""
    counts, setting = [40, 129, 300], decode_setting(k_chunk=64, cores=2)
    q, k, v = torch.randn(3, 2, 3, HD).bfloat16(), *(torch.randn(3, 2, 320, HD).bfloat16() for _ in "kv")
    with using(arithmetic):
        before = decode_steps.attend(q, k, v, counts, setting)
        alone = decode_steps.attend(q[1:2], k[1:2], v[1:2], counts[1:2], setting)
        for user, count in enumerate(counts):
            k[user, :, count:], v[user, :, count:] = 1e30, -1e30
        after = decode_steps.attend(q, k, v, counts, setting)
    assert torch.equal(before[1:2], alone)
    assert torch.equal(before, after)


def test_each_core_passes_its_part_on_once():
    """The tree joins every core's part, in rounds, into that of core 0."""
    for cores in range(1, 65):
        rounds = decode_steps.tree(cores)
        sent = [child for pairs in rounds for _, child in pairs]
        assert sorted(sent) == list(range(1, cores))
        for number, pairs in enumerate(rounds):
            gone = {child for earlier in rounds[:number] for _, child in earlier}
            busy = [rank for pair in pairs for rank in pair]
            assert not gone & set(busy)


def test_cores_are_paired_from_the_last_rank_on():
    """A core whose partner would lie beyond core 0, as rank 1 of five, sends to core 0 in its own round."""
    assert decode_steps.tree(4) == [[(0, 1), (2, 3)], [(0, 2)]]
    assert decode_steps.tree(5) == [[(1, 2), (3, 4)], [(1, 3)], [(0, 1)]]


def test_groups_of_heads_taken_one_by_one_or_together_have_the_same_bits(monkeypatch):
    """How many groups a step takes is a matter of memory alone, with a mask of each user's own too."""
    q, k, v = heads(96, batch=3)
    mask = torch.where(torch.rand(3, NQ, 96, 96) < 0.2, -torch.inf, 0.0).bfloat16()
    results = []
    for step in (1, 1 << 30):
        monkeypatch.setattr(prefill_steps, "_STEP", step)
        with using(EXACT):
            results += [prefill(q, k, v), prefill(q, k, v, mask=mask, causal=False)]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
