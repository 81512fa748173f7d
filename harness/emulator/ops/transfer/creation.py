"""Tensors from nothing: `zeros`, `ones`, `full` and their `_like` forms, `arange`, `empty`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.errors import refuse
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.tiles import BLOCK_FLOATS
from harness.emulator.spec.types import DataType, Layout


@op("ttnn.full", kind=Kind.CREATION)
def full(
    shape: Sequence[int],
    fill_value: float,
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor of one value; BFLOAT16 and ROW_MAJOR unless told otherwise (block floats are TILE always)."""
    return _filled("ttnn.full", shape, fill_value, dtype, layout, device, memory_config)


@op("ttnn.zeros", kind=Kind.CREATION)
def zeros(
    shape: Sequence[int],
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """`full` of 0."""
    return _filled("ttnn.zeros", shape, 0, dtype, layout, device, memory_config)


@op("ttnn.ones", kind=Kind.CREATION)
def ones(
    shape: Sequence[int],
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """`full` of 1."""
    return _filled("ttnn.ones", shape, 1, dtype, layout, device, memory_config)


@op("ttnn.empty", kind=Kind.CREATION)
def empty(
    shape: Sequence[int],
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor to be written later; it holds zeros."""
    if dtype in BLOCK_FLOATS and layout is not Layout.TILE:
        refuse("ttnn.empty", f"{dtype} needs layout=ttnn.TILE_LAYOUT")
    return _filled("ttnn.empty", shape, 0, dtype, layout, device, memory_config)


@op("ttnn.zeros_like")
def zeros_like(
    tensor: Tensor,
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """Zeros with `tensor`'s spec where no other is asked for."""
    return _like("ttnn.zeros_like", tensor, 0, dtype, layout, device, memory_config)


@op("ttnn.ones_like")
def ones_like(
    tensor: Tensor,
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """Ones with `tensor`'s spec where no other is asked for."""
    return _like("ttnn.ones_like", tensor, 1, dtype, layout, device, memory_config)


def _like(
    name: str,
    tensor: Tensor,
    value: float,
    dtype: DataType | None,
    layout: Layout | None,
    device: MeshDevice | None,
    memory_config: MemoryConfig | None,
) -> Tensor:
    if (dtype or tensor.dtype) in BLOCK_FLOATS and layout is Layout.ROW_MAJOR:
        refuse(name, f"{dtype or tensor.dtype} needs layout=ttnn.TILE_LAYOUT")
    return _filled(
        name,
        tensor.shape,
        value,
        dtype or tensor.dtype,
        layout or tensor.layout,
        device or (device_of(tensor) if tensor.storage is not None else None),
        memory_config or tensor.config,
    )


def _filled(
    name: str,
    shape: Sequence[int],
    value: float,
    dtype: DataType | None,
    layout: Layout | None,
    device: MeshDevice | None,
    memory_config: MemoryConfig | None,
) -> Tensor:
    dtype = dtype or DataType.BFLOAT16
    layout = Layout.TILE if dtype in BLOCK_FLOATS else layout or Layout.ROW_MAJOR
    config = memory_config or DRAM_MEMORY_CONFIG
    try:
        stored = formats.host_round(torch.tensor([float(value)], dtype=torch.float64).float(), dtype)
    except ValueError as error:  # a number that has no value in an integer
        refuse(name, str(error))

    def shards() -> list[torch.Tensor]:
        with torch.inference_mode(False):
            values = torch.full(tuple(shape), stored.item(), dtype=formats.storage_dtype(dtype))
        return [values] * (device.num_devices if device is not None else 1)

    if device is None:
        return Tensor(shards(), Shape(shape), dtype, layout, config)
    return make_tensor(name, shards, Shape(shape), dtype, layout, config, device)
