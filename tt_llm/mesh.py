"""Opening a mesh of devices, putting host tensors on it, and the collectives over its devices."""

from __future__ import annotations

import re

import torch
import ttnn

from tt_llm.errors import InputError

TRACE_REGION = 32 << 20  # bytes of DRAM kept for traces; tt-metal's own tests keep up to 34 MB


def parse_mesh_shape(text: str) -> tuple[int, int]:
    """ "1x2" -> (1, 2), rows by columns. Raises InputError for anything that is not a mesh shape."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise InputError(f"mesh {text!r}: give rows x columns, such as 1x1")
    return int(match[1]), int(match[2])


def open_mesh(shape: tuple[int, int]) -> ttnn.MeshDevice:
    """Opens a mesh of rows x columns devices, joined in a line along each axis, fit for traces."""
    if shape != (1, 1):
        ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    return ttnn.open_mesh_device(ttnn.MeshShape(*shape), trace_region_size=TRACE_REGION, num_command_queues=2)


def replicate(
    tensor: torch.Tensor,
    mesh_device: ttnn.MeshDevice,
    dtype: ttnn.DataType,
    layout: ttnn.Layout = ttnn.TILE_LAYOUT,
    memory_config: ttnn.MemoryConfig = ttnn.DRAM_MEMORY_CONFIG,
) -> ttnn.Tensor:
    """The whole host tensor on every device of the mesh."""
    return ttnn.from_torch(
        tensor,
        dtype=dtype,
        layout=layout,
        device=mesh_device,
        memory_config=memory_config,
        mesh_mapper=ttnn.ReplicateTensorToMesh(mesh_device),
    )


def scatter(
    tensor: torch.Tensor,
    mesh_device: ttnn.MeshDevice,
    dim: int | tuple[int | None, int | None],
    dtype: ttnn.DataType,
    memory_config: ttnn.MemoryConfig = ttnn.DRAM_MEMORY_CONFIG,
    layout: ttnn.Layout = ttnn.TILE_LAYOUT,
) -> ttnn.Tensor:
    """An equal slice of the host tensor along `dim` on each device, in device order.

    Of two dimensions the first is sliced over the rows of the mesh and the second over its columns; None: not sliced there.
    """
    if isinstance(dim, int):
        mapper = ttnn.ShardTensorToMesh(mesh_device, dim=dim)
    else:
        mapper = ttnn.ShardTensor2dMesh(mesh_device, mesh_shape=tuple(mesh_device.shape), dims=dim)
    return ttnn.from_torch(
        tensor,
        dtype=dtype,
        layout=layout,
        device=mesh_device,
        memory_config=memory_config,
        mesh_mapper=mapper,
    )


def to_host(tensor: ttnn.Tensor, device: int = 0) -> torch.Tensor:
    """What one device holds, in its logical shape; block floats come as float32. Of a replicated tensor that is all."""
    host: torch.Tensor = ttnn.to_torch(ttnn.get_device_tensors(tensor)[device])
    return host


def concat_to_host(tensor: ttnn.Tensor, dim: int, devices: int | None = None) -> torch.Tensor:
    """The slices of the first devices (default: of all) side by side along `dim`: the inverse of `scatter`."""
    slices = [ttnn.to_torch(each) for each in ttnn.get_device_tensors(tensor)[:devices]]
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim)  # one slice as it is: logits are large


# Of the collectives below: `cluster_axis` of the mesh along which devices communicate, None for all devices of the mesh.


def all_reduce(tensor: ttnn.Tensor, cluster_axis: int | None = None) -> ttnn.Tensor:
    """The sum over the devices, on all of them, with the tensor's memory config; on one device the tensor itself."""
    memory, axes = tensor.memory_config(), _axes(tensor, cluster_axis)
    if axes and memory.is_sharded():
        # Where no dimension divides by the devices, ttnn gathers on a new one, for which no shard spec fits.
        tensor = ttnn.sharded_to_interleaved(tensor, ttnn.L1_MEMORY_CONFIG)
    for axis in axes:
        total = ttnn.all_reduce(tensor, cluster_axis=axis)
        ttnn.deallocate(tensor)
        tensor = total
    return ttnn.interleaved_to_sharded(tensor, memory) if axes and memory.is_sharded() else tensor


def all_gather(
    tensor: ttnn.Tensor, width: int, memory: ttnn.MemoryConfig, cluster_axis: int | None = None
) -> ttnn.Tensor:
    """The devices' columns side by side and of those the first `width`, on all devices, lying as `memory` says."""
    inner = ttnn.L1_MEMORY_CONFIG if memory.is_sharded() else memory
    if tensor.memory_config().is_sharded():
        tensor = ttnn.sharded_to_interleaved(tensor, inner)
    for axis in _axes(tensor, cluster_axis):
        tensor = ttnn.all_gather(tensor, 3, cluster_axis=axis, memory_config=inner)
    if tensor.shape[-1] > width:
        tensor = ttnn.slice(tensor, (0, 0, 0, 0), (1, 1, tensor.shape[-2], width))
    return ttnn.interleaved_to_sharded(tensor, memory) if memory.is_sharded() else tensor


def reduce_scatter(tensor: ttnn.Tensor) -> ttnn.Tensor:
    """The sum over all devices, of which each keeps its columns."""
    for axis in reversed(_axes(tensor, None)):
        tensor = ttnn.reduce_scatter(tensor, 3, cluster_axis=axis)
    return tensor


def partition(tensor: ttnn.Tensor, cluster_axis: int | None = None) -> ttnn.Tensor:
    """Of what all devices hold, each keeps its columns: the inverse of `all_gather`."""
    for axis in reversed(_axes(tensor, cluster_axis)):
        tensor = ttnn.mesh_partition(tensor, 3, cluster_axis=axis)
    return tensor


def _axes(tensor: ttnn.Tensor, cluster_axis: int | None) -> list[int]:
    """The axes of the mesh, or the one given, along which there are several devices; that with consecutive devices first."""
    shape = tensor.device().shape
    return [a for a in (1, 0) if shape[a] > 1 and cluster_axis in (None, a)]
