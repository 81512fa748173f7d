"""Traces under the dry run: a mock device crashes on them, so the target answers, and holds the body to a trace's rules.

While a trace is captured its body runs as usual, which checks its ops. Refused inside: what moves data between host and
device or waits for it, because a replay would not repeat it, and programs that were not compiled before, because loading
them writes to the device. On cards these hang or are replayed with stale data. A replay itself does nothing: read-backs are
zeros anyway. Tensors that the ops of the body make may outlive the trace: its results are such.

A mock device crashes on waiting for an event too. Here nothing is ever in flight, so a wait is over when it begins.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from harness.emulator import Kind, declarations

# Beside the emulator's transfers, what moves data between host and device, or waits for it; beside its creations, what fills
# a tensor. The creations, and what is below them, are refused only where given a device.
TRANSFERS = (
    "copy_device_to_host_tensor",
    "synchronize_device",
    "event_synchronize",
    "record_event",
    "wait_for_event",
)
CREATIONS = ("arange", "rand")
TENSOR_TRANSFERS = ("cpu", "to_torch", "to_list", "item")
TENSOR_CREATIONS = ("to",)


class TraceError(RuntimeError):
    """What a trace forbids; the message is one line that starts with the call."""


class Traces:
    """The traces of this process: which one is being captured, which may be replayed."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._captured: set[int] = set()
        self._open: int | None = None
        self._without_region: set[int] = set()  # meshes, by id, with no DRAM for traces

    def install(self, ttnn: Any) -> None:
        """Replaces ttnn's trace calls, and has those that a trace forbids refused while one is captured."""
        ttnn.begin_trace_capture, ttnn.end_trace_capture = self.begin, self.end
        ttnn.execute_trace, ttnn.release_trace = self.execute, self.release
        ttnn.is_trace_capture_active = lambda device: self._open is not None
        ttnn.open_mesh_device = self._noting_region(ttnn.open_mesh_device)
        ttnn.wait_for_event, ttnn.event_synchronize = _wait_for_event, _event_synchronize
        for owner, prefix, names, needs in (
            (ttnn, "ttnn", (*_declared(Kind.TRANSFER), *TRANSFERS), None),
            (ttnn, "ttnn", (*_declared(Kind.CREATION), *CREATIONS), ttnn.MeshDevice),
            (ttnn.Tensor, "ttnn.Tensor", TENSOR_TRANSFERS, None),
            (ttnn.Tensor, "ttnn.Tensor", TENSOR_CREATIONS, ttnn.MeshDevice),
        ):
            for name in names:
                setattr(owner, name, self._guarded(getattr(owner, name), f"{prefix}.{name}", needs))

    def begin(self, mesh_device: Any, *, cq_id: int | None = None) -> int:
        """Starts a capture, in which ttnn itself refuses to compile a program; returns the trace's id."""
        if self._open is not None:
            raise TraceError(f"ttnn.begin_trace_capture: trace {self._open} is still being captured")
        self._open = next(self._ids)
        mesh_device.set_program_cache_misses_allowed(False)
        return self._open

    def end(self, mesh_device: Any, trace_id: int, *, cq_id: int | None = None) -> None:
        """Ends it. Raises TraceError where the mesh has no room for traces."""
        if self._open is None or self._open != trace_id:
            raise TraceError(f"ttnn.end_trace_capture: trace {trace_id} is not being captured")
        self._open = None
        mesh_device.set_program_cache_misses_allowed(True)
        if mesh_device.id() in self._without_region:
            raise TraceError(
                "ttnn.end_trace_capture: no DRAM is kept for traces: open the mesh with trace_region_size"
            )
        self._captured.add(trace_id)

    def execute(
        self, mesh_device: Any, trace_id: int, *, cq_id: int | None = None, blocking: bool = True
    ) -> None:
        """Replays it, which changes nothing here."""
        self._check("ttnn.execute_trace", trace_id)

    def release(self, mesh_device: Any, trace_id: int) -> None:
        """Forgets it."""
        self._check("ttnn.release_trace", trace_id)
        self._captured.remove(trace_id)

    def _check(self, call: str, trace_id: int) -> None:
        if self._open is not None:
            raise TraceError(f"{call}: trace {self._open} is still being captured")
        if trace_id not in self._captured:
            raise TraceError(f"{call}: no trace {trace_id} was captured, or it was released")

    def _noting_region(self, open_mesh_device: Callable[..., Any]) -> Callable[..., Any]:
        """The function, after which it is known whether the mesh has room for traces."""

        @functools.wraps(open_mesh_device)
        def noting(*args: Any, **kwargs: Any) -> Any:
            mesh = open_mesh_device(*args, **kwargs)
            if not kwargs.get("trace_region_size", 0):
                self._without_region.add(mesh.id())
            return mesh

        return noting

    def _guarded(self, function: Callable[..., Any], name: str, needs: type | None) -> Callable[..., Any]:
        """The function, refused inside a capture: always, or where an argument is of type `needs`."""

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            arguments = (*args, *kwargs.values())
            if self._open is not None and (needs is None or any(isinstance(one, needs) for one in arguments)):
                raise TraceError(
                    f"{name}: inside the capture of trace {self._open} no data may move to or from the host"
                )
            return function(*args, **kwargs)

        return guarded


def _wait_for_event(cq_id: int | None, mesh_event: Any) -> None:
    _require_event("ttnn.wait_for_event", mesh_event)


def _event_synchronize(mesh_event: Any) -> None:
    _require_event("ttnn.event_synchronize", mesh_event)


def _require_event(call: str, event: Any) -> None:
    if type(event).__name__ != "MeshEvent":
        raise TypeError(f"{call}: expected a ttnn.MeshEvent, got {type(event).__name__}")


def _declared(kind: Kind) -> list[str]:
    """The emulator's ops of a kind, by the last part of their names."""
    return [name.rpartition(".")[2] for name, op in declarations().items() if op.kind is kind]
