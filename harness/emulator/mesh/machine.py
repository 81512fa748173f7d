"""The machine the emulator stands for: which boards it has, how many devices, and how ttnn dispatches on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.emulator.errors import refuse
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.spec.types import ClusterType, DispatchCoreAxis, DispatchCoreType


@dataclass(frozen=True)
class _Boards:
    """`on_pcie`: the devices the host reaches itself, the first ones. `dispatch`: the cores ttnn dispatches from when not told."""

    cluster: ClusterType
    devices: int
    on_pcie: int
    dispatch: DispatchCoreType


# What ttnn 0.81.1 says of the mock cluster of each.
_BOARDS = (
    _Boards(ClusterType.N150, 1, 1, DispatchCoreType.WORKER),
    _Boards(ClusterType.N300, 2, 1, DispatchCoreType.ETH),
    _Boards(ClusterType.T3K, 8, 4, DispatchCoreType.ETH),
    _Boards(ClusterType.GALAXY, 32, 32, DispatchCoreType.WORKER),
)
_boards = _BOARDS[0]
_default_device: MeshDevice | None = None


def set_machine(mesh: Sequence[int]) -> None:
    """The smallest machine that has a mesh of this shape. Raises ValueError where none has."""
    global _boards
    devices = math.prod(mesh)
    if devices > _BOARDS[-1].devices:
        raise ValueError(
            f"mesh {list(mesh)}: the emulator's largest machine has {_BOARDS[-1].devices} devices"
        )
    _boards = next(each for each in _BOARDS if each.devices >= devices)


def get_num_devices() -> int:
    """Devices of the machine, whatever mesh is open."""
    return _boards.devices


def get_num_pcie_devices() -> int:
    return _boards.on_pcie


def get_device_ids() -> list[int]:
    return list(range(_boards.devices))


def get_pcie_device_ids() -> list[int]:
    return list(range(_boards.on_pcie))


def get_cluster_type() -> ClusterType:
    return _boards.cluster


def get_arch_name() -> str:
    return "wormhole_b0"


def using_distributed_env() -> bool:
    """Whether several hosts run the mesh: never here."""
    return False


def read_device_profiler(device: MeshDevice) -> None:
    """Reads nothing: the emulated device has no profiler. Raises TypeError for what is no device."""
    if not isinstance(device, MeshDevice):
        raise TypeError(f"ttnn.ReadDeviceProfiler: device must be a ttnn.MeshDevice, got {device!r}")


def set_default_device(device: MeshDevice | None = None) -> None:
    """What `get_default_device` then gives; no op looks at it. Raises TypeError for what is no device."""
    global _default_device
    if device is not None and not isinstance(device, MeshDevice):
        raise TypeError(f"ttnn.SetDefaultDevice: device must be a ttnn.MeshDevice or None, got {device!r}")
    _default_device = device


def get_default_device() -> MeshDevice | None:
    return _default_device


class DispatchCoreConfig:
    """The cores ttnn would dispatch from, by what was asked for and the machine: the emulator has none.

    Raises DeviceError for columns of Ethernet cores.
    """

    def __init__(
        self,
        type: DispatchCoreType | None = None,
        axis: DispatchCoreAxis | None = None,
        fabric_tensix_config: object = None,
    ) -> None:
        if axis is not None:
            axis = DispatchCoreAxis(axis) if isinstance(axis, int) else axis
        if type is None:
            type = DispatchCoreType.WORKER if axis is DispatchCoreAxis.COL else _boards.dispatch
        if (type, axis) == (DispatchCoreType.ETH, DispatchCoreAxis.COL):
            refuse("ttnn.DispatchCoreConfig", "axis COL is not supported for dispatch cores of type ETH")
        self.type = type
        self.axis = axis or DispatchCoreAxis.ROW
