"""How a torch tensor is spread over a mesh and put together again; devices are numbered row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.emulator.errors import DeviceError, refuse
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.spec.geometry import MeshShape


@dataclass(frozen=True)
class PlacementReplicate:
    """Along an axis of the mesh every device has the whole tensor."""


@dataclass(frozen=True)
class PlacementShard:
    """Along an axis of the mesh the devices have equal slices along `dim`."""

    dim: int


Placement = PlacementReplicate | PlacementShard


class MeshMapperConfig:
    """A placement for each axis of the mesh, or for rows and columns the dimension each shards (None: replicated)."""

    def __init__(
        self,
        placements: Sequence[Placement] | None = None,
        *,
        row_dim: int | None = None,
        col_dim: int | None = None,
    ) -> None:
        dims = (PlacementReplicate() if dim is None else PlacementShard(dim) for dim in (row_dim, col_dim))
        self.placements: tuple[Placement, ...] = tuple(dims if placements is None else placements)


class TensorToMesh:
    """Splits one torch tensor into one per device."""

    def __init__(self, shape: MeshShape, placements: Sequence[Placement]) -> None:
        if len(placements) != len(shape):
            raise DeviceError(
                f"ttnn.create_mesh_mapper: {len(placements)} placements for a mesh of {len(shape)} dimensions"
            )
        self.shape, self.placements = shape, placements

    def split(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Replicas are one and the same tensor."""
        pieces = [tensor]
        for devices, placement in zip(self.shape, self.placements, strict=True):
            parts = {id(piece): _along(piece, devices, placement) for piece in pieces}
            pieces = [part for piece in pieces for part in parts[id(piece)]]
        return pieces


class ReplicateTensorToMesh(TensorToMesh):
    """The whole tensor on every device."""

    def __init__(self, mesh_device: MeshDevice) -> None:
        super().__init__(mesh_device.shape, [PlacementReplicate()] * len(mesh_device.shape))


class ShardTensorToMesh(TensorToMesh):
    """Equal slices along `dim`, one a device."""

    def __init__(self, mesh_device: MeshDevice, dim: int) -> None:
        super().__init__(MeshShape(mesh_device.num_devices), [PlacementShard(dim)])


class MeshComposerConfig:
    """For each axis of the mesh the dimension its devices' tensors are joined along."""

    def __init__(
        self, dims: Sequence[int] | None = None, *, row_dim: int | None = None, col_dim: int | None = None
    ) -> None:
        tensor_dims = (row_dim, col_dim) if dims is None else dims
        self.dims: tuple[int, ...] = tuple(dim for dim in tensor_dims if dim is not None)


class MeshToTensor:
    """Joins the devices' tensors along one dimension for each axis of the mesh."""

    def __init__(self, shape: MeshShape, dims: Sequence[int]) -> None:
        if len(dims) != len(shape):
            raise DeviceError(
                f"ttnn.create_mesh_composer: {len(dims)} dimensions for a mesh of {len(shape)} dimensions"
            )
        self.shape, self.dims = shape, dims

    def join(self, shards: Sequence[torch.Tensor]) -> torch.Tensor:
        """Shards in device order -> one tensor."""
        for devices, dim in reversed(list(zip(self.shape, self.dims, strict=True))):
            shards = [torch.cat(list(shards[i : i + devices]), dim) for i in range(0, len(shards), devices)]
        return shards[0]


class ConcatMeshToTensor(MeshToTensor):
    """Joins the devices' tensors along `dim`."""

    def __init__(self, mesh_device: MeshDevice, dim: int) -> None:
        super().__init__(MeshShape(mesh_device.num_devices), [dim])


def create_mesh_mapper(mesh_device: MeshDevice, config: MeshMapperConfig) -> TensorToMesh:
    return TensorToMesh(mesh_device.shape, config.placements)


def create_mesh_composer(mesh_device: MeshDevice, config: MeshComposerConfig) -> MeshToTensor:
    return MeshToTensor(mesh_device.shape, config.dims)


def ShardTensor2dMesh(
    mesh_device: MeshDevice, mesh_shape: tuple[int, int], dims: tuple[int | None, int | None]
) -> TensorToMesh:
    """Slices along dims[0] over the rows of the mesh and along dims[1] over its columns; None: replicated there."""
    _check_whole("ttnn.ShardTensor2dMesh", mesh_device, mesh_shape)
    return create_mesh_mapper(mesh_device, MeshMapperConfig(row_dim=dims[0], col_dim=dims[1]))


def ConcatMesh2dToTensor(
    mesh_device: MeshDevice, mesh_shape: tuple[int, int], dims: tuple[int, int]
) -> MeshToTensor:
    """Joins what the rows of the mesh hold along dims[0] and what its columns hold along dims[1]."""
    _check_whole("ttnn.ConcatMesh2dToTensor", mesh_device, mesh_shape)
    return create_mesh_composer(mesh_device, MeshComposerConfig(dims))


def _check_whole(op: str, mesh_device: MeshDevice, mesh_shape: tuple[int, int]) -> None:
    if tuple(mesh_shape) != tuple(mesh_device.shape):
        refuse(
            op,
            f"the emulator maps to the whole {list(mesh_device.shape)} mesh, not to {list(mesh_shape)} of it",
        )


def replicate_tensor_to_mesh_mapper(mesh_device: MeshDevice) -> ReplicateTensorToMesh:
    return ReplicateTensorToMesh(mesh_device)


def shard_tensor_to_mesh_mapper(mesh_device: MeshDevice, dim: int) -> ShardTensorToMesh:
    return ShardTensorToMesh(mesh_device, dim)


def concat_mesh_to_tensor_composer(mesh_device: MeshDevice, dim: int) -> ConcatMeshToTensor:
    return ConcatMeshToTensor(mesh_device, dim)


def axis_groups(op: str, mesh_device: MeshDevice, cluster_axis: int | None) -> list[list[int]]:
    """Which devices a collective joins: all, or along one axis of the mesh those that share the other coordinate."""
    everyone = list(range(mesh_device.num_devices))
    if cluster_axis is None:
        return [everyone]
    rows, columns = mesh_device.shape
    if cluster_axis not in (0, 1):
        refuse(op, f"cluster_axis {cluster_axis} of a mesh of 2 dimensions: 0 or 1")
    if cluster_axis == 0:
        return [everyone[column::columns] for column in range(columns)]
    return [everyone[row * columns : (row + 1) * columns] for row in range(rows)]


def _along(piece: torch.Tensor, devices: int, placement: Placement) -> list[torch.Tensor]:
    if isinstance(placement, PlacementReplicate):
        return [piece] * devices
    dim = placement.dim
    if not -piece.dim() <= dim < piece.dim():
        raise DeviceError(f"ttnn.ShardTensorToMesh: no dim {dim} in a tensor of shape {list(piece.shape)}")
    if piece.shape[dim] == 1:  # ttnn replicates what it cannot split
        return [piece] * devices
    if piece.shape[dim] % devices:
        raise DeviceError(
            f"ttnn.ShardTensorToMesh: dim {dim} of shape {list(piece.shape)} does not divide by {devices} devices"
        )
    return list(piece.chunk(devices, dim))
