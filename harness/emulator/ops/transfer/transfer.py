"""Between torch, the host and the device: `from_torch`, `to_torch`, `to_device`, `copy_host_to_device_tensor` and kin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.errors import refuse
from harness.emulator.memory import heap
from harness.emulator.mesh.device import MeshDevice, Storage
from harness.emulator.mesh.mapping import MeshToTensor, TensorToMesh
from harness.emulator.runtime import execution, races
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, make_view, overwrite
from harness.emulator.runtime.tensor import Tensor, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.tiles import BLOCK_FLOATS
from harness.emulator.spec.types import DataType, Layout

# What ttnn takes a torch dtype for when no dtype is given, and gives back in to_torch.
_FROM_TORCH = {
    torch.float32: DataType.FLOAT32,
    torch.bfloat16: DataType.BFLOAT16,
    torch.float16: DataType.BFLOAT16,
    torch.int64: DataType.UINT32,
    torch.uint32: DataType.UINT32,
    torch.int32: DataType.INT32,
    torch.int16: DataType.UINT16,
    torch.uint16: DataType.UINT16,
    torch.uint8: DataType.UINT8,
    torch.bool: DataType.UINT8,
}
_TO_TORCH = {
    DataType.BFLOAT16: torch.bfloat16,
    DataType.FLOAT32: torch.float32,
    DataType.BFLOAT8_B: torch.float32,
    DataType.BFLOAT4_B: torch.float32,
    DataType.UINT32: torch.uint32,
    DataType.INT32: torch.int32,
    DataType.UINT16: torch.uint16,
    DataType.UINT8: torch.uint8,
}


@op("ttnn.from_torch", kind=Kind.CREATION)
def from_torch(
    tensor: torch.Tensor,
    dtype: DataType | None = None,
    *,
    pad_value: float | None = None,
    layout: Layout | None = None,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
    mesh_mapper: TensorToMesh | None = None,
    cq_id: int | None = None,
) -> Tensor:
    """A ttnn tensor with `tensor`'s values rounded to `dtype` as the host does; on `device`, or on the host.

    Layout defaults to ROW_MAJOR, for block floats to TILE; without a mesh mapper every device gets the whole tensor.
    """
    name = "ttnn.from_torch"
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if dtype is None:
        if tensor.dtype not in _FROM_TORCH:
            refuse(name, f"{tensor.dtype} has no ttnn dtype; give dtype=")
        dtype = _FROM_TORCH[tensor.dtype]
    if layout is None:
        layout = Layout.TILE if dtype in BLOCK_FLOATS else Layout.ROW_MAJOR
    if layout is Layout.ROW_MAJOR and dtype in BLOCK_FLOATS:
        refuse(name, f"{dtype} needs TILE layout")
    config = memory_config or DRAM_MEMORY_CONFIG
    if config.sharded and config.shard_spec is None:
        refuse(name, "a sharded memory config needs a shard spec")
    with torch.inference_mode(False):
        # Never an inference tensor, so that it can be written in place later; never an alias of the caller's.
        source = tensor.detach()
        pieces = (
            mesh_mapper.split(source) if mesh_mapper else [source] * (device.num_devices if device else 1)
        )
        shape = Shape(pieces[0].shape)
        # Allocated first: what does not fit the device must not fill the host's memory either.
        storage = (
            Storage(device, device.allocate(name, shape, dtype, layout, config, False))
            if device is not None
            else None
        )
        try:
            stored = {id(piece): _on_host(piece, dtype) for piece in pieces}
        except ValueError as error:  # a number that has no value in an integer
            refuse(name, str(error))
        shards = [stored[id(piece)] for piece in pieces]
    if storage is not None:
        _queued(name, cq_id, storage, writes=True)
    result = Tensor(shards, shape, dtype, layout, config, storage)
    result.padding = pad_value or 0.0
    return result


@op("ttnn.as_tensor", kind=Kind.CREATION)
def as_tensor(
    tensor: torch.Tensor,
    dtype: DataType | None = None,
    *,
    layout: Layout | None = Layout.ROW_MAJOR,
    device: MeshDevice | None = None,
    memory_config: MemoryConfig | None = None,
    cache_file_name: str | Path | None = None,
    preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
    mesh_mapper: TensorToMesh | None = None,
) -> Tensor:
    """`from_torch` after `preprocess`. `cache_file_name` is not used: converting here costs less than a cache file."""
    source = preprocess(tensor) if preprocess else tensor
    return from_torch(
        source, dtype, layout=layout, device=device, memory_config=memory_config, mesh_mapper=mesh_mapper
    )


@op("ttnn.to_torch", kind=Kind.TRANSFER, per_device=True)
def to_torch(
    tensor: Tensor,
    dtype: torch.dtype | None = None,
    *,
    torch_rank: int | None = None,
    mesh_composer: MeshToTensor | None = None,
    device: MeshDevice | None = None,
    cq_id: int | None = None,
) -> torch.Tensor:
    """A copy in torch: block floats become float32; several devices need a composer."""
    name = "ttnn.to_torch"
    if tensor.storage is not None:
        require_device(name, tensor)
        _queued(name, cq_id, tensor.storage, blocking=True)
    if mesh_composer is not None:
        value = mesh_composer.join(tensor.shards)
    elif len(tensor.shards) == 1:
        value = tensor.shards[0]
    else:
        refuse(
            name,
            f"tensor lies on {len(tensor.shards)} devices; give mesh_composer=ttnn.ConcatMeshToTensor(...)",
        )
    value = value.to(_TO_TORCH[tensor.dtype], copy=True)
    if value.nbytes >= heap.LARGE:
        heap.return_what_is_free()
    if torch_rank is not None:
        while value.dim() > torch_rank and 1 in value.shape:
            value = value.squeeze(list(value.shape).index(1))
        if value.dim() != torch_rank:
            refuse(name, f"shape {list(tensor.shape)} cannot be squeezed to rank {torch_rank}")
    return value if dtype is None else value.to(dtype)


@op("ttnn.to_device", kind=Kind.TRANSFER, per_device=True)
def to_device(
    tensor: Tensor,
    device: MeshDevice,
    memory_config: MemoryConfig | None = None,
    *,
    queue_id: int | None = None,
) -> Tensor:
    """A host tensor's copy on `device`; a device tensor comes back as it is."""
    name = "ttnn.to_device"
    if tensor.storage is not None:
        return tensor
    shards = tensor.shards
    if len(shards) != device.num_devices:
        shards = shards.on_all(device.num_devices)
    config = memory_config or tensor.config

    def copies() -> list[torch.Tensor]:
        stored = {id(s): s.clone() for s in shards}
        return [stored[id(s)] for s in shards]

    placed = make_tensor(name, copies, tensor.shape, tensor.dtype, tensor.layout, config, device)
    assert placed.storage is not None
    placed.padding = tensor.padding
    _queued(name, queue_id, placed.storage, writes=True)
    return placed


@op("ttnn.from_device", kind=Kind.TRANSFER)
def from_device(tensor: Tensor, blocking: bool = True, *, queue_id: int | None = None) -> Tensor:
    """A copy on the host."""
    name = "ttnn.from_device"
    if tensor.storage is None:
        return tensor
    require_device(name, tensor)
    _queued(name, queue_id, tensor.storage, blocking=blocking)
    return Tensor(
        [s.clone() for s in tensor.shards], tensor.shape, tensor.dtype, tensor.layout, tensor.config
    )


@op("ttnn.copy_host_to_device_tensor", kind=Kind.TRANSFER, writes=("device_tensor",))
def copy_host_to_device_tensor(host_tensor: Tensor, device_tensor: Tensor, cq_id: int | None = None) -> None:
    """Overwrite a device tensor in place, address kept, with a host tensor of the same spec."""
    name = "ttnn.copy_host_to_device_tensor"
    if isinstance(device_tensor, Tensor) and device_tensor.storage is not None:
        device_tensor.storage.regain()
    require_device(name, device_tensor)
    if host_tensor.storage is not None:
        refuse(name, "the source must be on the host")
    for what, mine, theirs in (
        ("shape", host_tensor.shape, device_tensor.shape),
        ("dtype", host_tensor.dtype, device_tensor.dtype),
        ("layout", host_tensor.layout, device_tensor.layout),
    ):
        if mine != theirs:
            refuse(name, f"{what} of the host tensor, {mine}, must equal the device tensor's, {theirs}")
    sources = host_tensor.shards
    if len(sources) != len(device_tensor.shards):
        sources = sources.on_all(len(device_tensor.shards))
    assert device_tensor.storage is not None
    _queued(name, cq_id, device_tensor.storage, writes=True)

    def copy() -> None:
        for target, source in zip(device_tensor.shards, sources, strict=True):
            target.copy_(source)

    overwrite(device_tensor, copy)


@op("ttnn.allocate_tensor_on_device", kind=Kind.CREATION)
def allocate_tensor_on_device(
    shape: Shape,
    dtype: DataType,
    layout: Layout,
    mesh_device: MeshDevice,
    memory_config: MemoryConfig = DRAM_MEMORY_CONFIG,
) -> Tensor:
    """A device tensor to be written later; it holds zeros."""

    def shards() -> list[torch.Tensor]:
        with torch.inference_mode(False):
            return [torch.zeros(tuple(shape), dtype=formats.storage_dtype(dtype))] * mesh_device.num_devices

    return make_tensor(
        "ttnn.allocate_tensor_on_device", shards, Shape(shape), dtype, layout, memory_config, mesh_device
    )


@op("ttnn.deallocate", kind=Kind.BUFFER)
def deallocate(tensor: Tensor, force: bool = True) -> None:
    """Give a tensor's memory back now."""
    tensor.deallocate(force)


@op("ttnn.get_device_tensors", kind=Kind.BUFFER, per_device=True)
def get_device_tensors(tensor: Tensor) -> list[Tensor]:
    """One tensor per device, on the host side of the API: each shares the whole tensor's memory."""
    spec = tensor.shape, tensor.dtype, tensor.layout, tensor.config
    storage, devices = tensor.storage, range(len(tensor.shards))
    if storage is None:
        return [Tensor([shard], *spec) for shard in tensor.shards]

    def part(device: int) -> Tensor:
        return make_view(lambda: [tensor.shards[device]], *spec, storage)

    return [part(device) for device in devices]


def _queued(
    op: str, cq_id: int | None, storage: Storage, *, writes: bool = False, blocking: bool = False
) -> None:
    """Puts a transfer on its queue; `blocking`: the host waits for it."""
    queues = storage.device.queues
    number = queues.number(op, cq_id)
    reads, written = ((), (storage,)) if writes else ((storage,), ())
    races.enqueue(op, storage.device, number, reads, written)
    if blocking and queues.several:
        queues.host_waits(queues.reached(number))


def _on_host(piece: torch.Tensor, dtype: DataType) -> torch.Tensor:
    """What the host makes of a piece before it is written to the device."""
    return execution.in_force.host_value(lambda: _stored(piece, dtype), tuple(piece.shape), dtype)


def _stored(piece: torch.Tensor, dtype: DataType) -> torch.Tensor:
    """`piece` rounded to `dtype`, contiguous, and no alias of it."""
    if piece.dtype in (torch.uint32, torch.uint16):
        piece = piece.long()
    if piece.numel() > 1 and not any(piece.stride()):  # one value throughout, such as an empty cache
        one = formats.host_round(piece[(0,) * piece.dim()].reshape(1), dtype)
        return one.expand(piece.shape).contiguous()
    rounded = formats.host_round(piece, dtype)
    shares = rounded.data_ptr() == piece.data_ptr()
    stored = rounded.clone(memory_format=torch.contiguous_format) if shares else rounded.contiguous()
    del rounded
    if piece.nbytes >= heap.LARGE:
        heap.return_what_is_free()
    return stored
