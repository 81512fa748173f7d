from __future__ import annotations

import pytest
import torch

from harness.conformance.numerics.recordings import Recording
from harness.emulator import api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode
from tests.emulator.recorded import in_device_modes, recorded, using

HD = 64
THETA = 100_000.0  # the recorded model's
HIFI4_FP32 = api.WormholeComputeKernelConfig(
    math_fidelity=api.MathFidelity.HiFi4, fp32_dest_acc_en=True, packer_l1_acc=True, math_approx_mode=False
)
# Interleaved column j holds column INTERLEAVED[j] of the half-split order.
INTERLEAVED = torch.arange(HD).view(2, -1).t().flatten()


@pytest.fixture
def put():
    torch.manual_seed(7)
    device = api.open_mesh_device(api.MeshShape(1, 1))

    def put(x, memory=None):
        return api.from_torch(
            x, dtype=api.bfloat16, layout=api.TILE_LAYOUT, device=device, memory_config=memory
        )

    yield put
    api.close_mesh_device(device)


def tables(positions):
    """cos and sin of half the head, [n, 32]."""
    frequencies = 1.0 / THETA ** (torch.arange(0, HD, 2).float() / HD)
    angles = positions.clamp(min=0).float()[:, None] * frequencies
    return angles.cos(), angles.sin()


def transform():
    matrix, even = torch.zeros(32, 32), torch.arange(0, 32, 2)
    matrix[even, even + 1], matrix[even + 1, even] = 1, -1
    return matrix


@pytest.mark.parametrize("layer", ["layer_A", "layer_P"])
@pytest.mark.parametrize(
    ("which", "config", "result"),
    [("q", HIFI4_FP32, "q_rope"), ("k", HIFI4_FP32, "k_rope"), ("k", None, "k_rope~default_cfg")],
)
def test_pair_rope_equals_the_recorded_bits(put, layer, which, config, result):
    """rotary_embedding_llama on a real layer's heads, with HiFi4 and a float32 Dest and by default, bit for bit."""
    arrays = recorded(layer)
    heads = arrays["qkv"].view(32, 15, HD).transpose(0, 1)[None]
    x = heads[:, :9] if which == "q" else heads[:, 9:12]
    cos, sin = (t.repeat_interleave(2, -1)[None, None] for t in tables(torch.arange(32)))
    with using(Mode.EXACT):
        out = api.experimental.rotary_embedding_llama(
            put(x), put(cos), put(sin), put(transform()[None, None]), compute_kernel_config=config
        )
    assert torch.equal(api.to_torch(out), arrays[result])


@pytest.mark.parametrize("layer", ["layer_A", "layer_P"])
@pytest.mark.parametrize("which", ["q", "k"])
def test_half_split_rope_equals_the_recorded_bits(put, layer, which):
    """rotary_embedding_hf without a config, bit for bit."""
    arrays = recorded(layer)
    heads = arrays["qkv"].view(32, 15, HD).transpose(0, 1)[None]
    x = heads[:, :9] if which == "q" else heads[:, 9:12]
    halves = x[..., torch.argsort(INTERLEAVED)]
    cos, sin = (torch.cat((t, t), -1)[None, None] for t in tables(torch.arange(32)))
    with using(Mode.EXACT):
        out = api.experimental.rotary_embedding_hf(put(halves), put(cos), put(sin))
    assert torch.equal(api.to_torch(out), arrays[f"{which}_rope~rotary_embedding_hf"])


@pytest.mark.parametrize("which", ["q", "k"])
def test_decode_rope_equals_the_recorded_bits(put, which):
    """A user's row turned by its own position, 32 users, bit for bit."""
    arrays, positions = recorded("decode_step"), torch.tensor(Recording("decode_step").info["pos"])
    grid = api.num_cores_to_corerangeset(32, api.CoreCoord(8, 8), True)

    def sharded(x, width):
        config = api.create_sharded_memory_config(
            (32, width), grid, api.ShardStrategy.HEIGHT, use_height_and_width_as_shard_shape=True
        )
        return put(x, config)

    cos, sin = (t.repeat_interleave(2, -1)[None, :, None] for t in tables(positions))
    matrix = transform().repeat(32, 1)[None, None]
    with using(Mode.EXACT):
        out = api.experimental.rotary_embedding_llama(
            sharded(arrays[which], HD),
            sharded(cos, HD),
            sharded(sin, HD),
            sharded(matrix, 32),
            is_decode_mode=True,
            compute_kernel_config=HIFI4_FP32,
        )
    assert torch.equal(api.to_torch(out), arrays[f"{which}_rope"])


@in_device_modes
def test_rope_products_lose_nothing_to_alignment(put, arithmetic):
    """A row of the transform has one entry, so modes device and exact agree."""
    x = torch.randn(1, 9, 64, HD)
    cos, sin = (t.repeat_interleave(2, -1)[None, None] for t in tables(torch.arange(64)))
    tensors = [put(t) for t in (x, cos, sin, transform()[None, None])]
    with using(Mode.EXACT):
        exact = api.to_torch(api.experimental.rotary_embedding_llama(*tensors))
    with using(arithmetic):
        assert mode.current() is arithmetic
        assert torch.equal(api.to_torch(api.experimental.rotary_embedding_llama(*tensors)), exact)
