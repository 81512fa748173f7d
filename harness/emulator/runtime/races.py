"""Which ops use which tensors on which queue: put in place when a second command queue is first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.emulator.runtime import dispatch
from harness.emulator.runtime.replicas import tensors
from harness.emulator.runtime.trace import CREATIONS, TRANSFERS

# These put themselves on their queue, or on none.
_OTHERS = TRANSFERS | CREATIONS | {"ttnn.deallocate", "ttnn.get_device_tensors"}


def start() -> None:
    """From now on every op is put on its queue, in order with the others."""
    dispatch.set_around(_watched)


def _watched(name: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    used = [tensor.storage for tensor in tensors((args, kwargs)) if tensor.storage is not None]
    if name in _OTHERS or not used:
        return body(*args, **kwargs)
    queues = used[0].device.queues
    queue = queues.number(name, None)
    if not queues.watched and not queue:
        return body(*args, **kwargs)
    versions = [storage.version for storage in used]
    dispatch.set_around(None)
    try:
        result = body(*args, **kwargs)
    finally:
        dispatch.set_around(_watched)
    written = [storage for storage, version in zip(used, versions, strict=True) if storage.version != version]
    made = [tensor.storage for tensor in tensors(result) if tensor.storage is not None]
    queues.enqueue(name, queue, used, [*written, *(s for s in made if s not in used)])
    return result
