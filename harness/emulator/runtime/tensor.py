"""The emulated tensor: logical shape, dtype, layout and memory config over one torch shard per device.

Shards have the storage dtype and the logical shape (tile padding is metadata; it counts as zero). A `Storage` is the device
memory under one or more tensors: views made by `reshape` share it, and it returns to the allocator when the last one goes.

An op checks its arguments, then hands what it computes to `make_tensor`, `make_view` or `write` as a function: it is called
there and then, or, while a trace is captured, kept by the recorder and called when the trace runs.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Callable
from typing import Any, Protocol

import torch

from harness.emulator.errors import refuse
from harness.emulator.memory.allocator import Buffer, UseAfterFreeError
from harness.emulator.mesh.device import MeshDevice, padded_shape
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.types import DataType, Layout, StorageType

storage_ids = itertools.count()

Shards = list[torch.Tensor]
Compute = Callable[[], Shards]


class Storage:
    """Device memory of a tensor; `version` counts the writes to it after creation, `id` is never used again.

    `lost`: the buffer, and what overwrote it, of memory that a trace ran over; `buffer` is then None. `uses`: see queues.
    """

    __slots__ = ("__weakref__", "buffer", "device", "id", "lost", "uses", "version")

    def __init__(self, device: MeshDevice, buffer: Buffer) -> None:
        self.device = device
        self.buffer: Buffer | None = buffer
        self.lost: tuple[Buffer, str] | None = None
        self.uses: Any = None
        self.version = 0
        self.id = next(storage_ids)
        if device.traces:
            device.newcomers.add(self)

    def free(self) -> None:
        buffer = self.buffer or (self.lost[0] if self.lost else None)
        self.buffer = self.lost = None
        if buffer is not None:
            self.device.allocator.free(buffer)

    def lose(self, how: str) -> None:
        """A trace wrote over this memory: until it is written as a whole, nobody may read it."""
        if self.buffer is not None:
            self.lost = self.buffer, how
            self.buffer = None

    def regain(self) -> None:
        """It was written as a whole."""
        if self.lost is not None:
            self.buffer = self.lost[0]
            self.lost = None

    __del__ = free


class Tensor:
    """A tensor on the host (`storage` is None) or on a mesh device. Ops make them; users read their properties.

    `padding`: what is in its tile padding, None where that is not known (see padding.py).
    """

    __slots__ = ("_derived", "config", "dtype", "layout", "padding", "shape", "shards", "storage")

    def __init__(
        self,
        shards: list[torch.Tensor],
        shape: Shape,
        dtype: DataType,
        layout: Layout,
        config: MemoryConfig = DRAM_MEMORY_CONFIG,
        storage: Storage | None = None,
    ) -> None:
        self.shards, self.shape, self.dtype, self.layout = shards, shape, dtype, layout
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
        key = key, tuple(map(id, self.shards))  # some devices' worth differs from all devices' (see replicas)
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
        seen: set[int] = set()
        for device, shard in enumerate(self.shards):
            if id(shard) in seen:
                self.shards[device] = _untouched(shard) if _all_zero(shard) else shard.clone()
            seen.add(id(shard))

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


class Recorder(Protocol):
    """What stands between the ops and their computation while a trace is captured or replayed.

    The tensors it is given have no shards yet; those of `make` no memory either.
    """

    def make(self, op: str, compute: Compute | Shards, tensor: Tensor, device: MeshDevice) -> Tensor:
        """A new tensor."""

    def view(self, compute: Compute, tensor: Tensor) -> Tensor:
        """Another tensor on memory there is."""

    def write(self, op: str, compute: Callable[[], None], target: Tensor) -> None:
        """A tensor is to be written in place."""


recorder: Recorder | None = None


def set_recorder(one: Recorder | None) -> Recorder | None:
    """Puts it, or none, in force; returns the one before."""
    global recorder
    before, recorder = recorder, one
    return before


def make_tensor(
    op: str,
    shards: Compute | Shards,
    shape: Shape,
    dtype: DataType,
    layout: Layout,
    config: MemoryConfig,
    device: MeshDevice,
) -> Tensor:
    """A device tensor around `shards` (storage dtype, logical shape, aliased by nothing that is written), allocated.

    Give them as a function: an op that gives the shards themselves is run as a whole, checks and all, when a trace runs.
    """
    if recorder is None:
        made = shards() if callable(shards) else shards
        buffer = device.allocate(op, shape, dtype, layout, config)
        return Tensor(made, shape, dtype, layout, config, Storage(device, buffer))
    return recorder.make(op, shards, Tensor([], shape, dtype, layout, config), device)


def make_view(
    shards: Compute, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig, storage: Storage
) -> Tensor:
    """Another tensor on the memory of `storage`; `shards` gives views of its shards."""
    if recorder is None:
        return Tensor(shards(), shape, dtype, layout, config, storage)
    return recorder.view(shards, Tensor([], shape, dtype, layout, config, storage))


def write(op: str, target: Tensor, compute: Callable[[], None]) -> Tensor:
    """Runs `compute`, which writes to the shards of `target` in place. Returns `target`."""
    device = device_of(target)
    device.require_program(op, target.shape, target.dtype, target.layout, target.config)
    if recorder is None:
        overwrite(target, compute)
    else:
        recorder.write(op, compute, target)
    return target


def overwrite(target: Tensor, compute: Callable[[], None]) -> None:
    """The writing itself: each device its own shard before, what was derived from them forgotten after."""
    target.own()
    compute()
    target.written()


def same_spec(op: str, like: Tensor, shards: Compute | Shards, config: MemoryConfig | None = None) -> Tensor:
    """A tensor with `like`'s shape, dtype and layout, at `config` or where `like` is."""
    return make_tensor(
        op, shards, like.shape, like.dtype, like.layout, config or like.config, device_of(like)
    )


def device_of(tensor: Tensor) -> MeshDevice:
    assert tensor.storage is not None
    return tensor.storage.device


def output_config(like: Tensor, requested: MemoryConfig | None) -> MemoryConfig:
    """ttnn's rule of most ops: the requested config, else the input's."""
    return like.config if requested is None else requested
