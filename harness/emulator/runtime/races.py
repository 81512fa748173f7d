"""Race detection: which ops use which tensors on which queue, from the first use of a second command queue on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.emulator.mesh.device import MeshDevice, Storage
from harness.emulator.mesh.queues import Use
from harness.emulator.runtime.declarations import Kind, Op
from harness.emulator.runtime.distinct_shards import run_distinct
from harness.emulator.runtime.execution import EAGER, Executor, executing, set_default_executor
from harness.emulator.runtime.tensor import tensors_in

# These put themselves on their queue, or on none.
_BY_THEMSELVES = (Kind.TRANSFER, Kind.CREATION, Kind.BUFFER)


class RaceDetector(Executor):
    """Runs ops at once, and puts each on its queue, in order with the others."""

    def call(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        used = [tensor.storage for tensor in tensors_in((args, kwargs)) if tensor.storage is not None]
        if op.kind in _BY_THEMSELVES or not used:
            return run_distinct(op, args, kwargs)
        queues = used[0].device.queues
        queue = queues.number(op.name, None)
        if not queues.several and not queue:
            return run_distinct(op, args, kwargs)
        versions = [storage.version for storage in used]
        with executing(EAGER):
            result = run_distinct(op, args, kwargs)
        written = [
            storage for storage, before in zip(used, versions, strict=True) if storage.version != before
        ]
        new = [tensor.storage for tensor in tensors_in(result) if tensor.storage is not None]
        queues.enqueue(op.name, queue, used, [*written, *(storage for storage in new if storage not in used)])
        return result


_DETECTOR = RaceDetector()


def detect() -> None:
    """From now on every op is put on its queue."""
    set_default_executor(_DETECTOR)


def enqueue(
    op: str, device: MeshDevice, queue: int, reads: Iterable[Storage] = (), writes: Iterable[Storage] = ()
) -> Use | None:
    """Puts a call on a queue of the device; the first on a second queue starts the detection."""
    if queue:
        detect()
    return device.queues.enqueue(op, queue, reads, writes)
