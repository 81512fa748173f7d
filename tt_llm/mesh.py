"""Opening a mesh of devices and putting host tensors on it."""

from __future__ import annotations

import re

import torch
import ttnn

from tt_llm.errors import InputError


def parse_mesh_shape(text: str) -> tuple[int, int]:
    """ "1x2" -> (1, 2), rows by columns. Raises InputError for anything that is not a mesh shape."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise InputError(f"mesh {text!r}: give rows x columns, such as 1x1")
    return int(match[1]), int(match[2])


def open_mesh(shape: tuple[int, int]) -> ttnn.MeshDevice:
    """Opens a mesh of rows x columns devices. Raises InputError for a shape this model cannot be split over."""
    if shape != (1, 1):
        raise InputError(f"mesh {shape[0]}x{shape[1]}: the model runs on one device so far, mesh 1x1")
    return ttnn.open_mesh_device(ttnn.MeshShape(*shape))


def replicate(
    tensor: torch.Tensor,
    mesh_device: ttnn.MeshDevice,
    dtype: ttnn.DataType,
    layout: ttnn.Layout = ttnn.TILE_LAYOUT,
    memory_config: ttnn.MemoryConfig = ttnn.DRAM_MEMORY_CONFIG,
) -> ttnn.Tensor:
    """The whole host tensor on every device of the mesh."""
    return ttnn.from_torch(
        tensor,
        dtype=dtype,
        layout=layout,
        device=mesh_device,
        memory_config=memory_config,
        mesh_mapper=ttnn.ReplicateTensorToMesh(mesh_device),
    )


def to_host(tensor: ttnn.Tensor) -> torch.Tensor:
    """A replicated device tensor as the first device holds it, in its logical shape; block floats come as float32."""
    host: torch.Tensor = ttnn.to_torch(ttnn.get_device_tensors(tensor)[0])
    return host
