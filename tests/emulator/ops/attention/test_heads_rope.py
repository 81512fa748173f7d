from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode

NQ, NKV, HD = 9, 3, 64


@pytest.fixture(autouse=True, params=list(mode.Mode), ids=lambda m: m.value)
def arithmetic(request):
    """Everything here holds in every mode."""
    with mode.using(request.param):
        yield


def transform() -> torch.Tensor:
    """x @ transform swaps the columns of a pair and negates the first: (-x1, x0, -x3, x2, ...)."""
    matrix, even = torch.zeros(32, 32), torch.arange(0, 32, 2)
    matrix[even, even + 1], matrix[even + 1, even] = 1, -1
    return matrix


def angles(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    angle = positions[:, None] * 10000.0 ** (-torch.arange(0, HD, 2) / HD)
    return angle.cos().repeat_interleave(2, -1), angle.sin().repeat_interleave(2, -1)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    turn = torch.complex(cos.double()[..., ::2], sin.double()[..., ::2])
    return torch.view_as_real(pairs * turn).flatten(-2)


def test_prefill_heads_split_and_join(ttnn, put):
    """Heads are consecutive columns: q, then k, then v; joining q gives its columns back."""
    x = torch.randn(1, 1, 96, (NQ + 2 * NKV) * HD).bfloat16()
    q, k, v = ttnn.experimental.nlp_create_qkv_heads(
        put(x), num_heads=NQ, num_kv_heads=NKV, transpose_k_heads=False
    )
    split = x[0].view(1, 96, NQ + 2 * NKV, HD).transpose(1, 2)
    for got, expected in zip((q, k, v), split.split((NQ, NKV, NKV), 1), strict=True):
        assert torch.equal(ttnn.to_torch(got), expected)
    assert torch.equal(ttnn.to_torch(ttnn.experimental.nlp_concat_heads(q)), x[..., : NQ * HD])
    transposed = ttnn.experimental.nlp_create_qkv_heads(put(x), num_heads=NQ, num_kv_heads=NKV)[1]
    assert torch.equal(ttnn.to_torch(transposed), split[:, NQ : NQ + NKV].transpose(-1, -2))


def test_decode_heads_lie_one_user_a_core(ttnn, put, rows_on_cores):
    """Decode heads are [1, B, H, D], height sharded one user a core, and joining them restores rows and pads to 32."""
    x = torch.randn(1, 1, 8, (NQ + 2 * NKV) * HD).bfloat16()
    q, k, v = ttnn.experimental.nlp_create_qkv_heads_decode(put(x), num_heads=NQ, num_kv_heads=NKV)
    heads = x.view(1, 8, NQ + 2 * NKV, HD)
    for got, expected in zip((q, k, v), heads.split((NQ, NKV, NKV), 2), strict=True):
        assert torch.equal(ttnn.to_torch(got), expected)
        assert got.memory_config() == rows_on_cores(8, HD)
    joined = ttnn.experimental.nlp_concat_heads_decode(q, num_heads=NQ)
    assert joined.shape == [1, 1, 32, NQ * HD]
    assert joined.memory_config().memory_layout is ttnn.TensorMemoryLayout.WIDTH_SHARDED
    values = ttnn.to_torch(joined)
    assert torch.equal(values[:, :, :8], x[..., : NQ * HD])
    assert not values[:, :, 8:].any()


def test_width_that_is_no_whole_number_of_heads_is_refused(ttnn, put):
    """A fused width that does not divide into the heads is refused."""
    x = put(torch.zeros(1, 1, 32, 960))
    for split in (ttnn.experimental.nlp_create_qkv_heads, ttnn.experimental.nlp_create_qkv_heads_decode):
        with pytest.raises(DeviceError, match="960"):
            split(x, num_heads=8, num_kv_heads=3)


def test_prefill_rope_rotates_neighbouring_pairs(ttnn, put):
    """rotary_embedding_llama equals complex multiplication of column pairs, to bf16."""
    x, (cos, sin) = torch.randn(1, NQ, 64, HD).bfloat16(), angles(torch.arange(64))
    out = ttnn.experimental.rotary_embedding_llama(
        put(x), put(cos[None, None]), put(sin[None, None]), put(transform()[None, None])
    )
    expected = rotated(x, cos.bfloat16(), sin.bfloat16())
    assert (ttnn.to_torch(out).double() - expected).abs().max() < 2.0**-5
    assert float((ttnn.to_torch(out).double() - expected).norm() / expected.norm()) < 2.0**-8


def test_decode_rope_equals_prefill_rope_at_the_same_positions(ttnn, put, rows_on_cores):
    """A user's row in decode gets the bits a prefill row at its position gets."""
    positions = torch.tensor([0, 3, 17, 40, 41, 63, 5, 9])
    x = torch.randn(1, 8, NQ, HD).bfloat16()
    cos, sin = angles(torch.arange(64))
    prefill_x = torch.zeros(1, NQ, 64, HD).bfloat16()
    prefill_x[0][:, positions] = x[0].transpose(0, 1)
    rope = ttnn.experimental.rotary_embedding_llama
    whole = ttnn.to_torch(
        rope(put(prefill_x), put(cos[None, None]), put(sin[None, None]), put(transform()[None, None]))
    )
    cores, tile = rows_on_cores(8, HD), rows_on_cores(8, 32)
    row = [put(t[positions][None, :, None], memory=cores) for t in (cos, sin)]
    matrix = put(transform().repeat(8, 1)[None, None], memory=tile)
    out = ttnn.to_torch(rope(put(x, memory=cores), *row, matrix, is_decode_mode=True))
    assert torch.equal(out[0].transpose(0, 1), whole[0][:, positions])


def test_half_split_rope_equals_pair_rope_after_reordering(ttnn, put):
    """rotary_embedding_hf on halves equals rotary_embedding_llama on the same columns interleaved."""
    x, (cos, sin) = torch.randn(1, NQ, 32, HD).bfloat16(), angles(torch.arange(32))
    # Interleaved column j holds half-split column order[j]
    order = torch.arange(HD).view(2, -1).t().flatten()
    hf_cos, hf_sin = (torch.empty_like(t).index_copy_(-1, order, t) for t in (cos, sin))
    pair = ttnn.experimental.rotary_embedding_llama(
        put(x[..., order]), put(cos[None, None]), put(sin[None, None]), put(transform()[None, None])
    )
    half = ttnn.experimental.rotary_embedding_hf(put(x), put(hf_cos[None, None]), put(hf_sin[None, None]))
    assert torch.equal(ttnn.to_torch(half)[..., order], ttnn.to_torch(pair))


def test_rope_refuses_other_dtypes_and_interleaved_decode(ttnn, put, rows_on_cores):
    """float32 inputs, and decode inputs that are not height sharded, are refused."""
    cos, matrix = put(torch.zeros(1, 1, 32, HD)), put(transform()[None, None])
    rope = ttnn.experimental.rotary_embedding_llama
    with pytest.raises(DeviceError, match="must be BFLOAT16"):
        rope(put(torch.zeros(1, NQ, 32, HD), ttnn.float32), cos, cos, matrix)
    with pytest.raises(DeviceError, match="height sharded"):
        rope(put(torch.zeros(1, 8, NQ, HD)), cos, cos, matrix, is_decode_mode=True)
