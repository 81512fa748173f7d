"""Attention with masks of any kind, in every mode: prefill and decode, against float32 PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.emulator import DeviceError, api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

TOLERANCE = {Mode.FAST: 0.02, Mode.DEVICE: 0.035, Mode.EXACT: 0.035}
FULL = api.WormholeComputeKernelConfig(math_fidelity=api.MathFidelity.HiFi4, fp32_dest_acc_en=True)
SDPA = api.transformer.scaled_dot_product_attention
DECODE = api.transformer.scaled_dot_product_attention_decode
PAGED = api.transformer.paged_scaled_dot_product_attention_decode


@pytest.fixture(autouse=True, params=list(Mode), ids=lambda m: m.value)
def arithmetic(request):
    with mode.using(request.param):
        yield


def bf16(*shape):
    return torch.randn(*shape).bfloat16()


def alibi(heads, rows, keys):
    distance = torch.arange(keys)[None] - torch.arange(rows)[:, None]
    return -distance.abs() * 2.0 ** -torch.arange(1, heads + 1)[:, None, None]


def masks(heads, rows, keys):
    """By name, [1, 1 or heads, rows, keys]."""
    hidden = torch.rand(1, heads, rows, keys) < 0.3
    return {
        "bias": 3 * torch.randn(1, heads, rows, keys),
        "alibi": alibi(heads, rows, keys)[None],
        "large": torch.zeros(1, heads, rows, keys).masked_fill(hidden, -1e9),
        "infinite": torch.zeros(1, heads, rows, keys).masked_fill(hidden, -torch.inf),
        "one for all heads": torch.randn(1, 1, rows, keys),
    }


def reference(q, k, v, mask, scale):
    k, v = (t.float().repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    return F.scaled_dot_product_attention(q.float(), k, v, attn_mask=mask, scale=scale)


def close(got, expected, factor=1.0):
    error = float((got.float() - expected.float()).norm() / expected.float().norm())
    assert error < factor * TOLERANCE[mode.current()], error


@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
@pytest.mark.parametrize("kind", list(masks(1, 1, 1)))
@pytest.mark.parametrize("compute", [None, FULL], ids=["bf16 dest", "fp32 dest"])
def test_a_mask_is_added_to_the_scaled_scores(put, kind, scale, compute):
    """softmax(QK * scale + M), finite or infinite, whatever the scale, with either kernel."""
    q, k, v = bf16(2, 4, 64, 64), bf16(2, 2, 96, 64), bf16(2, 2, 96, 64)
    mask = put(masks(4, 64, 96)[kind])
    out = SDPA(
        put(q), put(k), put(v), attn_mask=mask, is_causal=False, scale=scale, compute_kernel_config=compute
    )
    close(api.to_torch(out), reference(q, k, v, api.to_torch(mask).float(), scale))


@pytest.mark.parametrize("dtype", [api.bfloat8_b, api.bfloat4_b])
@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
def test_the_mask_is_rounded_as_the_division_by_the_scale_rounds_it(put, dtype, scale):
    """A kernel sees M / scale in the mask's own format; in bfloat4_b that is coarse, and a scale of 1 leaves the mask alone."""
    q, k, v = (bf16(1, 2, 64, 64) for _ in "qkv")
    mask = put(3 * torch.randn(1, 2, 64, 64), dtype)
    factor = 1 / 8 if scale is None else scale
    seen = api.to_torch(mask).float()
    if factor != 1 and mode.current() is not Mode.FAST:
        seen = api.to_torch(api.multiply(mask, 1 / factor)).float() * factor
    out = SDPA(put(q), put(k), put(v), attn_mask=mask, is_causal=False, scale=scale)
    close(api.to_torch(out), reference(q, k, v, seen, scale))


def test_a_mask_of_each_users_own_stays_his(put):
    """[B, 1, Sq, Sk]: users are masked apart, all their heads alike."""
    q, k, v = bf16(2, 4, 64, 64), bf16(2, 2, 64, 64), bf16(2, 2, 64, 64)
    mask = 3 * bf16(2, 1, 64, 64)
    out = SDPA(put(q), put(k), put(v), attn_mask=put(mask), is_causal=False)
    close(api.to_torch(out), reference(q, k, v, mask.float(), None))


@pytest.mark.parametrize("compute", [None, FULL], ids=["bf16 dest", "fp32 dest"])
def test_padding_of_the_keys_counts_where_a_mask_is_given(put, compute):
    """The kernels leave hiding to the mask, whose own padding is zero: its keys score 0 and have no value. It is said."""
    q, k, v = bf16(1, 2, 50, 64), bf16(1, 2, 70, 64), bf16(1, 2, 70, 64)
    mask = bf16(1, 2, 50, 70)
    with pytest.warns(UserWarning, match="70 keys to 96"):
        out = SDPA(
            put(q), put(k), put(v), attn_mask=put(mask), is_causal=False, compute_kernel_config=compute
        )
    if mode.current() is not Mode.FAST:
        k, v, mask = F.pad(k, (0, 0, 0, 26)), F.pad(v, (0, 0, 0, 26)), F.pad(mask, (0, 26))
    close(api.to_torch(out), reference(q, k, v, mask.float(), None))


@pytest.mark.parametrize("keys", [1, 33, 70])
def test_padding_of_the_keys_is_hidden_without_a_mask(put, keys):
    """Without a mask the kernels make one of their own."""
    q, k, v = bf16(1, 2, 50, 64), bf16(1, 2, keys, 64), bf16(1, 2, keys, 64)
    out = SDPA(put(q), put(k), put(v), is_causal=False)
    close(api.to_torch(out), reference(q, k, v, None, None))


def test_heads_side_by_side(put):
    """output_concat_heads: [B, 1, S, heads * D], what nlp_concat_heads makes."""
    q, k, v = (put(bf16(2, 3, 64, 32)) for _ in "qkv")
    apart, joined = SDPA(q, k, v), SDPA(q, k, v, output_concat_heads=True)
    assert torch.equal(api.to_torch(joined), api.to_torch(api.experimental.nlp_concat_heads(apart)))


class Step:
    """A decode step of 2 users and 4 heads over 96 positions, contiguous and paged."""

    def __init__(self, put, rows_on_cores=None):
        self.put = put
        self.q, self.k, self.v = bf16(1, 2, 4, 64), bf16(2, 2, 96, 64), bf16(2, 2, 96, 64)
        pages = [5, 0, 3, 1, 4, 2]
        self.table = put(torch.tensor(pages).int().view(2, 3), api.int32, api.ROW_MAJOR_LAYOUT)
        self.paged = [torch.zeros(7, 2, 32, 64).bfloat16() for _ in "kv"]
        for cache, whole in zip(self.paged, (self.k, self.v), strict=True):
            cache[pages] = whole.view(2, 2, 3, 32, 64).transpose(1, 2).flatten(0, 1)

    def contiguous(self, **options):
        return api.to_torch(DECODE(*map(self.put, (self.q, self.k, self.v)), **options))

    def through_pages(self, **options):
        return api.to_torch(PAGED(*map(self.put, (self.q, *self.paged)), self.table, **options))

    def expected(self, mask, scale):
        mask = None if mask is None else mask.transpose(1, 2)  # [B, 4, 1, S]
        return reference(self.q.permute(1, 2, 0, 3), self.k, self.v, mask, scale).permute(2, 0, 1, 3)


@pytest.fixture
def step(put):
    return Step(put)


@pytest.mark.parametrize("how", ["contiguous", "through_pages"])
@pytest.mark.parametrize("users", [1, 2])
def test_decode_with_a_mask(put, step, how, users):
    """Without causality a mask hides or biases any position, a user's own or one for all, over either cache."""
    for mask in (
        torch.where(torch.rand(users, 1, 4, 96) < 0.3, -torch.inf, 0.0),
        alibi(4, 1, 96).view(1, 1, 4, 96).expand(users, -1, -1, -1),
    ):
        given = put(mask.contiguous())
        out = getattr(step, how)(is_causal=False, attn_mask=given, scale=1.0)
        close(out, step.expected(api.to_torch(given).float(), 1.0), 1.5)  # unscaled scores are large


@pytest.mark.parametrize("how", ["contiguous", "through_pages"])
def test_decode_without_causality_sees_every_position(step, how):
    """is_causal=False without a mask: the whole cache."""
    close(getattr(step, how)(is_causal=False), step.expected(None, None))


def test_a_decode_mask_is_scaled_with_the_scores_and_that_is_said(put, step):
    """The kernel adds it before the scale: device and exact have softmax((QK + M) * scale), and a warning says so."""
    mask = bf16(2, 1, 4, 96)
    with pytest.warns(UserWarning, match="before it scales"):
        out = step.contiguous(is_causal=False, attn_mask=put(mask))
    factor = 1.0 if mode.current() is Mode.FAST else 1 / 8
    close(out, step.expected(mask.float() * factor, None))


def test_refused_masks_say_why(put, step):
    """What ttnn refuses of masks, and what its kernels would read wrongly."""
    q, k, v = (put(bf16(1, 2, 64, 64)) for _ in "qkv")

    def prefill(mask, **options):
        return lambda: SDPA(q, k, v, attn_mask=mask, **({"is_causal": False} | options))

    def decode(shape, **options):
        return lambda: step.contiguous(attn_mask=put(torch.zeros(shape)), **({"is_causal": False} | options))

    whole = put(torch.zeros(1, 2, 64, 64))
    in_l1 = put(torch.zeros(1, 2, 64, 64), memory=api.L1_MEMORY_CONFIG)
    for call, said in (
        (prefill(whole, is_causal=True), "is_causal and attn_mask"),
        (prefill(whole, sliding_window_size=8), "cannot both be given"),
        (prefill(in_l1), "must be in DRAM"),
        (prefill(put(torch.zeros(1, 2, 1, 64))), "does not fit"),
        (prefill(put(torch.zeros(64, 64))), "does not fit"),
        (prefill(put(torch.zeros(1, 2, 64, 64), api.float32)), "must be BFLOAT16"),
        (decode((2, 1, 4, 96), is_causal=True, cur_pos=[1, 2]), "is_causal and attn_mask"),
        (decode((1, 4, 1, 96)), "attn_mask must be"),
        (decode((2, 1, 4, 64)), "attn_mask must be"),
        (decode((1, 2, 4, 96)), "by the first dimension"),
    ):
        with pytest.raises(DeviceError, match=said):
            call()


def test_what_is_not_modelled_says_so(put, step):
    """Refused with the name, and with where to go; a window of zero is none, as ttnn has it."""
    with pytest.raises(DeviceError, match="ttnn does; try --tt-target shadow"):
        step.contiguous(cur_pos=[1, 2], share_cache=True)
    q, k, v = (put(bf16(1, 2, 64, 64)) for _ in "qkv")
    assert torch.equal(api.to_torch(SDPA(q, k, v, sliding_window_size=0)), api.to_torch(SDPA(q, k, v)))
