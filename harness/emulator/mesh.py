"""How a torch tensor is spread over a mesh and put together again."""

from __future__ import annotations

import torch

from harness.emulator.device import MeshDevice
from harness.emulator.errors import DeviceError


class TensorToMesh:
    """Splits one torch tensor into one per device."""

    def split(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        raise NotImplementedError


class ReplicateTensorToMesh(TensorToMesh):
    """The whole tensor on every device."""

    def __init__(self, mesh_device: MeshDevice) -> None:
        self.num_devices = mesh_device.num_devices

    def split(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        return [tensor] * self.num_devices


class ShardTensorToMesh(TensorToMesh):
    """Equal slices along `dim`, one a device."""

    def __init__(self, mesh_device: MeshDevice, dim: int) -> None:
        self.num_devices, self.dim = mesh_device.num_devices, dim

    def split(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        if tensor.shape[self.dim] % self.num_devices:
            raise DeviceError(
                f"ttnn.ShardTensorToMesh: dim {self.dim} of shape {list(tensor.shape)} does not divide by "
                f"{self.num_devices} devices"
            )
        return list(tensor.chunk(self.num_devices, self.dim))


class ConcatMeshToTensor:
    """Joins the devices' tensors along `dim`."""

    def __init__(self, mesh_device: MeshDevice, dim: int) -> None:
        self.dim = dim

    def join(self, shards: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(shards, self.dim)


def replicate_tensor_to_mesh_mapper(mesh_device: MeshDevice) -> ReplicateTensorToMesh:
    return ReplicateTensorToMesh(mesh_device)


def shard_tensor_to_mesh_mapper(mesh_device: MeshDevice, dim: int) -> ShardTensorToMesh:
    return ShardTensorToMesh(mesh_device, dim)


def concat_mesh_to_tensor_composer(mesh_device: MeshDevice, dim: int) -> ConcatMeshToTensor:
    return ConcatMeshToTensor(mesh_device, dim)
