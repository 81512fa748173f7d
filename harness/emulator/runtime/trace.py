"""Traces: a capture takes ops down without running them, a replay runs them again on the buffers they got then.

While a trace is captured every op is checked and its results get their buffers, but nothing is computed: what an op hands to
`make_tensor`, `make_view` and `write` is kept. A replay calls just that. What is not kept alive by the model is freed during
the capture and its memory used again, as on a device; a tensor that is allocated later may therefore lie where the trace
works. Once a replay has run over it, reading it is refused, and both are named.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.call_sites import call_site
from harness.emulator.errors import TraceError
from harness.emulator.memory.allocator import Buffer
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.runtime import dispatch
from harness.emulator.runtime import tensor as tensors_of
from harness.emulator.runtime.replicas import alone, spread, tensors
from harness.emulator.runtime.tensor import Compute, Shards, Storage, Tensor, overwrite, storage_ids
from harness.emulator.spec.types import BufferType

# What moves data between host and device; those of the second group only where given a device.
TRANSFERS = frozenset(
    f"ttnn.{name}"
    for name in (
        "to_torch",
        "from_device",
        "to_device",
        "copy_host_to_device_tensor",
        "copy_device_to_host_tensor",
    )
)
CREATIONS = frozenset(
    f"ttnn.{name}"
    for name in ("from_torch", "as_tensor", "zeros", "ones", "full", "empty", "allocate_tensor_on_device")
)
_ids = itertools.count()
_captures: dict[int, Capture] = {}  # trace -> its capture


class Alias(Storage):
    """A trace's own hold on memory: it keeps nothing allocated, and stays valid when the memory is freed."""

    __slots__ = ("owner",)

    def __init__(self, device: MeshDevice, buffer: Buffer, owner: Storage | None) -> None:
        # Not the parent's, which would have the device look after this memory.
        self.device, self.buffer, self.lost, self.uses = device, buffer, None, None
        self.version, self.id = 0, next(storage_ids)
        self.owner: Callable[[], Storage | None] = weakref.ref(owner) if owner is not None else lambda: None

    def free(self) -> None:
        """Nothing is owned."""

    __del__ = free


@dataclass
class Step:
    """One computation of a trace; `given` are the tensors its op was called with, none of one that goes across the devices.

    `shards`: where what it makes goes; None for a step that writes in place. `storage`: whose version it then advances.
    """

    compute: Callable[[], Any]
    given: list[Tensor]
    shards: Shards | None = None
    storage: Storage | None = None


class Result:
    """A tensor of the trace that the model kept. Every replay writes it in the same place: there may be views of it."""

    def __init__(self, storage: weakref.ref[Storage], shards: Shards) -> None:
        self.storage, self._shards = storage, shards
        self._places = list(shards)

    def settle(self) -> None:
        """Moves what a replay has made to its place."""
        storage = self.storage()
        if storage is None:
            return
        made, places = self._shards, self._places
        if len(set(map(id, places))) < len(set(map(id, made))):  # devices that were taken for alike are not
            places[:] = [place.clone() for place in places]
        for place, shard in {id(p): (p, m) for p, m in zip(places, made, strict=True)}.values():
            place.copy_(shard)
        made[:] = places
        storage.regain()
        storage.version += 1


class Trace:
    """What was captured, ready to run."""

    def __init__(self, capture: Capture) -> None:
        self.number, self.device = capture.number, capture.device
        self._steps = [(self._runnable(step), step.shards, step.storage) for step in capture.steps]
        # Memory that was there before, each with the op that first uses it.
        self._outside = list(capture.outside.values())
        self._results = capture.results()
        self._footprint = capture.footprint
        self.reads = frozenset(storage.id for storage, _ in self._outside)
        self._written = [storage for storage, _ in self._outside if storage.id in capture.written]

    def run(self) -> None:
        """Runs it. Raises TraceError if memory it reads is gone."""
        for storage, what in self._outside:
            if storage.buffer is None:
                how = storage.lost[1] if storage.lost is not None else "was deallocated"
                raise TraceError(
                    f"ttnn.execute_trace: a tensor that trace {self.number} reads in {what}, {how}"
                )
        for compute, shards, made in self._steps:
            if shards is None:
                compute()
                continue
            shards[:] = compute()
            if made is not None:
                made.version += 1
        for result in self._results:
            result.settle()
        if self.device.newcomers:
            self._overrun()

    def enqueue(self, queue: int) -> None:
        """Puts the run on a queue, in order with what other calls do there and elsewhere."""
        writes = [*self._written, *self._kept()]
        shared = tuple(
            [storage for storage in some if storage.uses is not None]
            for some in ((s for s, _ in self._outside if s.uses is not None and s.uses.write), writes)
        )
        written = frozenset(storage.id for storage in writes)
        self.device.queues.replay(self.number, queue, self.reads, written, shared)

    def _runnable(self, step: Step) -> Callable[[], Any]:
        """The step's computation; on several devices once where they hold the same."""
        if self.device.num_devices == 1:
            return step.compute

        def across() -> Any:
            return alone(step.given, step.compute, lambda made: [] if made is None else [made])

        return across

    def _kept(self) -> list[Storage]:
        """The memory of the results that the model still holds."""
        return [storage for storage in (result.storage() for result in self._results) if storage is not None]

    def _overrun(self) -> None:
        """Finds what was allocated since where the trace works."""
        own = self._kept()
        for storage in list(self.device.newcomers):
            buffer = storage.buffer
            if buffer is None or storage in own:
                continue
            start, end = buffer.address, buffer.address + buffer.size_per_bank
            for kind, first, last, what in self._footprint:
                if kind is buffer.buffer_type and first < end and start < last:
                    storage.lose(
                        f"made by {buffer.origin} while trace {self.number} was alive, lies in {kind.name} at {start} where the "
                        f"trace's {what} writes, and was overwritten when it ran: allocate it before the capture, or "
                        "release the trace first"
                    )
                    break


class Capture:
    """The recorder of a trace that is being captured."""

    def __init__(self, device: MeshDevice, number: int) -> None:
        self.device, self.number = device, number
        self.steps: list[Step] = []
        self.outside: dict[int, tuple[Storage, str]] = {}
        self.written: set[int] = set()
        self.footprint: list[tuple[BufferType, int, int, str]] = []
        self._made: list[tuple[weakref.ref[Storage], Shards]] = []
        # The trace's own tensor for each that was made in it, by the list of shards that the two share.
        self._own: dict[int, Tensor] = {}
        # Of the call that is being taken down: the op and its place, its tensors, whether it gave shards and no function.
        self._what = ""
        self._given: list[Tensor] = []
        self._across = self._whole = False
        self._before = dispatch.set_around(self.call), tensors_of.set_recorder(self)

    def stop(self) -> None:
        """Ops run again as before."""
        around, recorder = self._before
        dispatch.set_around(around)
        tensors_of.set_recorder(recorder)

    def results(self) -> list[Result]:
        """The tensors made in the trace that the model still holds."""
        return [Result(storage, shards) for storage, shards in self._made if storage() is not None]

    def call(self, name: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Takes an op's call down; returns what it returns. Raises TraceError for what moves data."""
        on_device = any(isinstance(value, MeshDevice) for value in (*args, *kwargs.values()))
        if name in TRANSFERS or (name in CREATIONS and on_device):
            raise TraceError(
                f"{name}: inside the capture of trace {self.number} no data may move to or from the host"
            )
        theirs = {id(t.shards): t for t in tensors((args, kwargs)) if t.storage is not None}
        if not theirs or name == "ttnn.deallocate":
            return body(*args, **kwargs)
        ours = {key: self._own.get(key, tensor) for key, tensor in theirs.items()}
        args, kwargs = _replaced((args, kwargs), ours)
        self._what, self._given, self._whole = f"{name} at {call_site()}", list(ours.values()), False
        self._across = name in dispatch.ACROSS
        for tensor in ours.values():
            if tensor.storage is not None and not isinstance(tensor.storage, Alias):
                self.outside.setdefault(tensor.storage.id, (tensor.storage, self._what))
        taken = len(self.steps)
        dispatch.set_around(None)
        try:
            result = body(*args, **kwargs)
        except BaseException:
            del self.steps[taken:]
            raise
        finally:
            dispatch.set_around(self.call)
        made = [tensor for tensor in tensors(result) if id(tensor.shards) not in ours]
        if self._whole or any(id(tensor.shards) not in self._own for tensor in made):
            del self.steps[taken:]
            self._take_whole(body, args, kwargs, set(ours), made)
        for tensor in made:
            if isinstance(tensor.storage, Alias):  # a view: of the memory, not of the trace's hold on it
                tensor.storage = tensor.storage.owner()
        for own in self._given[len(ours) :]:  # made by the op, for the model or on the way
            if len(own.shards) == 1:
                spread(own.shards, self.device.num_devices)
        return _replaced(result, theirs)

    def make(self, op: str, compute: Compute | Shards, tensor: Tensor, device: MeshDevice) -> Tensor:
        """A new tensor, its buffer, and a step that will compute it. What it holds until then nobody knows."""
        buffer = device.allocate(op, tensor.shape, tensor.dtype, tensor.layout, tensor.config)
        end = buffer.address + buffer.size_per_bank
        self.footprint.append((buffer.buffer_type, buffer.address, end, self._what))
        tensor.storage = Storage(device, buffer)
        tensor.shards.append(_unknown(tensor))
        alias = Alias(device, buffer, tensor.storage)
        if callable(compute):
            self.steps.append(Step(compute, self._alike(), tensor.shards, alias))
        else:
            self._whole = True
        self._adopt(tensor, alias)
        return tensor

    def view(self, compute: Compute, tensor: Tensor) -> Tensor:
        """Another tensor on memory there is, made anew when the trace runs, because what is in it may be new."""
        assert tensor.storage is not None
        tensor.shards += compute()
        self.steps.append(Step(compute, self._alike(), tensor.shards))
        self._adopt(tensor, tensor.storage)
        return tensor

    def write(self, op: str, compute: Callable[[], None], target: Tensor) -> None:
        """A step that will write to a tensor in place."""
        if target.storage is not None:
            self.written.add(target.storage.id)
        self.steps.append(Step(functools.partial(overwrite, target, compute), self._alike()))

    def _alike(self) -> list[Tensor]:
        """Tensors that say which devices a step is the same for."""
        return [] if self._across else list(self._given)

    def _adopt(self, tensor: Tensor, storage: Storage) -> None:
        """Makes the trace's own tensor for one that the model gets."""
        own = Tensor(tensor.shards, tensor.shape, tensor.dtype, tensor.layout, tensor.config, storage)
        self._own[id(tensor.shards)] = own
        self._given.append(own)  # what the rest of the op may work on
        owner = storage.owner() if isinstance(storage, Alias) else None
        if owner is not None:
            self._made.append((weakref.ref(owner), tensor.shards))

    def _take_whole(
        self,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: set[int],
        made: list[Tensor],
    ) -> None:
        """A step that calls the op again: for ops that do not part what they check from what they compute."""
        for tensor in made:
            if id(tensor.shards) not in self._own:
                assert tensor.storage is not None
                self._adopt(tensor, tensor.storage)
        targets = [self._own[id(tensor.shards)] for tensor in made]

        def again() -> None:
            before = tensors_of.set_recorder(_FREE)
            try:
                result = body(*args, **kwargs)
            finally:
                tensors_of.set_recorder(before)
            results = (tensor for tensor in tensors(result) if id(tensor.shards) not in given)
            for target, tensor in zip(targets, results, strict=True):
                target.shards[:] = tensor.shards
                if isinstance(target.storage, Alias):
                    target.storage.version += 1

        self.steps.append(Step(again, []))


class _Free:
    """The recorder of a replay: tensors need no memory of their own, and are computed at once."""

    def make(self, op: str, compute: Compute | Shards, tensor: Tensor, device: MeshDevice) -> Tensor:
        tensor.storage = Alias(device, _NO_MEMORY, None)
        tensor.shards += compute() if callable(compute) else compute
        return tensor

    def view(self, compute: Compute, tensor: Tensor) -> Tensor:
        tensor.shards += compute()
        return tensor

    def write(self, op: str, compute: Callable[[], None], target: Tensor) -> None:
        overwrite(target, compute)


_FREE = _Free()
_NO_MEMORY = Buffer(0, 0, 0, BufferType.DRAM)


def begin_trace_capture(mesh_device: MeshDevice, *, cq_id: int | None = None) -> int:
    """From now on ops are taken down and not run. Returns the trace's number."""
    name = "ttnn.begin_trace_capture"
    mesh_device.queues.number(name, cq_id)
    if _captures:
        raise TraceError(f"{name}: trace {next(iter(_captures))} is still being captured")
    number = next(_ids)
    _captures[number] = Capture(mesh_device, number)
    mesh_device.capturing = number
    return number


def end_trace_capture(mesh_device: MeshDevice, trace_id: int, *, cq_id: int | None = None) -> None:
    """Ends it. Raises TraceError where the mesh has no room for traces."""
    name = "ttnn.end_trace_capture"
    mesh_device.queues.number(name, cq_id)
    capture = _captures.pop(trace_id, None)
    if capture is None:
        raise TraceError(f"{name}: trace {trace_id} is not being captured")
    capture.stop()
    mesh_device.capturing = None
    if not mesh_device.trace_region_size:
        raise TraceError(f"{name}: no DRAM is kept for traces: open the mesh with trace_region_size")
    mesh_device.traces[trace_id] = Trace(capture)


def execute_trace(
    mesh_device: MeshDevice, trace_id: int, *, cq_id: int | None = None, blocking: bool = True
) -> None:
    """Runs a captured trace."""
    trace = _captured("ttnn.execute_trace", mesh_device, trace_id)
    queue = mesh_device.queues.number("ttnn.execute_trace", cq_id)
    if mesh_device.queues.watched or queue:
        trace.enqueue(queue)
    trace.run()
    if blocking and mesh_device.queues.watched:
        mesh_device.queues.host_waits(mesh_device.queues.record(mesh_device, queue))


def release_trace(mesh_device: MeshDevice, trace_id: int) -> None:
    """Forgets a trace, and with it what it may overwrite."""
    _captured("ttnn.release_trace", mesh_device, trace_id)
    del mesh_device.traces[trace_id]
    mesh_device.queues.replays.pop(trace_id, None)
    if not mesh_device.traces:
        mesh_device.newcomers.clear()


def is_trace_capture_active(device: MeshDevice) -> bool:
    """Whether a trace is being captured on the device."""
    return device.capturing is not None


def _captured(name: str, mesh_device: MeshDevice, trace_id: int) -> Trace:
    if _captures:
        raise TraceError(f"{name}: trace {next(iter(_captures))} is still being captured")
    trace = mesh_device.traces.get(trace_id)
    if trace is None:
        raise TraceError(f"{name}: no trace {trace_id} was captured, or it was released")
    return trace


def _unknown(tensor: Tensor) -> torch.Tensor:
    dtype = formats.storage_dtype(tensor.dtype)
    with torch.inference_mode(False):
        return torch.full(tuple(tensor.shape), torch.nan if dtype.is_floating_point else 0, dtype=dtype)


def _replaced(value: Any, by_shards: dict[int, Tensor]) -> Any:
    """The same value with other tensors in it, by their lists of shards."""
    if isinstance(value, Tensor):
        return by_shards.get(id(value.shards), value)
    if isinstance(value, dict):
        return {key: _replaced(item, by_shards) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replaced(item, by_shards) for item in value)
    return value
