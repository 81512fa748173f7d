"""Asynchronous collectives: `ttnn.experimental.all_gather_async`, `reduce_scatter_minimal_async`, `all_reduce_async`.

They compute what the synchronous ones do, on a ring always by its own kernel, and may write to buffers that are there. Semaphores
are counted, as ttnn does, and otherwise nothing: ops of the emulator are over when they return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.emulator.arithmetic.collectives import Reduction
from harness.emulator.errors import refuse
from harness.emulator.mesh import fabric
from harness.emulator.ops.ccl import gathered, scattered, summed
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import ReduceType, Topology


@op("ttnn.experimental.all_gather_async", kind=Kind.COLLECTIVE)
def all_gather_async(
    input_tensor: Tensor,
    *places: Any,
    dim: int | None = None,
    multi_device_global_semaphore: Any = None,
    persistent_output_buffer: Tensor | None = None,
    persistent_output_tensor: Tensor | None = None,
    cluster_axis: int | None = None,
    mesh_device: Any = None,
    num_links: int | None = None,
    memory_config: MemoryConfig | None = None,
    topology: Topology = Topology.Ring,
    subdevice_id: Any = None,
    barrier_semaphore: Any = None,
    sub_core_grids: Any = None,
    chunks_per_sync: int | None = None,
    num_workers_per_link: int | None = None,
    num_buffers_per_channel: int | None = None,
) -> Tensor:
    """`ttnn.all_gather`, into the persistent buffer if there is one.

    By place: dim and semaphores; or buffer, dim and semaphores; or dim, cluster_axis, mesh_device, topology and semaphores.
    """
    name = "ttnn.experimental.all_gather_async"
    buffer = persistent_output_buffer or persistent_output_tensor
    semaphores = multi_device_global_semaphore
    if places and not isinstance(places[0], int):
        buffer, places = places[0], places[1:]
    if len(places) > 2:
        dim, cluster_axis, semaphores = places[0], places[1], places[-1]
    elif places:
        dim, semaphores = places[0], places[1] if len(places) > 1 else semaphores
    if dim is None or semaphores is None:
        raise TypeError(f"{name}: dim and multi_device_global_semaphore must be given")
    _require_semaphores(name, semaphores, 2)
    return gathered(name, input_tensor, dim, cluster_axis, memory_config, buffer)


@op("ttnn.experimental.reduce_scatter_minimal_async", kind=Kind.COLLECTIVE)
def reduce_scatter_minimal_async(
    input_tensor: Tensor,
    persistent_output_buffers: Sequence[Tensor] | None = None,
    dim: int | None = None,
    multi_device_global_semaphore: Any = None,
    *,
    barrier_semaphore: Any = None,
    num_links: int | None = None,
    memory_config: MemoryConfig | None = None,
    intermediate_memory_config: MemoryConfig | None = None,
    topology: Topology = Topology.Ring,
    subdevice_id: Any = None,
    cluster_axis: int | None = None,
    chunks_per_sync: int | None = None,
    num_workers_per_link: int | None = None,
    num_buffers_per_channel: int | None = None,
) -> Tensor:
    """`ttnn.reduce_scatter`, into the second persistent buffer if they are given; the first is the kernel's own."""
    name = "ttnn.experimental.reduce_scatter_minimal_async"
    if dim is None or multi_device_global_semaphore is None:
        raise TypeError(f"{name}: dim and multi_device_global_semaphore must be given")
    _require_semaphores(name, multi_device_global_semaphore, 3)
    buffers = list(persistent_output_buffers or ())
    if len(buffers) not in (0, 2):
        refuse(name, f"the emulator models two persistent_output_buffers or none, got {len(buffers)}")
    output = buffers[1] if buffers else None
    return scattered(name, input_tensor, dim, cluster_axis, memory_config, _kernel(topology), output)


@op("ttnn.experimental.all_reduce_async", kind=Kind.COLLECTIVE)
def all_reduce_async(
    input_tensor: Tensor,
    *,
    num_devices: int | None = None,
    cluster_axis: int | None = None,
    mesh_device: Any = None,
    barrier_semaphores: Any = None,
    rs_global_semaphores: Any = None,
    ag_global_semaphores: Any = None,
    math_op: ReduceType,
    memory_config: MemoryConfig | None = None,
    topology: Topology | None = None,
    num_links: int | None = None,
    subdevice_id: Any = None,
) -> Tensor:
    """`ttnn.all_reduce`. Raises DeviceError for another `math_op` than the sum."""
    name = "ttnn.experimental.all_reduce_async"
    if getattr(math_op, "name", None) != ReduceType.Sum.name:
        refuse(name, f"the emulator models ReduceType.Sum only, got {math_op}")
    return summed(name, input_tensor, cluster_axis, memory_config, _kernel(topology or Topology.Linear))


def _kernel(topology: Topology) -> Reduction:
    """A ring needs a fabric that is one."""
    return Reduction.RING if fabric.is_ring() and topology.name == Topology.Ring.name else Reduction.LINE


def _require_semaphores(name: str, semaphores: Any, count: int) -> None:
    number = len(semaphores) if isinstance(semaphores, Sequence) else 1
    if number != count:
        refuse(name, f"multi_device_global_semaphore must be {count} semaphores, got {number}")
