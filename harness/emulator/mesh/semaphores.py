"""Global semaphores, which asynchronous collectives are handed: an emulated device needs none, and they take no memory."""

from __future__ import annotations

from dataclasses import dataclass

from harness.emulator.mesh.device import MeshDevice
from harness.emulator.spec.geometry import CoreRangeSet
from harness.emulator.spec.types import BufferType


@dataclass
class GlobalSemaphore:
    device: MeshDevice
    cores: CoreRangeSet
    value: int


def create_global_semaphore(
    mesh_device: MeshDevice, cores: CoreRangeSet, initial_value: int, buffer_type: BufferType = BufferType.L1
) -> GlobalSemaphore:
    return GlobalSemaphore(mesh_device, cores, initial_value)


def reset_global_semaphore_value(global_semaphore: GlobalSemaphore, reset_value: int) -> None:
    global_semaphore.value = reset_value
