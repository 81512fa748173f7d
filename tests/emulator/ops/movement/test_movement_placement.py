from __future__ import annotations

import gc

import pytest
import torch

from harness.emulator import DeviceError, OutOfMemoryError, UseAfterFreeError


def bf16(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).bfloat16()


def width_sharded(ttnn, cores, width, height=32):
    grid = ttnn.num_cores_to_corerangeset(cores, ttnn.CoreCoord(8, 8), True)
    return ttnn.create_sharded_memory_config(
        (height, width), grid, ttnn.ShardStrategy.WIDTH, use_height_and_width_as_shard_shape=True
    )


def test_indexing_follows_torch(ttnn, put):
    """tensor[...] gives torch's values and shape."""
    x = bf16(2, 3, 40, 64)
    t = put(x)
    for index in (
        0,
        (0, 1),
        (..., slice(3, 17), slice(None)),
        (1, slice(None), -1),
        (slice(None), slice(0, 3, 2)),
    ):
        got = ttnn.to_torch(t[index])
        assert torch.equal(got, x[index]), index


@pytest.mark.parametrize(
    ("width", "strategy", "in_dram", "message"),
    [
        (8, "HEIGHT", False, None),
        (8, "WIDTH", False, r"a shard's row of 4 DataType\.BFLOAT16, 8 bytes, must be a multiple of 16$"),
        (16, "WIDTH", False, None),
        (16, "WIDTH", True, r"into DRAM a row of 16 must have as many pages as it had, got 1 and 2$"),
    ],
)
def test_reshard_moves_whole_pages(ttnn, put, width, strategy, in_dram, message):
    """Rows of ROW_MAJOR shards, from two cores with whole rows: to four with whole rows, or to two with halves of rows."""

    def sharded(strategy, cores, shape, buffer=ttnn.BufferType.L1):
        grid = ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(cores - 1, 0))])
        spec = ttnn.ShardSpec(grid, shape, ttnn.ShardOrientation.ROW_MAJOR)
        return ttnn.MemoryConfig(ttnn.TensorMemoryLayout[f"{strategy}_SHARDED"], buffer, spec)

    x = bf16(4, width)
    rows = put(x, layout=ttnn.ROW_MAJOR_LAYOUT, memory=sharded("HEIGHT", 2, (2, width)))
    cores, shape = (4, (1, width)) if strategy == "HEIGHT" else (2, (4, width // 2))
    target = sharded(strategy, cores, shape, ttnn.BufferType.DRAM if in_dram else ttnn.BufferType.L1)
    if message is None:
        assert torch.equal(ttnn.to_torch(ttnn.reshard(rows, target)), x)
        return
    with pytest.raises(DeviceError, match=message):
        ttnn.reshard(rows, target)


def test_clone_casts_tiles_only(ttnn, put):
    """As ttnn, which converts in TILE layout."""
    x = bf16(32, 32)
    assert torch.equal(ttnn.to_torch(ttnn.clone(put(x), dtype=ttnn.float32)), x.float())
    with pytest.raises(
        DeviceError, match=r"^ttnn\.clone: another dtype needs TILE layout, got Layout\.ROW_MAJOR$"
    ):
        ttnn.clone(put(x, layout=ttnn.ROW_MAJOR_LAYOUT), dtype=ttnn.float32)


def test_a_vector_is_its_own_transpose(ttnn, put):
    """Of a rank 1 tensor ttnn takes the one dimension twice in ROW_MAJOR, and refuses TILE."""
    x = bf16(31)
    assert torch.equal(ttnn.to_torch(ttnn.transpose(put(x, layout=ttnn.ROW_MAJOR_LAYOUT), 0, -1)), x)
    with pytest.raises(DeviceError, match=r"needs two dimensions at least, got shape \[31\]"):
        ttnn.transpose(put(x), 0, -1)


def test_shape_ops_follow_torch(ttnn, put):
    """permute, transpose, concat, pad, repeat and reshape move values as torch does."""
    x, y = bf16(1, 3, 32, 64), bf16(1, 3, 32, 64)
    t = put(x)
    pairs = [
        (ttnn.permute(t, (0, 2, 1, 3)), x.permute(0, 2, 1, 3)),
        (ttnn.transpose(t, -2, -1), x.transpose(-2, -1)),
        (ttnn.concat([t, put(y)], dim=-1), torch.cat((x, y), -1)),
        (ttnn.pad(t, [(0, 32), (0, 0)], 1.0), torch.nn.functional.pad(x, (0, 0, 0, 32), value=1.0)),
        (ttnn.repeat(t, [2, 1, 1, 1]), x.repeat(2, 1, 1, 1)),
        (ttnn.repeat_interleave(t, 3, dim=1), x.repeat_interleave(3, 1)),
        (ttnn.reshape(t, (1, 1, -1, 192)), x.reshape(1, 1, 32, 192)),
        (ttnn.squeeze(t, 0), x.squeeze(0)),
        (ttnn.unsqueeze(t, 1), x.unsqueeze(1)),
        (ttnn.unsqueeze_to_4D(ttnn.reshape(t, (96, 64))), x.view(1, 1, 96, 64)),
    ]
    for got, expected in pairs:
        assert got.shape == list(expected.shape)
        assert torch.equal(ttnn.to_torch(got), expected)


def test_reshape_is_a_view_only_where_the_pages_stay(ttnn, put):
    """Same pages: one buffer for both tensors; other pages: a buffer of its own."""
    t = put(bf16(1, 1, 64, 64))
    assert ttnn.reshape(t, (64, 64)).buffer_address() == t.buffer_address()
    assert ttnn.reshape(t, (1, 2, 32, 64)).buffer_address() == t.buffer_address()
    assert ttnn.reshape(t, (1, 1, 128, 32)).buffer_address() != t.buffer_address()


def test_results_do_not_alias_their_inputs(ttnn, put):
    """Writing to a tensor in place leaves what was made from it before."""
    t = put(torch.zeros(1, 1, 4).int(), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
    made = [
        t[0:1],
        ttnn.permute(t, (0, 1, 2)),
        ttnn.transpose(t, 0, 1),
        ttnn.clone(t),
    ]
    ttnn.plus_one(t)
    for tensor in made:
        assert not ttnn.to_torch(tensor).any()


def test_from_torch_copies_and_to_torch_returns_a_copy(ttnn, put):
    """Neither the caller's torch tensor nor the one handed back shares memory with the device."""
    x = bf16(32, 32)
    t = put(x)
    before = x.clone()
    x.zero_()
    ttnn.to_torch(t).zero_()
    assert torch.equal(ttnn.to_torch(t), before)


def test_tensors_made_in_inference_mode_can_be_written_outside(ttnn, put):
    """torch.inference_mode around the model does not leak into later in-place ops."""
    with torch.inference_mode():
        t = put(torch.zeros(4).int(), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
    ttnn.plus_one(t)
    assert ttnn.to_torch(t).tolist() == [1, 1, 1, 1]


def test_memory_configs_move_tensors_without_changing_values(ttnn, put):
    """Interleaved to sharded and back keeps the values; the config says where it lies."""
    x, config = bf16(1, 1, 32, 576), width_sharded(ttnn, 9, 64)
    sharded = ttnn.interleaved_to_sharded(put(x), config)
    assert sharded.memory_config() == config
    assert sharded.is_sharded()
    back = ttnn.sharded_to_interleaved(sharded, ttnn.L1_MEMORY_CONFIG)
    assert back.memory_config() == ttnn.L1_MEMORY_CONFIG
    assert torch.equal(ttnn.to_torch(back), x)


@pytest.mark.parametrize(
    ("cores", "width", "height", "message"),
    [
        (8, 64, 32, "9 shards"),
        (12, 48, 32, "not a multiple of the 32x32 tile"),
        (9, 64, 64, "must equal the tensor's padded height 32"),
    ],
)
def test_shard_specs_that_do_not_fit_are_refused(ttnn, put, cores, width, height, message):
    """Too few cores, shards of broken tiles, or the wrong height: refused with what would be right."""
    with pytest.raises(DeviceError, match=message):
        ttnn.to_memory_config(put(bf16(1, 1, 32, 576)), width_sharded(ttnn, cores, width, height))


def test_layout_and_dtype_conversions(ttnn, put):
    """Block floats live in tiles only and leave them as bfloat16; conversions keep exact values."""
    x = torch.randint(-8, 8, (1, 1, 5, 70)).float()
    tiles = ttnn.to_layout(put(x, layout=ttnn.ROW_MAJOR_LAYOUT), ttnn.TILE_LAYOUT)
    assert tiles.padded_shape == [1, 1, 32, 96]
    block = ttnn.typecast(tiles, ttnn.bfloat8_b)
    rows = ttnn.to_layout(block, ttnn.ROW_MAJOR_LAYOUT)
    assert (rows.dtype, rows.padded_shape) == (ttnn.bfloat16, [1, 1, 5, 70])
    assert torch.equal(ttnn.to_torch(rows).float(), x)
    with pytest.raises(DeviceError, match="needs TILE layout"):
        ttnn.typecast(rows, ttnn.bfloat8_b)
    with pytest.raises(DeviceError, match="needs TILE layout"):
        ttnn.from_torch(x, dtype=ttnn.bfloat8_b, layout=ttnn.ROW_MAJOR_LAYOUT)


def test_embedding_looks_rows_up(ttnn, put):
    """Ids [B, S] give rows [B, S, W]; an id outside the vocabulary and int32 ids are refused."""
    table, ids = bf16(100, 64), torch.randint(0, 100, (2, 32))
    weight = put(table, layout=ttnn.ROW_MAJOR_LAYOUT)

    def rows(values, dtype=ttnn.uint32):
        return ttnn.embedding(put(values, dtype, ttnn.ROW_MAJOR_LAYOUT), weight, layout=ttnn.TILE_LAYOUT)

    assert torch.equal(ttnn.to_torch(rows(ids)), table[ids])
    with pytest.raises(DeviceError, match="id 100 "):
        rows(torch.tensor([[100]]))
    with pytest.raises(DeviceError, match="UINT32"):
        rows(ids.int(), ttnn.int32)


def test_deallocated_tensors_cannot_be_used(ttnn, put):
    """An op on a deallocated tensor, or on a view of it, is a use after free that names the op."""
    t = put(bf16(32, 32))
    view = ttnn.reshape(t, (1, 32, 32))
    ttnn.deallocate(t)
    assert not t.is_allocated()
    for gone in (t, view):
        with pytest.raises(UseAfterFreeError, match=r"ttnn\.silu"):
            ttnn.silu(gone)


def test_memory_returns_when_the_last_tensor_goes(ttnn, put):
    """A buffer lives as long as any tensor over it, then its address is given out again."""
    t = put(bf16(32, 32))
    address, view = t.buffer_address(), ttnn.reshape(t, (1, 32, 32))
    del t
    gc.collect()
    assert put(bf16(32, 32)).buffer_address() != address
    del view
    gc.collect()
    assert put(bf16(32, 32)).buffer_address() == address


def test_l1_overflow_names_the_op(ttnn, put):
    """An output that does not fit in L1 is refused with op, need and room."""
    big = put(torch.zeros(1, 1, 8192, 8192))
    with pytest.raises(OutOfMemoryError, match=r"ttnn\.to_memory_config: out of L1"):
        ttnn.to_memory_config(big, ttnn.L1_MEMORY_CONFIG)


def test_copy_host_to_device_keeps_the_address_and_checks_the_spec(ttnn, put):
    """Inputs are refreshed in place; another shape or dtype is refused."""
    t = put(torch.zeros(32).int(), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
    address = t.buffer_address()
    ttnn.copy_host_to_device_tensor(ttnn.from_torch(torch.arange(32).int()), t)
    assert t.buffer_address() == address
    assert ttnn.to_torch(t).tolist() == list(range(32))
    for wrong in (torch.zeros(16).int(), torch.zeros(32)):
        with pytest.raises(DeviceError, match="must equal the device tensor's"):
            ttnn.copy_host_to_device_tensor(ttnn.from_torch(wrong), t)


def test_a_mesh_holds_one_shard_per_device(ttnn):
    """Mappers spread a tensor, composers join it, ops run on every device, and reading without a composer is refused."""
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2))
    x = bf16(1, 1, 32, 128)
    t = ttnn.from_torch(
        x,
        dtype=ttnn.bfloat16,
        layout=ttnn.TILE_LAYOUT,
        device=mesh,
        mesh_mapper=ttnn.ShardTensorToMesh(mesh, dim=-1),
    )
    assert t.shape == [1, 1, 32, 64]
    doubled = ttnn.mul(t, 2.0)
    joined = ttnn.to_torch(doubled, mesh_composer=ttnn.ConcatMeshToTensor(mesh, dim=-1))
    assert torch.equal(joined, x * 2)
    with pytest.raises(DeviceError, match="mesh_composer"):
        ttnn.to_torch(t)
