"""ttnn's calls of command queues and events: what comes after what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.emulator.errors import TraceError
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.mesh.queues import current_queue, set_current_queue
from harness.emulator.runtime import races


@dataclass(frozen=True)
class MeshEvent:
    """A point in a queue's work. `reached`: how much of each queue's work is done there."""

    device: MeshDevice
    reached: tuple[int, ...]


@contextmanager
def command_queue(cq_id: int) -> Iterator[None]:
    """While it lasts, calls that name no queue go to this one."""
    before = set_current_queue(cq_id)
    if cq_id:
        races.detect()
    try:
        yield
    finally:
        set_current_queue(before)


def get_current_command_queue_id_for_thread() -> int:
    return current_queue()


def record_event(
    mesh_device: MeshDevice,
    cq_id: int | None = None,
    sub_device_ids: Sequence[Any] = (),
    device_range: Any = None,
) -> MeshEvent:
    """The point that a queue's work has come to."""
    _not_in_capture("ttnn.record_event", mesh_device)
    queues = mesh_device.queues
    return MeshEvent(mesh_device, queues.reached(queues.number("ttnn.record_event", cq_id)))


def wait_for_event(cq_id: int | None, mesh_event: MeshEvent) -> None:
    """What is put on the queue from now on comes after the event."""
    _not_in_capture("ttnn.wait_for_event", mesh_event.device)
    queues = mesh_event.device.queues
    queues.wait(queues.number("ttnn.wait_for_event", cq_id), mesh_event.reached)


def event_synchronize(mesh_event: MeshEvent) -> None:
    """The host waits for the event."""
    _not_in_capture("ttnn.event_synchronize", mesh_event.device)
    mesh_event.device.queues.host_waits(mesh_event.reached)


def synchronize_device(
    device: MeshDevice, cq_id: int | None = None, sub_device_ids: Sequence[Any] = ()
) -> None:
    """The host waits for a queue, or for all."""
    _not_in_capture("ttnn.synchronize_device", device)
    queues = device.queues
    waited = range(queues.count) if cq_id is None else [queues.number("ttnn.synchronize_device", cq_id)]
    for queue in waited:
        queues.host_waits(queues.reached(queue))


def _not_in_capture(op: str, device: MeshDevice) -> None:
    if device.capturing is not None:
        raise TraceError(
            f"{op}: inside the capture of trace {device.capturing} nobody can wait for the device"
        )
