"""`rotary_embedding_llama_fused_qk` is the decode rotation of queries and of keys."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

USERS = 8


def sharded(ttnn, row: int, users: int, width: int = 64):
    grid = ttnn.CoreRangeSet(
        [ttnn.CoreRange(ttnn.CoreCoord(0, row), ttnn.CoreCoord(7, row + users // 8 - 1))]
    )
    return ttnn.create_sharded_memory_config(
        (32, width),
        core_grid=grid,
        strategy=ttnn.ShardStrategy.HEIGHT,
        use_height_and_width_as_shard_shape=True,
    )


@pytest.fixture
def operands(ttnn, put):
    def operands(angles: torch.Tensor):
        turn = torch.zeros(32, 32)
        pair = torch.arange(0, 32, 2)
        turn[pair + 1, pair], turn[pair, pair + 1] = -1.0, 1.0
        q, k = torch.randn(1, USERS, 9, 64).bfloat16(), torch.randn(1, USERS, 3, 64).bfloat16()
        tables = [torch.cat([f(angles)] * 2, 1).bfloat16() for f in (torch.cos, torch.sin)]
        return (
            put(q, memory=sharded(ttnn, 0, USERS)),
            put(k, memory=sharded(ttnn, 1, USERS)),
            *(put(t, memory=sharded(ttnn, 0, 2 * USERS)) for t in tables),
            put(turn.repeat(2 * USERS, 1)[None, None], memory=sharded(ttnn, 0, 2 * USERS, 32)),
        )

    return operands


@pytest.mark.parametrize("chosen", list(Mode), ids=lambda m: m.value)
def test_it_is_the_rotation_of_each(ttnn, put, operands, chosen):
    """Bit for bit what `rotary_embedding_llama` gives for the queries and for the keys alone."""
    q, k, cos, sin, turn = operands(torch.randn(1, USERS, 1, 32).repeat_interleave(2, -1))
    with mode.using(chosen):
        both = ttnn.experimental.rotary_embedding_llama_fused_qk(q, k, cos, sin, turn)
        for x, out, row in ((q, both[0], 0), (k, both[1], 1)):
            own = [put(ttnn.to_torch(t)[:, :USERS], memory=sharded(ttnn, row, USERS)) for t in (cos, sin)]
            tiles = put(ttnn.to_torch(turn)[:, :, : USERS * 32], memory=sharded(ttnn, row, USERS, 32))
            alone = ttnn.experimental.rotary_embedding_llama(x, *own, tiles, is_decode_mode=True)
            assert torch.equal(ttnn.to_torch(out), ttnn.to_torch(alone))
            assert out.memory_config() == x.memory_config()


def test_keys_take_their_own_angles(ttnn, put, operands):
    """The second half of the tables is the keys'."""
    q, k, cos, sin, turn = operands(torch.zeros(1, USERS, 1, 64))
    half = torch.cat((torch.ones(1, USERS, 1, 64), -torch.ones(1, USERS, 1, 64)), 1)
    cos = put(half, memory=sharded(ttnn, 0, 2 * USERS))
    turned_q, turned_k = ttnn.experimental.rotary_embedding_llama_fused_qk(q, k, cos, sin, turn)
    assert torch.equal(ttnn.to_torch(turned_q), ttnn.to_torch(q))
    assert torch.equal(ttnn.to_torch(turned_k), -ttnn.to_torch(k))


def test_it_says_what_it_does_not_take(ttnn, put, operands):
    q, k, cos, sin, turn = operands(torch.zeros(1, USERS, 1, 64))
    fused = ttnn.experimental.rotary_embedding_llama_fused_qk
    with pytest.raises(DeviceError, match="q and k must not share cores"):
        fused(q, put(ttnn.to_torch(k), memory=sharded(ttnn, 0, USERS)), cos, sin, turn)
    half = put(torch.zeros(1, USERS, 1, 64), memory=sharded(ttnn, 0, USERS))
    with pytest.raises(DeviceError, match=r"cos and sin must be \[1, 16, 1, 64\]"):
        fused(q, k, half, half, turn)
    with pytest.raises(DeviceError, match="q must be height sharded"):
        fused(put(ttnn.to_torch(q)), k, cos, sin, turn)
