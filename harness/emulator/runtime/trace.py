"""Traces: a capture takes ops down without running them, a replay runs them again on the buffers they got then.

While a trace is captured every op is checked and its results get their buffers, but nothing is computed: see capture.py. A
replay computes just that. A tensor that is allocated after the capture may lie where the trace works: once a replay has run
over it, reading it is refused, and both are named.
"""

from __future__ import annotations

import itertools

from harness.emulator.errors import TraceError
from harness.emulator.mesh.device import MeshDevice, Replayable, Storage
from harness.emulator.mesh.queues import Replay
from harness.emulator.runtime import races
from harness.emulator.runtime.capture import Alias, Capture, Step
from harness.emulator.runtime.distinct_shards import on_distinct
from harness.emulator.runtime.tensor import Shards, Tensor

_ids = itertools.count()
_captures: dict[int, Capture] = {}  # trace -> its capture


class Trace:
    """What was captured, ready to run."""

    def __init__(self, capture: Capture) -> None:
        self.number, self.device = capture.number, capture.device
        self._steps = capture.steps
        # Memory that was there before, each with the op that first uses it.
        self._outside = list(capture.outside.values())
        self._results = [result for result in capture.results if not result.is_gone()]
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
        for step in self._steps:
            self._compute(step)
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
        use = races.enqueue("ttnn.execute_trace", self.device, queue, *shared)
        if use is not None:
            self.device.queues.replays[self.number] = Replay(self.reads, written, use)

    def _compute(self, step: Step) -> None:
        """Runs a step; on several devices once where they hold the same."""

        def compute() -> list[Tensor]:
            target, values = step.target, step.compute()
            if target is None:
                return []
            target.shards = Shards(values)
            if isinstance(target.storage, Alias) and not step.view:
                target.storage.version += 1
            return [target]

        if self.device.num_devices == 1:
            compute()
        else:
            on_distinct(step.inputs, compute, lambda targets: targets)

    def _kept(self) -> list[Storage]:
        """The memory of the results that the model still holds."""
        return [storage for storage in (result.memory() for result in self._results) if storage is not None]

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
    if mesh_device.queues.several or queue:
        trace.enqueue(queue)
    trace.run()
    if blocking and mesh_device.queues.several:
        mesh_device.queues.host_waits(mesh_device.queues.reached(queue))


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


def _captured(name: str, mesh_device: MeshDevice, trace_id: int) -> Replayable:
    if _captures:
        raise TraceError(f"{name}: trace {next(iter(_captures))} is still being captured")
    trace = mesh_device.traces.get(trace_id)
    if trace is None:
        raise TraceError(f"{name}: no trace {trace_id} was captured, or it was released")
    return trace
