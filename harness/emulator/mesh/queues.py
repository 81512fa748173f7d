"""Command queues: each runs its work in order; two have no order but that of events and of what the host waited for.

The emulator runs everything when it is called, so it computes what a device with the right events computes. Where the events
are not right, the use of a tensor that races with one on the other queue is refused. Nothing is noted until a second queue
is used: what ran before counts as done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from harness.emulator.errors import RaceError, refuse
from harness.ttnn_calls.call_sites import calling_line

_current = 0  # the queue of calls that name none


def current_queue() -> int:
    """The queue of calls that name none."""
    return _current


def set_current_queue(queue: int) -> int:
    """Calls that name no queue go to this one from now on; returns the one before."""
    global _current
    before, _current = _current, queue
    return before


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


class Memory(Protocol):
    """Device memory of a tensor: `id` is never used again."""

    id: int
    uses: Uses | None


@dataclass(frozen=True)
class Replay:
    """The last run of a trace: the memory it reads and writes, by the ids of the storages."""

    reads: frozenset[int]
    writes: frozenset[int]
    use: Use


class Queues:
    """The queues of a device."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.several = False  # whether more than the first was ever used
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
        self, op: str, queue: int, reads: Iterable[Memory] = (), writes: Iterable[Memory] = ()
    ) -> Use | None:
        """Puts an op on a queue; refuses it where it races with the other's work. None while there is but one in use."""
        if not self.several:
            if not queue:
                return None
            self.several = True
        own = self._seen[queue]
        own[queue] += 1
        use = Use(queue, own[queue], f"{op} at {calling_line()}")
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
        self, use: Use, does: str, storage: Memory, other: Use | None, done: str, touches: str
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

    def reached(self, queue: int) -> tuple[int, ...]:
        """How much of each queue's work is done when what is on this one now is."""
        return tuple(self._seen[queue])

    def wait(self, queue: int, reached: tuple[int, ...]) -> None:
        """What is put on the queue from now on comes after that."""
        self._seen[queue] = [max(pair) for pair in zip(self._seen[queue], reached, strict=True)]

    def host_waits(self, reached: tuple[int, ...]) -> None:
        """The host goes on after it: so does what it puts on any queue from now on."""
        for queue in range(self.count):
            self.wait(queue, reached)
