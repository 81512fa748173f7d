"""The executor of shapes: every op is checked and allocated, and none is computed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.runtime.execution import Executor, allocated
from harness.emulator.runtime.tensor import Compute, Shards, Tensor
from harness.emulator.spec.types import DataType


class ShapesOnly(Executor):
    """Tensors have a shape and a dtype and no values; for use under torch's FakeTensorMode, where none are held."""

    def make(self, op: str, compute: Compute, tensor: Tensor, mesh: MeshDevice) -> Tensor:
        tensor.storage = allocated(op, tensor, mesh)
        shape, dtype = tuple(tensor.shape), formats.storage_dtype(tensor.dtype)
        tensor.shards = Shards([torch.empty(shape, dtype=dtype)]).on_all(mesh.num_devices)
        return tensor

    def write(self, compute: Callable[[], None], target: Tensor) -> None:
        target.written()

    def host_value(
        self, compute: Callable[[], torch.Tensor], shape: tuple[int, ...], dtype: DataType
    ) -> torch.Tensor:
        return torch.empty(shape, dtype=formats.storage_dtype(dtype))
