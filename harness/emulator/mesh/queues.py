"""Command queues: each runs its work in order; two have no order but that of events and of what the host waited for.

The emulator runs everything when it is called, so it computes what a device with the right events computes. Where the events
are not right, the use of a tensor that races with one on the other queue is refused. Nothing is watched until a second queue
is used: what ran before counts as done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.emulator.call_sites import call_site
from harness.emulator.errors import RaceError, TraceError, refuse

if TYPE_CHECKING:
    from harness.emulator.mesh.device import MeshDevice
    from harness.emulator.runtime.tensor import Storage

_current = 0  # the queue of calls that name none


@dataclass(frozen=True)
class Use:
    """A piece of work on a queue, the `at`-th there; `what` is the op and the line that called it."""

    queue: int
    at: int
    what: str


@dataclass
class Uses:
    """Who last wrote a tensor's memory, and who on each queue last read it since."""

    write: Use | None = None
    reads: dict[int, Use] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """The last run of a trace: the memory it reads and writes, by the ids of the storages."""

    reads: frozenset[int]
    writes: frozenset[int]
    use: Use


@dataclass(frozen=True)
class MeshEvent:
    """A point in a queue's work. `seen`: how much of each queue's work is done when it is reached."""

    queues: Queues
    device: MeshDevice
    seen: tuple[int, ...]


class Queues:
    """The queues of a device."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.watched = False  # whether more than the first was ever used
        self.replays: dict[int, Replay] = {}  # trace -> its last run
        # Of each queue: how much of every queue's work, its own included, comes before what is put on it next.
        self._seen = [[0] * count for _ in range(count)]

    def number(self, op: str, queue: int | None) -> int:
        """The queue meant; refuses one there is not."""
        number = _current if queue is None else int(queue)
        if not 0 <= number < self.count:
            refuse(op, f"cq_id {number} is out of range: the device was opened with {self.count}")
        return number

    def enqueue(
        self, op: str, queue: int, reads: Iterable[Storage] = (), writes: Iterable[Storage] = ()
    ) -> Use | None:
        """Puts an op on a queue; refuses it where it races with the other's work. None while nothing is watched."""
        if not self.watched:
            if not queue:
                return None
            self.watched = True
            _start_watching()
        own = self._seen[queue]
        own[queue] += 1
        use = Use(queue, own[queue], f"{op} at {call_site()}")
        for storage in reads:
            uses = storage.uses = storage.uses or Uses()
            self._after(use, "reads", storage, uses.write, "written", "writes")
            uses.reads[queue] = use
        for storage in writes:
            uses = storage.uses = storage.uses or Uses()
            self._after(use, "writes", storage, uses.write, "written", "writes")
            for read in uses.reads.values():
                self._after(use, "writes", storage, read, "read", "reads")
            uses.write, uses.reads = use, {}
        return use

    def _after(
        self, use: Use, does: str, storage: Storage, other: Use | None, done: str, touches: str
    ) -> None:
        """Refuses `use` where it does not come after `other`, or after a trace that touches the memory so."""
        others = [other] if other is not None else []
        for replay in self.replays.values():
            if storage.id in getattr(replay, touches):
                others.append(replay.use)
        for one in others:
            if one.queue != use.queue and self._seen[use.queue][one.queue] < one.at:
                raise RaceError(
                    f"{use.what} {does} on queue {use.queue} what is {done} by {one.what} on queue {one.queue}, and no "
                    f"event orders the two: record_event on queue {one.queue} after that, wait_for_event on queue {use.queue}"
                )

    def replay(
        self, trace: int, queue: int, reads: frozenset[int], writes: frozenset[int], shared: Any
    ) -> None:
        """Puts a trace's run on a queue. `shared`: those of the storages it reads, and writes, that other calls use too."""
        use = self.enqueue("ttnn.execute_trace", queue, *shared)
        if use is not None:
            self.replays[trace] = Replay(reads, writes, use)

    def record(self, device: MeshDevice, queue: int) -> MeshEvent:
        return MeshEvent(self, device, tuple(self._seen[queue]))

    def wait(self, queue: int, event: MeshEvent) -> None:
        self._seen[queue] = [max(pair) for pair in zip(self._seen[queue], event.seen, strict=True)]

    def host_waits(self, event: MeshEvent) -> None:
        """The host goes on after it: so does what it puts on any queue from now on."""
        for queue in range(self.count):
            self.wait(queue, event)


@contextmanager
def command_queue(cq_id: int) -> Iterator[None]:
    """While it lasts, calls that name no queue go to this one."""
    global _current
    before, _current = _current, cq_id
    if cq_id:
        _start_watching()
    try:
        yield
    finally:
        _current = before


def get_current_command_queue_id_for_thread() -> int:
    return _current


def record_event(
    mesh_device: MeshDevice,
    cq_id: int | None = None,
    sub_device_ids: Sequence[Any] = (),
    device_range: Any = None,
) -> MeshEvent:
    """The point that a queue's work has come to."""
    _not_in_capture("ttnn.record_event", mesh_device)
    return mesh_device.queues.record(mesh_device, mesh_device.queues.number("ttnn.record_event", cq_id))


def wait_for_event(cq_id: int | None, mesh_event: MeshEvent) -> None:
    """What is put on the queue from now on comes after the event."""
    _not_in_capture("ttnn.wait_for_event", mesh_event.device)
    mesh_event.queues.wait(mesh_event.queues.number("ttnn.wait_for_event", cq_id), mesh_event)


def event_synchronize(mesh_event: MeshEvent) -> None:
    """The host waits for the event."""
    _not_in_capture("ttnn.event_synchronize", mesh_event.device)
    mesh_event.queues.host_waits(mesh_event)


def synchronize_device(
    device: MeshDevice, cq_id: int | None = None, sub_device_ids: Sequence[Any] = ()
) -> None:
    """The host waits for a queue, or for all."""
    _not_in_capture("ttnn.synchronize_device", device)
    queues = device.queues
    waited = range(queues.count) if cq_id is None else [queues.number("ttnn.synchronize_device", cq_id)]
    for queue in waited:
        queues.host_waits(queues.record(device, queue))


def _start_watching() -> None:
    from harness.emulator.runtime import races  # which knows the ops, which know this module

    races.start()


def _not_in_capture(op: str, device: MeshDevice) -> None:
    if device.capturing is not None:
        raise TraceError(
            f"{op}: inside the capture of trace {device.capturing} nobody can wait for the device"
        )
