"""The capture of a trace: ops are checked and their results get their memory, and how to compute them is kept for the replays.

Ops work on the trace's own tensors, the model gets others on the same memory. What the model does not keep alive is freed
during the capture and its memory used again, as on a device.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.errors import TraceError
from harness.emulator.memory.allocator import Buffer
from harness.emulator.mesh.device import MeshDevice, Storage, storage_ids
from harness.emulator.runtime.declarations import Kind, Op
from harness.emulator.runtime.distinct_shards import on_distinct
from harness.emulator.runtime.execution import (
    EAGER,
    Executor,
    allocated,
    default_executor,
    overwrite,
    set_executor,
)
from harness.emulator.runtime.tensor import Compute, Shards, Tensor, replaced, tensors_in
from harness.emulator.spec.types import BufferType
from harness.ttnn_calls.call_sites import calling_line


class Alias(Storage):
    """A trace's own hold on memory: it keeps nothing allocated, and stays valid when the memory is freed."""

    __slots__ = ("owner",)

    def __init__(self, device: MeshDevice, buffer: Buffer, owner: Storage) -> None:
        # Not the parent's, which would have the device look after this memory.
        self.device, self.buffer, self.lost, self.uses = device, buffer, None, None
        self.version, self.id = 0, next(storage_ids)
        self.owner = weakref.ref(owner)

    def free(self) -> None:
        """Nothing is owned."""

    __del__ = free


@dataclass(frozen=True)
class Step:
    """One computation of a trace. `inputs`: the tensors of its op, none of one that looks at devices one by one.

    `target`: the trace's tensor that it computes, None for a step that writes in place; `view`: on memory there was.
    """

    compute: Callable[[], Any]
    inputs: list[Tensor]
    target: Tensor | None = None
    view: bool = False


class Result:
    """A tensor of the trace that the model has. Every replay writes it in the same place: there may be views of it.

    `storage` is its memory, None for a view of memory that was there before the trace.
    """

    def __init__(self, tensor: Tensor, storage: Storage | None, own: Tensor) -> None:
        self._tensor, self._own, self._places = weakref.ref(tensor), own, own.shards
        self._storage = weakref.ref(storage) if storage is not None else None

    def memory(self) -> Storage | None:
        """The memory of the trace that it keeps alive."""
        return self._storage() if self._storage is not None else None

    def is_gone(self) -> bool:
        """Whether nobody can see it any more."""
        return (self._tensor if self._storage is None else self._storage)() is None

    def settle(self) -> None:
        """Moves what a replay has made to its place."""
        computed, tensor = self._own.shards, self._tensor()
        if self._storage is None:
            if tensor is not None:
                tensor.shards = computed
            return
        storage = self._storage()
        if storage is None:
            return
        # Devices that were taken for alike may not be.
        if len(set(map(id, self._places))) < len(set(map(id, computed))):
            self._places = Shards([place.clone() for place in self._places])
            if tensor is not None:
                tensor.shards = self._places
        for place, shard in {id(p): (p, c) for p, c in zip(self._places, computed, strict=True)}.values():
            place.copy_(shard)
        self._own.shards = self._places
        storage.regain()
        storage.version += 1


class Capture(Executor):
    """The executor of a trace that is being captured, in force until it is stopped."""

    def __init__(self, device: MeshDevice, number: int) -> None:
        self.device, self.number = device, number
        self.steps: list[Step] = []
        self.results: list[Result] = []
        # Memory that was there before, each with the op that first uses it, by its id.
        self.outside: dict[int, tuple[Storage, str]] = {}
        self.written: set[int] = set()
        self.footprint: list[tuple[BufferType, int, int, str]] = []
        self._own: weakref.WeakKeyDictionary[Tensor, Tensor] = weakref.WeakKeyDictionary()  # by the model's
        # Of the call that is being taken down: the op and its call site, its tensors, the memory of those it makes.
        self._op: Op | None = None
        self._what = ""
        self._inputs: list[Tensor] = []
        self._new: list[Tensor] = []
        self._held: list[Storage] = []
        self._before = set_executor(self)

    def stop(self) -> None:
        """Ops run again as before."""
        set_executor(default_executor() if self._before is EAGER else self._before)

    def call(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Takes an op's call down; returns what it returns. Raises TraceError for what moves data."""
        if self._op is not None:  # an op's own business
            return op.function(*args, **kwargs)
        on_device = any(isinstance(value, MeshDevice) for value in (*args, *kwargs.values()))
        if op.kind is Kind.TRANSFER or (op.kind is Kind.CREATION and on_device):
            raise TraceError(
                f"{op.name}: inside the capture of trace {self.number} no data may move to or from the host"
            )
        theirs = {id(t): t for t in tensors_in((args, kwargs)) if t.storage is not None}
        if not theirs or op.ends:  # what the model gives back is its own, not the trace's
            return op.function(*args, **kwargs)
        ours = {key: self._own.get(tensor, tensor) for key, tensor in theirs.items()}
        args, kwargs = replaced((args, kwargs), lambda tensor: ours.get(id(tensor), tensor))
        self._what, self._inputs = f"{op.name} at {calling_line()}", list(ours.values())
        for tensor in ours.values():
            if tensor.storage is not None and not isinstance(tensor.storage, Alias):
                self.outside.setdefault(tensor.storage.id, (tensor.storage, self._what))
        before = len(self.steps)
        self._op = op
        try:
            result = op.function(*args, **kwargs)
            if not op.per_device:
                for own in self._new:
                    if len(own.shards) == 1:
                        own.shards = own.shards.on_all(self.device.num_devices)
            models = {id(own): tensor for tensor, own in zip(theirs.values(), ours.values(), strict=True)}
            return replaced(
                result, lambda own: models[id(own)] if id(own) in models else self._for_model(own)
            )
        except BaseException:
            del self.steps[before:]
            raise
        finally:
            self._op, self._inputs, self._new, self._held = None, [], [], []

    def make(self, op: str, compute: Compute, tensor: Tensor, mesh: MeshDevice) -> Tensor:
        """A new tensor, its memory, and a step that will compute it. What it holds until then nobody knows."""
        storage = allocated(op, tensor, mesh)
        buffer = storage.buffer
        assert buffer is not None
        end = buffer.address + buffer.size_per_bank
        self.footprint.append((buffer.buffer_type, buffer.address, end, self._what))
        self._held.append(storage)
        tensor.storage = Alias(mesh, buffer, storage)
        per_device = self._op is not None and self._op.per_device
        tensor.shards = Shards([_unknown(tensor)]).on_all(mesh.num_devices if per_device else 1)
        return self._taken(compute, tensor, view=False)

    def view(self, compute: Compute, tensor: Tensor) -> Tensor:
        """Another tensor on memory there is, made anew when the trace runs, because what is in it may be new."""

        def views() -> list[Tensor]:
            tensor.shards = Shards(compute())
            return [tensor]

        on_distinct(self._alike(), views, lambda tensors: tensors)
        return self._taken(compute, tensor, view=True)

    def write(self, compute: Callable[[], None], target: Tensor) -> None:
        """A step that will write to a tensor in place."""
        if target.storage is not None:
            self.written.add(target.storage.id)
        self.steps.append(Step(functools.partial(overwrite, target, compute), self._alike()))

    def _taken(self, compute: Compute, tensor: Tensor, view: bool) -> Tensor:
        self.steps.append(Step(compute, self._alike(), tensor, view))
        self._new.append(tensor)
        self._inputs.append(tensor)  # what the rest of the op may work on
        return tensor

    def _alike(self) -> list[Tensor]:
        """Tensors that say which devices a step is the same for."""
        return [] if self._op is None or self._op.per_device else list(self._inputs)

    def _for_model(self, own: Tensor) -> Tensor:
        """The model's tensor for one of the trace's: on the memory, not on the trace's hold on it."""
        if not any(own is each for each in self._new):
            return own
        storage = own.storage
        owner = storage.owner() if isinstance(storage, Alias) else None
        tensor = Tensor(own.shards, own.shape, own.dtype, own.layout, own.config, owner or storage)
        tensor.padding = own.padding
        self._own[tensor] = own
        self.results.append(Result(tensor, owner, own))
        return tensor


def _unknown(tensor: Tensor) -> torch.Tensor:
    dtype = formats.storage_dtype(tensor.dtype)
    with torch.inference_mode(False):
        return torch.full(tuple(tensor.shape), torch.nan if dtype.is_floating_point else 0, dtype=dtype)
