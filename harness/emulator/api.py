"""The module that answers `import ttnn`: the types, configs and device calls by name, the ops from the registry."""

# ruff: noqa: F401 - everything imported here is imported for users of ttnn

from __future__ import annotations

import sys
import types as _types
from typing import Any

from harness.emulator import methods as _methods
from harness.emulator import ops as _ops
from harness.emulator.errors import DeviceError, RaceError, TraceError
from harness.emulator.memory.allocator import OutOfMemoryError, UseAfterFreeError
from harness.emulator.mesh.device import (
    MeshDevice,
    close_device,
    close_mesh_device,
    open_device,
    open_mesh_device,
)
from harness.emulator.mesh.fabric import set_fabric_config
from harness.emulator.mesh.machine import (
    DispatchCoreConfig,
    get_arch_name,
    get_device_ids,
    get_num_devices,
    get_num_pcie_devices,
    get_pcie_device_ids,
    using_distributed_env,
)
from harness.emulator.mesh.machine import get_cluster_type as _get_cluster_type
from harness.emulator.mesh.machine import get_default_device as GetDefaultDevice
from harness.emulator.mesh.machine import read_device_profiler as ReadDeviceProfiler
from harness.emulator.mesh.machine import set_default_device as SetDefaultDevice
from harness.emulator.mesh.mapping import (
    ConcatMesh2dToTensor,
    ConcatMeshToTensor,
    MeshComposerConfig,
    MeshMapperConfig,
    PlacementReplicate,
    PlacementShard,
    ReplicateTensorToMesh,
    ShardTensor2dMesh,
    ShardTensorToMesh,
    concat_mesh_to_tensor_composer,
    create_mesh_composer,
    create_mesh_mapper,
    replicate_tensor_to_mesh_mapper,
    shard_tensor_to_mesh_mapper,
)
from harness.emulator.mesh.semaphores import create_global_semaphore, reset_global_semaphore_value
from harness.emulator.runtime.command_queues import (
    MeshEvent,
    command_queue,
    event_synchronize,
    get_current_command_queue_id_for_thread,
    record_event,
    synchronize_device,
    wait_for_event,
)
from harness.emulator.runtime.dispatch import CALLS as _CALLS
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.runtime.trace import (
    begin_trace_capture,
    end_trace_capture,
    execute_trace,
    is_trace_capture_active,
    release_trace,
)
from harness.emulator.spec.geometry import (
    CoreCoord,
    CoreGrid,
    CoreRange,
    CoreRangeSet,
    MeshShape,
    Shape,
    num_cores_to_corerangeset,
)
from harness.emulator.spec.memory_config import (
    DRAM_MEMORY_CONFIG,
    L1_BLOCK_SHARDED_MEMORY_CONFIG,
    L1_HEIGHT_SHARDED_MEMORY_CONFIG,
    L1_MEMORY_CONFIG,
    L1_WIDTH_SHARDED_MEMORY_CONFIG,
    MemoryConfig,
    ShardSpec,
    create_sharded_memory_config,
)
from harness.emulator.spec.program_configs import (
    LayerNormDefaultProgramConfig,
    LayerNormShardedMultiCoreProgramConfig,
    MatmulMultiCoreReuseMultiCast1DProgramConfig,
    MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig,
    MatmulMultiCoreReuseMultiCastProgramConfig,
    MatmulMultiCoreReuseProgramConfig,
    SDPAProgramConfig,
    UnaryWithParam,
    WormholeComputeKernelConfig,
    init_device_compute_kernel_config,
)
from harness.emulator.spec.signatures import refuse_name
from harness.emulator.spec.types import (
    TILE_SIZE,
    Arch,
    BufferType,
    DataType,
    DispatchCoreAxis,
    DispatchCoreType,
    FabricConfig,
    FabricReliabilityMode,
    Layout,
    MathFidelity,
    ReduceType,
    ShardOrientation,
    ShardStrategy,
    StorageType,
    TensorMemoryLayout,
    Topology,
    UnaryOpType,
)
from harness.emulator.spec.types import ClusterType as _ClusterType

bfloat16 = DataType.BFLOAT16
bfloat8_b = DataType.BFLOAT8_B
bfloat4_b = DataType.BFLOAT4_B
float32 = DataType.FLOAT32
uint32 = DataType.UINT32
int32 = DataType.INT32
uint16 = DataType.UINT16
uint8 = DataType.UINT8

TILE_LAYOUT = Layout.TILE
ROW_MAJOR_LAYOUT = Layout.ROW_MAJOR
DRAM = BufferType.DRAM
L1 = BufferType.L1

__version__ = "0.81.1"  # the ttnn whose API this is


def is_tensor_storage_on_device(tensor: Tensor) -> bool:
    return tensor.storage is not None


def _not_modelled(prefix: str) -> Any:
    """A module's `__getattr__`: names that are not there are refused in one line."""

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse_name(f"{prefix}.{name}")

    return missing


def _submodule(owner: _types.ModuleType, name: str) -> _types.ModuleType:
    """A module's submodule of this name, made where there is none."""
    full_name = f"{owner.__name__ if owner.__name__ != __name__ else 'ttnn'}.{name}"
    if name not in owner.__dict__:
        submodule = _types.ModuleType(full_name, f"The emulator's `{full_name}`.")
        submodule.__dict__["__getattr__"] = _not_modelled(full_name)
        owner.__dict__[name] = submodule
    module: _types.ModuleType = owner.__dict__[name]
    return module


def _fill() -> None:
    """Put every registered op where its name says, in this module or a submodule of it."""
    this = sys.modules[__name__]
    for full_name, function in _CALLS.items():
        owner = this
        _, *path, name = full_name.split(".")
        for part in path:
            owner = _submodule(owner, part)
        setattr(owner, name, function)
    cluster = _submodule(this, "cluster")
    cluster.__dict__.update(ClusterType=_ClusterType, get_cluster_type=_get_cluster_type)


__getattr__ = _not_modelled("ttnn")
_methods.attach()
_fill()
