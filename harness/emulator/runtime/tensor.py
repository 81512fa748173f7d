"""The emulated tensor: logical shape, dtype, layout and memory config over one torch shard per device.

Shards have the storage dtype and the logical shape (tile padding is metadata; it counts as zero). Device memory, a `Storage`,
lies under one or more tensors: views made by `reshape` share it, and it returns to the allocator when the last one goes.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from harness.emulator.errors import refuse
from harness.emulator.memory.allocator import Buffer, UseAfterFreeError
from harness.emulator.mesh.device import MeshDevice, Storage
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.tiles import padded_shape
from harness.emulator.spec.types import DataType, Layout, StorageType


class Shards(tuple[torch.Tensor, ...]):
    """A torch tensor for each device; devices that hold the same share one. Never changed, though what it holds is written to."""

    __slots__ = ()

    def of(self, devices: Iterable[int]) -> Shards:
        """Those of some devices."""
        return Shards([self[device] for device in devices])

    def on_all(self, devices: int) -> Shards:
        """One device's on so many."""
        return Shards(self * devices)


# Computes a tensor's shards.
Compute = Callable[[], Sequence[torch.Tensor]]


class Tensor:
    """A tensor on the host (`storage` is None) or on a mesh device. Ops make them; users read their properties.

    `padding`: what is in its tile padding, None where that is not known (see padding.py).
    """

    __slots__ = (
        "__weakref__",
        "_derived",
        "config",
        "dtype",
        "layout",
        "padding",
        "shape",
        "shards",
        "storage",
    )

    def __init__(
        self,
        shards: Iterable[torch.Tensor],
        shape: Shape,
        dtype: DataType,
        layout: Layout,
        config: MemoryConfig = DRAM_MEMORY_CONFIG,
        storage: Storage | None = None,
    ) -> None:
        self.shards = shards if type(shards) is Shards else Shards(shards)
        self.shape, self.dtype, self.layout = shape, dtype, layout
        self.config, self.storage = config, storage
        self._derived: dict[Any, tuple[int, Any]] | None = None
        self.padding: float | None = None

    @property
    def padded_shape(self) -> Shape:
        return padded_shape(self.shape, self.layout)

    def memory_config(self) -> MemoryConfig:
        return self.config

    def device(self) -> MeshDevice | None:
        return self.storage.device if self.storage is not None else None

    def storage_type(self) -> StorageType:
        return StorageType.HOST if self.storage is None else StorageType.DEVICE

    def is_allocated(self) -> bool:
        return self.storage is None or self.storage.buffer is not None

    def is_sharded(self) -> bool:
        return self.storage is not None and self.config.sharded

    def buffer_address(self) -> int:
        return self.buffer("ttnn.Tensor.buffer_address").address

    def buffer(self, op: str) -> Buffer:
        require_device(op, self)
        assert self.storage is not None
        assert self.storage.buffer is not None
        return self.storage.buffer

    def volume(self) -> int:
        return math.prod(self.shape)

    def logical_volume(self) -> int:
        return math.prod(self.shape)

    def get_dtype(self) -> DataType:
        return self.dtype

    def get_layout(self) -> Layout:
        return self.layout

    def deallocate(self, force: bool = True) -> None:
        """Give the memory back now; every tensor that shares it becomes unusable."""
        if self.storage is not None:
            self.storage.free()

    def derived(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value computed from this tensor's contents once, and again only after the tensor was written."""
        version = self.storage.version if self.storage is not None else 0
        # Some devices' worth differs from all devices', see distinct_shards.py
        key = (key, tuple(map(id, self.shards)))
        cache = self._derived
        if cache is None:
            cache = self._derived = {}
        entry = cache.get(key)
        if entry is None or entry[0] != version:
            entry = cache[key] = (version, make())
        return entry[1]

    def written(self) -> None:
        """To be called by whoever wrote to the shards in place: forgets what was derived from them."""
        if self.storage is not None:
            self.storage.version += 1
        self._derived = None

    def own(self) -> None:
        """To be called before writing in place: devices that shared a shard get one each."""
        if len(set(map(id, self.shards))) == len(self.shards):
            return
        identities: set[int] = set()
        shards = []
        for shard in self.shards:
            if id(shard) in identities:
                shard = _untouched(shard) if _all_zero(shard) else shard.clone()
            identities.add(id(shard))
            shards.append(shard)
        self.shards = Shards(shards)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        where = "host" if self.storage is None else repr(self.config)
        return f"ttnn.Tensor(shape={self.shape}, dtype={self.dtype}, layout={self.layout}, {where})"


def _all_zero(shard: torch.Tensor) -> bool:
    """Bit for bit."""
    return not bool(shard.reshape(-1).view(torch.uint8).any())


def _untouched(zeros: torch.Tensor) -> torch.Tensor:
    """Zeros that take memory only where they are written: of an empty cache a device fills a few pages."""
    memory = mmap.mmap(-1, zeros.nbytes)
    return torch.frombuffer(memory, dtype=zeros.dtype).view(zeros.shape)


def require_device(op: str, *tensors: Tensor) -> None:
    """Refuse what is not a tensor, lies on the host, or was deallocated."""
    for tensor in tensors:
        try:
            storage = tensor.storage
        except AttributeError:
            raise TypeError(f"{op}: expected a ttnn.Tensor, got {type(tensor).__name__}") from None
        if storage is None:
            refuse(op, f"tensor of shape {list(tensor.shape)} is on the host; the op needs a device tensor")
        if storage.buffer is None:
            if storage.lost is not None:
                refuse(op, f"tensor of shape {list(tensor.shape)}, {storage.lost[1]}")
            raise UseAfterFreeError(f"{op}: tensor of shape {list(tensor.shape)} was deallocated")


def require_layout(op: str, layout: Layout, *tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.layout is not layout:
            refuse(op, f"tensor of shape {list(tensor.shape)} has {tensor.layout}, the op needs {layout}")


def device_of(tensor: Tensor) -> MeshDevice:
    assert tensor.storage is not None
    return tensor.storage.device


def output_config(like: Tensor, requested: MemoryConfig | None) -> MemoryConfig:
    """ttnn's rule of most ops: the requested config, else the input's."""
    return like.config if requested is None else requested


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among an op's arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def replaced(value: Any, replacement: Callable[[Tensor], Tensor]) -> Any:
    """The same value with other tensors in it."""
    if isinstance(value, Tensor):
        return replacement(value)
    if isinstance(value, dict):
        return {key: replaced(item, replacement) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(replaced(item, replacement) for item in value)
    return value
