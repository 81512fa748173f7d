from __future__ import annotations

import pytest
import torch

from harness.conformance.numerics.recordings import Recording
from harness.emulator import api
from tests.emulator.recorded import in_device_modes, recorded, using

HEADS, BLOCK, HD, USERS = 3, 32, 64, 32


@pytest.fixture
def put():
    device = api.open_mesh_device(api.MeshShape(1, 1))

    def put(x, dtype=api.bfloat16, layout=api.TILE_LAYOUT, memory=None):
        return api.from_torch(x, dtype=dtype, layout=layout, device=device, memory_config=memory)

    yield put
    api.close_mesh_device(device)


def ints(put, values):
    return put(torch.tensor(values).int(), api.int32, api.ROW_MAJOR_LAYOUT)


def updated(put, rows, positions, table, dtype):
    """A cache of 64 zeroed blocks after one row a user, [32, 3, 64], was written; and the rows it has there."""
    grid = api.num_cores_to_corerangeset(USERS, api.CoreCoord(8, 8), True)
    one_a_core = api.create_sharded_memory_config(
        (32, HD), grid, api.ShardStrategy.HEIGHT, use_height_and_width_as_shard_shape=True
    )
    cache = put(torch.zeros(64, HEADS, BLOCK, HD), dtype)
    api.experimental.paged_update_cache(
        cache,
        put(rows[None], memory=one_a_core),
        update_idxs_tensor=ints(put, positions),
        page_table=ints(put, table),
    )
    values = api.to_torch(cache)
    at = [(table[user][at // BLOCK], at % BLOCK) for user, at in enumerate(positions) if at >= 0]
    return values, torch.stack([values[block, :, row] for block, row in at])


@in_device_modes
@pytest.mark.parametrize("dtype", ["bfloat8_b", "bfloat16"])
def test_decoded_rows_equal_the_recorded_bits(put, arithmetic, dtype):
    """paged_update_cache of a real step's keys through a permuted page table: rounded twice to bfp8, kept in bfloat16."""
    arrays, info = recorded("decode_step"), Recording("decode_step").info
    present = torch.tensor(info["pos"]) >= 0
    with using(arithmetic):
        cache, rows = updated(put, arrays["k_rope"][0], info["pos"], info["page_table"], getattr(api, dtype))
    expected = arrays["paged_update_cache_bfp8.rows" if dtype == "bfloat8_b" else "k_rope"]
    assert torch.equal(rows, expected.view(USERS, HEADS, HD)[present])
    # Nothing else was written, and nothing for the user at -1.
    assert int((cache != 0).any(-1).any(1).sum()) == int(present.sum())


@in_device_modes
@pytest.mark.parametrize("layer", ["layer_A", "layer_P"])
def test_prefilled_rows_equal_the_recorded_bits(put, arithmetic, layer):
    """typecast and paged_fill_cache of a real layer's keys: rounded once."""
    arrays = recorded(layer)
    cache = put(torch.zeros(2, HEADS, BLOCK, HD), api.bfloat8_b)
    with using(arithmetic):
        narrow = api.typecast(put(arrays["k_rope"]), api.bfloat8_b)
        api.experimental.paged_fill_cache(cache, narrow, ints(put, [[1]]), batch_idx=0)
    assert torch.equal(api.to_torch(cache)[1:], arrays["k_rope_bfp8"])
    assert not api.to_torch(cache)[0].any()


@in_device_modes
def test_the_three_ways_to_bfp8_differ(put, arithmetic):
    """Prefill rounds a real layer's keys unlike the host, and decode unlike prefill, in 5 to 12% of the values."""
    keys, table = recorded("layer_A")["k_rope"], [[block] for block in range(USERS)]
    with using(arithmetic):
        host = api.to_torch(put(keys, api.bfloat8_b))
        prefilled = api.to_torch(api.typecast(put(keys), api.bfloat8_b))
        decoded = updated(put, keys[0].transpose(0, 1), [0] * USERS, table, api.bfloat8_b)[1]
    decoded = decoded.transpose(0, 1)[None]
    for other in (host, decoded):
        assert 0.05 < float((prefilled != other).float().mean()) < 0.12
