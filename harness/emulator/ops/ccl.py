"""Collectives: `ttnn.all_gather`, `reduce_scatter`, `all_reduce`, and `mesh_partition`. What they compute is in `arithmetic/collectives.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.emulator.arithmetic import collectives
from harness.emulator.arithmetic.collectives import Reduction
from harness.emulator.errors import refuse
from harness.emulator.mesh import fabric
from harness.emulator.mesh.mapping import axis_groups
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Compute, Tensor, device_of, output_config, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.tiles import TILE_BYTES
from harness.emulator.spec.types import TILE_SIZE, BufferType, DataType, Layout, Topology

_PAGE_ALIGNMENT = {BufferType.DRAM: 32, BufferType.L1: 16}  # bytes
_REDUCIBLE = (DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.FLOAT32)


@op("ttnn.all_gather", kind=Kind.COLLECTIVE)
def all_gather(
    input_tensor: Tensor,
    dim: int,
    *,
    cluster_axis: int | None = None,
    memory_config: MemoryConfig | None = None,
    num_links: int | None = None,
    topology: Topology | None = None,
) -> Tensor:
    """Every device gets the tensors of all devices of its group, side by side along `dim`."""
    return gathered("ttnn.all_gather", input_tensor, dim, cluster_axis, memory_config)


@op("ttnn.reduce_scatter", kind=Kind.COLLECTIVE)
def reduce_scatter(
    input_tensor: Tensor,
    dim: int,
    *,
    cluster_axis: int | None = None,
    memory_config: MemoryConfig | None = None,
    intermediate_memory_config: MemoryConfig | None = None,
    num_links: int | None = None,
    topology: Topology | None = None,
    chunks_per_sync: int | None = None,
    num_workers_per_link: int | None = None,
    num_buffers_per_channel: int | None = None,
    compute_kernel_config: Any = None,
) -> Tensor:
    """The sum over each group of devices, of which a device keeps its slice along `dim`."""
    tuned = any(t is not None for t in (chunks_per_sync, num_workers_per_link, num_buffers_per_channel))
    how = collectives.reduction(fabric.is_ring(), tuned, input_tensor.shape, input_tensor.dtype)
    return scattered("ttnn.reduce_scatter", input_tensor, dim, cluster_axis, memory_config, how)


@op("ttnn.all_reduce", kind=Kind.COLLECTIVE)
def all_reduce(
    input_tensor: Tensor,
    *,
    cluster_axis: int | None = None,
    memory_config: MemoryConfig | None = None,
    num_links: int | None = None,
    topology: Topology | None = None,
) -> Tensor:
    """The sum over each group of devices, the same on all of them: a reduce-scatter and an all-gather where one can be had."""
    how = collectives.reduction(fabric.is_ring(), False, input_tensor.shape, input_tensor.dtype)
    return summed("ttnn.all_reduce", input_tensor, cluster_axis, memory_config, how)


@op("ttnn.mesh_partition", kind=Kind.COLLECTIVE)
def mesh_partition(
    input_tensor: Tensor,
    dim: int,
    cluster_axis: int | None = None,
    *,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """Each device of a group keeps its slice along `dim` of its own tensor; nothing travels."""
    name = "ttnn.mesh_partition"
    require_device(name, input_tensor)
    if len(axis_groups(name, device_of(input_tensor), cluster_axis)[0]) == 1:
        return input_tensor
    groups = _groups(name, input_tensor, cluster_axis)
    shape, devices = list(input_tensor.shape), len(groups[0])
    if input_tensor.layout is Layout.TILE and len(shape) < 2:
        refuse(name, f"a TILE tensor needs two dimensions at least, got {shape}")
    if not -len(shape) <= dim < len(shape):
        refuse(name, f"dim must be less than the rank of the input tensor: {dim} of {shape}")
    if shape[dim] % devices:
        refuse(name, f"input shape {shape} must be divisible by cluster axis size {devices} in dim {dim}")
    shape[dim] //= devices
    if input_tensor.layout is Layout.TILE and dim % len(shape) >= len(shape) - 2 and shape[dim] % TILE_SIZE:
        refuse(name, f"the emulator does not model parts with padding, {shape} along dim {dim}")

    def shards() -> list[torch.Tensor]:
        parts: dict[tuple[int, int], torch.Tensor] = {}

        def part(device: int, place: int) -> torch.Tensor:
            whole = input_tensor.shards[device]
            if (id(whole), place) not in parts:
                parts[id(whole), place] = whole.chunk(devices, dim)[place].contiguous()
            return parts[id(whole), place]

        return _placed([(group, [part(d, place) for place, d in enumerate(group)]) for group in groups])

    return _result(name, input_tensor, shards, Shape(shape), memory_config)


def gathered(
    name: str,
    x: Tensor,
    dim: int,
    cluster_axis: int | None,
    memory_config: MemoryConfig | None,
    output: Tensor | None = None,
) -> Tensor:
    """The tensors of each group side by side, in a new tensor or in `output`."""
    groups = _groups(name, x, cluster_axis)
    shape = list(x.shape)
    if not -len(shape) <= dim < len(shape):
        refuse(name, f"Invalid gather dim {dim} for {len(shape)}D input tensor")
    if _by_concat(name, x, dim % len(shape), output_config(x, memory_config)):
        memory_config = DRAM_MEMORY_CONFIG  # whatever was asked for
    shape[dim] *= len(groups[0])

    def shards() -> list[torch.Tensor]:
        return _on_all(x, groups, lambda group: collectives.gather([x.shards[d] for d in group], dim))

    return _result(name, x, shards, Shape(shape), memory_config, output)


def scattered(
    name: str,
    x: Tensor,
    dim: int,
    cluster_axis: int | None,
    memory_config: MemoryConfig | None,
    how: Reduction,
    output: Tensor | None = None,
) -> Tensor:
    """Each device's slice of its group's sum, in a new tensor or in `output`."""
    groups = _groups(name, x, cluster_axis)
    shape, devices = list(x.shape), len(groups[0])
    if not -len(shape) <= dim < len(shape):
        refuse(name, f"no dim {dim} in a tensor of shape {shape}")
    if shape[dim] % devices:
        refuse(name, f"Dimension {dim} must be divisible by ring_size: {shape[dim]} by {devices} devices")
    if len(shape) < 2:
        refuse(name, f"needs two dimensions at least, got {shape}")
    _check_reducible(name, x)
    shape[dim] //= devices

    def shards() -> list[torch.Tensor]:
        return _placed([(g, _slices(x, g, dim, how)) for g in groups])

    return _result(name, x, shards, Shape(shape), memory_config, output)


def summed(
    name: str, x: Tensor, cluster_axis: int | None, memory_config: MemoryConfig | None, how: Reduction
) -> Tensor:
    """The sum over each group, on all of its devices."""
    groups = _groups(name, x, cluster_axis)
    _check_reducible(name, x)
    dim = collectives.scatter_dim(x.shape, len(groups[0]))

    def total(group: list[int]) -> torch.Tensor:
        if dim is None:
            return collectives.sum_in_order([x.shards[d] for d in group], x.dtype)
        return collectives.gather(_slices(x, group, dim, how), dim)

    return _result(name, x, lambda: _on_all(x, groups, total), x.shape, memory_config)


def _by_concat(name: str, x: Tensor, dim: int, result: MemoryConfig) -> bool:
    """Whether ttnn gathers along a new dimension and concatenates: pages that would have to be joined are not whole ones, or
    those of the result are padded otherwise."""
    if x.layout is Layout.ROW_MAJOR:
        alignment = _PAGE_ALIGNMENT[x.config.buffer_type]
        padded = bool(x.shape[-1] * TILE_BYTES[x.dtype] // 1024 % alignment)
        return padded and (dim == len(x.shape) - 1 or result.buffer_type is not x.config.buffer_type)
    broken = x.shape[dim - len(x.shape)] != x.padded_shape[dim - len(x.shape)]
    if broken and x.dtype in (DataType.UINT8, DataType.BFLOAT4_B):
        refuse(
            name, f"{x.dtype} of shape {list(x.shape)} cannot be joined along dim {dim}, where it is padded"
        )
    return broken


def _groups(name: str, x: Tensor, cluster_axis: int | None) -> list[list[int]]:
    require_device(name, x)
    groups = axis_groups(name, device_of(x), cluster_axis)
    if len(groups[0]) == 1:
        refuse(name, "a collective needs more than one device, got 1")
    fabric.require_fabric(name)
    return groups


def _check_reducible(name: str, x: Tensor) -> None:
    if x.dtype not in _REDUCIBLE:
        refuse(
            name,
            f"the emulator does not model a sum of {x.dtype} over devices; it has {', '.join(d.name for d in _REDUCIBLE)}",
        )


def _slices(x: Tensor, group: list[int], dim: int, how: Reduction) -> list[torch.Tensor]:
    return collectives.reduce_scatter([x.shards[d] for d in group], dim, x.dtype, how)


def _on_all(
    x: Tensor, groups: list[list[int]], make: Callable[[list[int]], torch.Tensor]
) -> list[torch.Tensor]:
    """What is made of each group, on all of its devices; once where groups hold the same tensors."""
    results: dict[tuple[int, ...], torch.Tensor] = {}
    for group in groups:
        identity = tuple(id(x.shards[d]) for d in group)
        if identity not in results:
            results[identity] = make(group)
    return _placed([(g, [results[tuple(id(x.shards[d]) for d in g)]] * len(g)) for g in groups])


def _placed(groups: list[tuple[list[int], list[torch.Tensor]]]) -> list[torch.Tensor]:
    """Each group's tensors in the order of the mesh's devices."""
    by_device = {
        device: tensor for group, tensors in groups for device, tensor in zip(group, tensors, strict=True)
    }
    return [by_device[device] for device in sorted(by_device)]


def _result(
    name: str,
    x: Tensor,
    shards: Compute,
    shape: Shape,
    memory_config: MemoryConfig | None,
    output: Tensor | None = None,
) -> Tensor:
    if output is None:
        return make_tensor(
            name, shards, shape, x.dtype, x.layout, output_config(x, memory_config), device_of(x)
        )
    require_device(name, output)
    if (output.shape, output.dtype, output.layout) != (shape, x.dtype, x.layout):
        refuse(name, f"{output!r} must have the result's shape {list(shape)}, {x.dtype} and {x.layout}")

    def copy() -> None:
        for mine, new in zip(output.shards, shards(), strict=True):
            mine.copy_(new)

    return write(name, output, copy)
