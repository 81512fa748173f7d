"""Traces, queues and events beside the real ttnn, whose mock device has none: the emulator's, on the values.

While a trace is captured the real ttnn runs and checks every op, and how to compute its values is taken down. A replay computes
them. What a trace forbids is refused as under the dry run; memory that a replay overwrites, and queues that race, as on the
emulator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.emulator.mesh import fabric
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.runtime import command_queues
from harness.emulator.runtime.capture import Capture
from harness.emulator.runtime.tensor import Compute, Tensor
from harness.emulator.runtime.trace import Trace
from harness.targets.dry_traces import Traces
from harness.targets.shadow.conversion import NotConvertible, Spec
from harness.targets.shadow.coverage import Coverage, Source
from harness.targets.shadow.values import Values, unknown_shard

_EVENTS = 1024  # remembered; an older one was waited for long ago


class _Capture(Capture):
    """A capture whose steps give what is unknown where they fail: a replay never raises for want of a value."""

    def __init__(self, device: MeshDevice, number: int, coverage: Callable[[], Coverage]) -> None:
        super().__init__(device, number)
        self._coverage = coverage

    def make(self, op: str, compute: Compute, tensor: Tensor, mesh: MeshDevice) -> Tensor:
        """As a capture's."""
        per_device = self._op is not None and self._op.per_device
        spec = Spec(tensor.shape, tensor.dtype, tensor.layout, tensor.config)
        devices = mesh.num_devices if per_device else 1

        def survived() -> Sequence[torch.Tensor]:
            try:
                return compute()
            except (
                Exception
            ) as error:  # a value's failure is never the user's: what it made is unknown, and named
                self._coverage().explain(op, Source.NONE, f"in a trace: {type(error).__name__}: {error}")
                return [unknown_shard(spec)] * devices

        return super().make(op, survived, tensor, mesh)

    def write(self, compute: Callable[[], None], target: Tensor) -> None:
        """As a capture's."""

        def survived() -> None:
            try:
                compute()
            except Exception as error:  # likewise
                what = f"in a trace: {type(error).__name__}: {error}"
                self._coverage().explain("a write in place", Source.NONE, what)
                for shard in target.shards:
                    shard.fill_(torch.nan if shard.dtype.is_floating_point else 0)

        super().write(survived, target)


class ShadowTraces(Traces):
    """The dry run's traces, and the values'."""

    def __init__(self, values: Values, coverage: Callable[[], Coverage]) -> None:
        super().__init__()
        self._values, self._coverage = values, coverage
        self._capture: _Capture | None = None
        self._events: deque[tuple[Any, command_queues.MeshEvent]] = deque(maxlen=_EVENTS)

    def install(self, ttnn: Any) -> None:
        """Replaces ttnn's calls of traces, queues and events."""
        record, synchronize = ttnn.record_event, ttnn.synchronize_device
        ttnn.record_event, ttnn.synchronize_device = self._recording(record), self._synchronizing(synchronize)
        ttnn.set_fabric_config = self._setting_fabric(ttnn.set_fabric_config)
        for name in ("close_mesh_device", "close_device"):
            setattr(ttnn, name, self._closing(getattr(ttnn, name)))
        super().install(ttnn)
        ttnn.wait_for_event = self._waiting(ttnn.wait_for_event)
        ttnn.event_synchronize = self._waited(ttnn.event_synchronize)

    def begin(self, mesh_device: Any, *, cq_id: int | None = None) -> int:
        """Starts a capture, of the real ops and of their values."""
        number = super().begin(mesh_device, cq_id=cq_id)
        mesh = self._values.mesh(mesh_device)
        self._capture = _Capture(mesh, number, self._coverage)
        mesh.capturing = number
        return number

    def end(self, mesh_device: Any, trace_id: int, *, cq_id: int | None = None) -> None:
        """Ends it."""
        capture, self._capture = self._capture, None
        mesh = self._values.mesh(mesh_device)
        if capture is not None:
            capture.stop()
            mesh.capturing = None
        super().end(mesh_device, trace_id, cq_id=cq_id)
        assert capture is not None
        self._values.sweep(mesh_device)  # results that nobody holds need not be kept
        mesh.traces[trace_id] = Trace(capture)

    def execute(
        self, mesh_device: Any, trace_id: int, *, cq_id: int | None = None, blocking: bool = True
    ) -> None:
        """Computes its values again."""
        super().execute(mesh_device, trace_id, cq_id=cq_id, blocking=blocking)
        mesh = self._values.mesh(mesh_device)
        trace, queue = mesh.traces[trace_id], mesh.queues.number("ttnn.execute_trace", _number(cq_id))
        if mesh.queues.several or queue:
            trace.enqueue(queue)
        trace.run()
        if blocking and mesh.queues.several:
            mesh.queues.host_waits(mesh.queues.reached(queue))

    def release(self, mesh_device: Any, trace_id: int) -> None:
        """Forgets it."""
        super().release(mesh_device, trace_id)
        mesh = self._values.mesh(mesh_device)
        del mesh.traces[trace_id]
        mesh.queues.replays.pop(trace_id, None)
        if not mesh.traces:
            mesh.newcomers.clear()

    # queues and events: what the real ttnn checks it checks first

    def _recording(self, record: Callable[..., Any]) -> Callable[..., Any]:
        def record_event(mesh_device: Any, cq_id: Any = None, *args: Any, **kwargs: Any) -> Any:
            event = record(mesh_device, cq_id, *args, **kwargs)
            mesh = self._values.mesh(mesh_device)
            self._events.append((event, command_queues.record_event(mesh, _number(cq_id))))
            return event

        return record_event

    def _waiting(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        def wait_for_event(cq_id: Any, mesh_event: Any) -> None:
            wait(cq_id, mesh_event)
            for mine in self._mine(mesh_event):
                command_queues.wait_for_event(_number(cq_id), mine)

        return wait_for_event

    def _waited(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        def event_synchronize(mesh_event: Any) -> None:
            wait(mesh_event)
            for mine in self._mine(mesh_event):
                command_queues.event_synchronize(mine)

        return event_synchronize

    def _mine(self, event: Any) -> list[command_queues.MeshEvent]:
        return [mine for real, mine in self._events if real is event]

    def _synchronizing(self, synchronize: Callable[..., Any]) -> Callable[..., Any]:
        def synchronize_device(device: Any, cq_id: Any = None, *args: Any, **kwargs: Any) -> None:
            synchronize(device, cq_id, *args, **kwargs)
            command_queues.synchronize_device(self._values.mesh(device), _number(cq_id))

        return synchronize_device

    # meshes

    def _setting_fabric(self, set_config: Callable[..., Any]) -> Callable[..., Any]:
        def set_fabric_config(config: Any, *args: Any, **kwargs: Any) -> Any:
            result = set_config(config, *args, **kwargs)
            try:
                fabric.set_fabric_config(self._values.conversion.member(config))
            except NotConvertible as error:
                self._coverage().explain("ttnn.set_fabric_config", Source.NONE, str(error))
            return result

        return set_fabric_config

    def _closing(self, close: Callable[..., Any]) -> Callable[..., Any]:
        def closing(mesh_device: Any, *args: Any, **kwargs: Any) -> Any:
            for part in mesh_device.get_submeshes():
                self._values.close(part)
            self._values.close(mesh_device)
            return close(mesh_device, *args, **kwargs)

        return closing


def _number(cq_id: Any) -> int | None:
    return None if cq_id is None else int(cq_id)
