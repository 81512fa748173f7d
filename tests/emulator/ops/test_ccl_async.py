"""Asynchronous collectives give what the synchronous ones do, into buffers that are there, by every way of naming arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ttnn

from harness.emulator.errors import DeviceError


@pytest.fixture(scope="module", params=["FABRIC_1D", "FABRIC_1D_RING"])
def mesh(request: pytest.FixtureRequest) -> Iterator[Any]:
    ttnn.set_fabric_config(getattr(ttnn.FabricConfig, request.param))
    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 8))
    yield device
    ttnn.close_mesh_device(device)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


@pytest.fixture
def semaphores(mesh: Any) -> list[Any]:
    cores = ttnn.CoreRangeSet([ttnn.CoreRange((0, 0), (7, 7))])
    return [ttnn.create_global_semaphore(mesh, cores, 0) for _ in range(3)]


def tensor(mesh: Any, *shape: int) -> Any:
    """Random numbers, others on each device; of one seed."""
    whole = torch.randn(8 * shape[0], *shape[1:], generator=torch.Generator().manual_seed(3))
    mapper = ttnn.ShardTensorToMesh(mesh, dim=0)
    return ttnn.from_torch(
        whole, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper
    )


def held(x: Any) -> list[torch.Tensor]:
    return [ttnn.to_torch(part) for part in ttnn.get_device_tensors(x)]


def same(x: Any, y: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(held(x), held(y), strict=True))


def test_gathers_however_it_is_called(mesh: Any, semaphores: list[Any]) -> None:
    x, two = tensor(mesh, 1, 1, 32, 64), semaphores[:2]
    gather, expected = ttnn.experimental.all_gather_async, ttnn.all_gather(x, 3)
    line = ttnn.Topology.Linear
    for result in (
        gather(x, 3, two, topology=line),
        gather(x, None, 3, two),
        gather(x, persistent_output_buffer=None, dim=3, multi_device_global_semaphore=two, num_links=1),
        gather(x, 3, 1, mesh, line, two),
        gather(x, dim=-1, cluster_axis=1, mesh_device=mesh, topology=line, multi_device_global_semaphore=two),
    ):
        assert result.shape == expected.shape
        assert same(result, expected)
    target = ttnn.zeros_like(expected)
    again = gather(x, persistent_output_buffer=target, dim=3, multi_device_global_semaphore=two)
    assert again is target
    assert same(target, expected)


def test_sums_are_the_synchronous_ones(mesh: Any, semaphores: list[Any]) -> None:
    """On a ring the kernel is the ring's own, which a tuning argument makes the synchronous op take."""
    x = tensor(mesh, 1, 1, 32, 512)
    expected = ttnn.reduce_scatter(x, 3, num_workers_per_link=1)
    scatter = ttnn.experimental.reduce_scatter_minimal_async
    assert same(scatter(x, dim=3, multi_device_global_semaphore=semaphores), expected)
    buffers = [ttnn.zeros_like(x), ttnn.zeros_like(expected)]
    result = scatter(x, buffers, 3, semaphores, barrier_semaphore=semaphores[0])
    assert result is buffers[1]
    assert same(result, expected)
    total = ttnn.experimental.all_reduce_async(
        x, cluster_axis=1, mesh_device=mesh, math_op=ttnn.ReduceType.Sum, topology=ttnn.Topology.Ring
    )
    assert same(total, ttnn.all_gather(expected, 3))


def test_a_line_on_a_ring(mesh: Any, semaphores: list[Any]) -> None:
    """With Topology.Linear partial sums run along the line, whatever the fabric."""
    x = tensor(mesh, 1, 1, 32, 512)
    line = ttnn.experimental.reduce_scatter_minimal_async(
        x, dim=3, multi_device_global_semaphore=semaphores, topology=ttnn.Topology.Linear
    )
    parts = held(x)
    first = parts[7].float()
    for part in reversed(parts[1:7]):
        first = (first + part.float()).bfloat16().float()
    # Of device 0's slice there is one side: what comes from behind, then its own.
    expected = (parts[0].float() + first).bfloat16()[..., :64]
    got = held(line)[0]
    assert torch.allclose(got.float(), expected.float(), rtol=2**-6, atol=2**-4)
    ring = ttnn.experimental.reduce_scatter_minimal_async(x, dim=3, multi_device_global_semaphore=semaphores)
    with_fabric = ttnn.reduce_scatter(x, 3, num_workers_per_link=1)
    assert same(ring, with_fabric)


def test_semaphores_are_counted_and_other_ops_than_the_sum_refused(mesh: Any, semaphores: list[Any]) -> None:
    x = tensor(mesh, 1, 1, 32, 512)
    with pytest.raises(DeviceError, match="must be 2 semaphores, got 1"):
        ttnn.experimental.all_gather_async(x, dim=3, multi_device_global_semaphore=semaphores[0])
    with pytest.raises(DeviceError, match="must be 3 semaphores, got 2"):
        ttnn.experimental.reduce_scatter_minimal_async(x, None, 3, semaphores[:2])
    with pytest.raises(DeviceError, match=r"ReduceType\.Sum only"):
        ttnn.experimental.all_reduce_async(x, cluster_axis=1, math_op=ttnn.ReduceType.Max)
    ttnn.reset_global_semaphore_value(semaphores[0], 7)
    assert semaphores[0].value == 7
