"""Collectives as ops: specs, groups of a mesh, refusals in ttnn's words, and what is held once stays right when written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ttnn

from harness.emulator.errors import DeviceError
from harness.emulator.runtime.distinct_shards import replicated


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """Two rows of four devices."""
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    device = ttnn.open_mesh_device(ttnn.MeshShape(2, 4))
    yield device
    ttnn.close_mesh_device(device)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


def numbered(mesh: Any, *shape: int) -> Any:
    """On device d a tensor of d + 1 everywhere."""
    whole = torch.cat([torch.full((1, *shape[1:]), d + 1.0) for d in range(8)])
    return put(mesh, whole, ttnn.ShardTensorToMesh(mesh, dim=0))


def put(mesh: Any, tensor: torch.Tensor, mapper: Any = None, dtype: Any = ttnn.bfloat16) -> Any:
    mapper = mapper or ttnn.ReplicateTensorToMesh(mesh)
    return ttnn.from_torch(tensor, dtype=dtype, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper)


def held(tensor: Any) -> list[torch.Tensor]:
    return [ttnn.to_torch(part) for part in ttnn.get_device_tensors(tensor)]


@pytest.mark.parametrize(
    ("axis", "sums"), [(None, [36] * 8), (1, [10] * 4 + [26] * 4), (0, [6, 8, 10, 12] * 2)]
)
def test_all_reduce_sums_over_all_or_along_an_axis(mesh: Any, axis: int | None, sums: list[int]) -> None:
    """Devices of a row share its sum, or of a column; the spec stays."""
    x = numbered(mesh, 1, 1, 32, 256)
    y = ttnn.all_reduce(x, cluster_axis=axis)
    assert [float(t.max()) for t in held(y)] == [float(t.min()) for t in held(y)] == sums
    assert (y.shape, y.dtype, y.memory_config()) == (x.shape, x.dtype, x.memory_config())


def test_gather_and_scatter_along_an_axis(mesh: Any) -> None:
    """A row's tensors side by side in device order; a device keeps the slice of the sum that has its number."""
    x = numbered(mesh, 1, 1, 32, 128)
    gathered = held(ttnn.all_gather(x, dim=-1, cluster_axis=1))
    assert gathered[0][0, 0, 0, ::128].tolist() == [1, 2, 3, 4]
    assert gathered[7][0, 0, 0, ::128].tolist() == [5, 6, 7, 8]
    scattered = ttnn.reduce_scatter(x, dim=3, cluster_axis=1)
    assert list(scattered.shape) == [1, 1, 32, 32]
    assert [float(t.max()) for t in held(scattered)] == [10] * 4 + [26] * 4


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: ttnn.all_gather(x, dim=4), "Invalid gather dim 4 for 4D input tensor"),
        (
            lambda x: ttnn.reduce_scatter(x, dim=0, cluster_axis=1),
            "Dimension 0 must be divisible by ring_size",
        ),
        (lambda x: ttnn.all_reduce(x, cluster_axis=2), "cluster_axis 2"),
    ],
)
def test_refusals_name_the_op_and_the_reason(mesh: Any, call: Any, reason: str) -> None:
    """As the real ttnn says it, on one line."""
    with pytest.raises(RuntimeError, match=reason) as caught:
        call(numbered(mesh, 1, 1, 32, 128))
    assert str(caught.value).startswith("ttnn.")
    assert "\n" not in str(caught.value)


def test_no_fabric_no_collective(mesh: Any) -> None:
    """Without a fabric ttnn has nothing to send over; the line says which call is missing."""
    x = numbered(mesh, 1, 1, 32, 128)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)
    with pytest.raises(RuntimeError, match="set_fabric_config"):
        ttnn.all_reduce(x)
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)


def test_mappers_and_composers_are_inverse(mesh: Any) -> None:
    """Rows of a mesh shard one dimension and columns another; joined the same way they are the whole."""
    tensor = torch.randn(1, 1, 64, 128).bfloat16()
    config = ttnn.MeshMapperConfig([ttnn.PlacementShard(2), ttnn.PlacementShard(3)])
    there = put(mesh, tensor, ttnn.create_mesh_mapper(mesh, config))
    assert list(there.shape) == [1, 1, 32, 32]
    composer = ttnn.create_mesh_composer(mesh, ttnn.MeshComposerConfig([2, 3]))
    assert torch.equal(ttnn.to_torch(there, mesh_composer=composer), tensor)


def test_replicas_are_computed_once_and_parted_by_a_write(mesh: Any) -> None:
    """An op on replicas gives replicas; a write with a different tensor on each device leaves each its own."""
    x = put(mesh, torch.ones(1, 1, 32, 64))
    y = ttnn.add(x, x)
    assert replicated(y)
    assert not replicated(ttnn.add(x, numbered(mesh, 1, 1, 32, 64)))
    ttnn.copy(numbered(mesh, 1, 1, 32, 64), y)
    assert [float(t.max()) for t in held(y)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert float(held(x)[3].max()) == 1


def test_devices_that_are_alike_are_computed_once_each_kind(mesh: Any) -> None:
    """The devices of a row, which hold the same: an op's result and a tensor it writes are one a row, and no other's."""
    by_row = put(mesh, numbered_rows(2), ttnn.ShardTensor2dMesh(mesh, (2, 4), (0, None)))
    by_column = put(mesh, numbered_rows(4), ttnn.ShardTensor2dMesh(mesh, (2, 4), (None, 0)))
    written, same = put(mesh, torch.zeros(1, 1, 32, 32)), put(mesh, torch.ones(1, 1, 32, 32))
    ttnn.copy(by_row, written)
    for tensor, kinds, values in (
        (ttnn.add(by_row, same), 2, [2] * 4 + [3] * 4),
        (ttnn.add(same, by_column), 4, [2, 3, 4, 5] * 2),
        (ttnn.add(by_row, by_column), 8, [2, 3, 4, 5, 3, 4, 5, 6]),
        (written, 2, [1] * 4 + [2] * 4),
    ):
        assert [float(t.max()) for t in held(tensor)] == values
        assert len({id(shard) for shard in tensor.shards}) == kinds
    assert [float(t.max()) for t in held(by_row)] == [1] * 4 + [2] * 4
    assert replicated(same)


def numbered_rows(count: int) -> torch.Tensor:
    """Tensor i of [count, 1, 32, 32] is i + 1 everywhere."""
    return torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)


def test_a_tensor_goes_over_both_axes_and_comes_back(mesh: Any) -> None:
    """Rows of the mesh share the tensor's rows, columns its columns; None replicates along an axis."""
    x = torch.randn(1, 1, 64, 256).bfloat16()
    there = put(mesh, x, ttnn.ShardTensor2dMesh(mesh, (2, 4), (2, 3)))
    assert torch.equal(held(there)[6], x[..., 32:, 128:192])
    composer = ttnn.ConcatMesh2dToTensor(mesh, (2, 4), (2, 3))
    assert torch.equal(ttnn.to_torch(there, mesh_composer=composer), x)
    columns = held(put(mesh, x, ttnn.ShardTensor2dMesh(mesh, (2, 4), (None, 3))))
    assert torch.equal(columns[1], columns[5])
    assert torch.equal(columns[1], x[..., 64:128])
    with pytest.raises(DeviceError, match="whole"):
        ttnn.ShardTensor2dMesh(mesh, (4, 2), (2, 3))


def test_k_split_over_one_axis_and_columns_over_the_other_multiply_to_the_whole(mesh: Any) -> None:
    """A weight on both axes: products of each device's part, summed along the axis that divides K, are the product's columns."""
    x, w = (torch.randint(-2, 3, shape).bfloat16() for shape in ((1, 1, 32, 128), (1, 1, 128, 128)))
    part = ttnn.matmul(
        put(mesh, x, ttnn.ShardTensor2dMesh(mesh, (2, 4), (None, 3))),
        put(mesh, w, ttnn.ShardTensor2dMesh(mesh, (2, 4), (3, 2))),
    )
    summed = ttnn.all_reduce(part, cluster_axis=1)
    columns = held(ttnn.all_gather(summed, 3, cluster_axis=0))
    for device in columns:
        assert torch.equal(device.float(), x.float() @ w.float())


@pytest.mark.parametrize(
    ("width", "source", "dim", "lands"),
    [
        (24, "DRAM", -2, "DRAM"),  # 48 B: a row that DRAM pads and L1 does not
        (24, "L1", -2, "L1"),
        (24, "L1", -1, "L1"),
        (24, "DRAM", -1, "DRAM"),
        (33, "L1", -1, "DRAM"),
        (33, "L1", -2, "L1"),
        (16, "DRAM", -2, "L1"),
    ],
)
def test_gathered_rows_with_padding_land_in_dram(mesh: Any, width: int, source: str, dim: int, lands: str):
    """As the real ttnn on a dry run answers, whatever memory config is asked for."""
    where = {"DRAM": ttnn.DRAM_MEMORY_CONFIG, "L1": ttnn.L1_MEMORY_CONFIG}
    x = ttnn.from_torch(
        torch.zeros(2, 4, width), dtype=ttnn.bfloat16, device=mesh, memory_config=where[source]
    )
    gathered = ttnn.all_gather(x, dim, cluster_axis=1, memory_config=ttnn.L1_MEMORY_CONFIG)
    assert gathered.memory_config() == where[lands]
