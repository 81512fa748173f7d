"""What the emulator says of the machine it stands for is what the real ttnn says of its mock cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from types import ModuleType
from typing import Any

import pytest

from harness.emulator import DeviceError

_SAID = """
import json, sys
from harness.targets import activate
activate(sys.argv[1], sys.argv[2])
import ttnn
types, axes = (None, *ttnn.DispatchCoreType), (None, *ttnn.DispatchCoreAxis)
chosen = {}
for one in types:
    for axis in axes:
        try:
            config = ttnn.DispatchCoreConfig(one, axis)
            chosen[f"{one} {axis}"] = f"{config.type} {config.axis}"
        except RuntimeError:
            chosen[f"{one} {axis}"] = "refused"
numbers = {each: each.value for enum in (ttnn.FabricReliabilityMode, ttnn.DispatchCoreType, ttnn.DispatchCoreAxis) for each in enum}
numbers |= {each: each.value for each in (ttnn.FabricConfig.DISABLED, ttnn.FabricConfig.FABRIC_1D, ttnn.FabricConfig.FABRIC_1D_RING)}
numbers |= {each: each.value for each in ttnn.cluster.ClusterType.__members__.values()}
kind = ttnn.cluster.get_cluster_type()
print(json.dumps([
    ttnn.get_num_devices(), ttnn.get_num_pcie_devices(), ttnn.get_device_ids(), ttnn.get_pcie_device_ids(), str(kind),
    kind.value, kind == ttnn.cluster.ClusterType[kind.name] if hasattr(type(kind), "__members__") else None,
    ttnn.get_arch_name(), ttnn.using_distributed_env(), chosen, {str(k): v for k, v in numbers.items()},
]))
"""


def said(target: str, mesh: str) -> Any:
    command = [sys.executable, "-c", _SAID, target, mesh]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", ["1x1", "1x2", "1x8", "8x4"])
def test_the_machine_is_the_mock_clusters(mesh: str) -> None:
    """Counts, names, numbers of enums and the chosen dispatch cores are the real ttnn's."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed: the machine is not compared with the real one's")
    assert said("emulator", mesh) == said("dryrun", mesh)


def test_the_default_device_is_kept(ttnn: ModuleType, device: Any) -> None:
    """SetDefaultDevice and GetDefaultDevice are a pair; what is no device is refused."""
    ttnn.SetDefaultDevice(device)
    assert ttnn.GetDefaultDevice() is device
    ttnn.SetDefaultDevice(None)
    assert ttnn.GetDefaultDevice() is None
    with pytest.raises(TypeError, match="SetDefaultDevice: device must be"):
        ttnn.SetDefaultDevice(3)


def test_there_is_nothing_to_read_of_a_profiler(ttnn: ModuleType, device: Any) -> None:
    """ReadDeviceProfiler takes a device, and says nothing."""
    assert ttnn.ReadDeviceProfiler(device) is None
    with pytest.raises(TypeError, match="ReadDeviceProfiler: device must be"):
        ttnn.ReadDeviceProfiler(0)


def test_ethernet_cores_have_no_columns(ttnn: ModuleType) -> None:
    with pytest.raises(DeviceError, match="COL is not supported"):
        ttnn.DispatchCoreConfig(ttnn.DispatchCoreType.ETH, ttnn.DispatchCoreAxis.COL)
