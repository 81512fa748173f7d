"""Device work that is run over and over as a trace: captured once, then one call instead of one for every op.

A trace writes wherever its ops wrote when it was captured, whatever lies there now. So nothing that must stay may be
allocated while one lives: who puts weights, a cache or a trace's inputs on the devices calls `release_traces` first, and a
program that is compiled meanwhile, which stays on the device too, ends the trace at its next step. What a prefill allocates
is gone before the next step, and may be written over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ttnn

# The command queues: one for the ops and what is read, one for the inputs of the next step.
OPS, INPUTS = 0, 1

_live: dict[int, set[Any]] = {}  # mesh -> its traces


def release_traces(mesh_device: ttnn.MeshDevice) -> None:
    """Ends every trace of the mesh; each is captured anew at its next step."""
    for trace in _live.pop(mesh_device.id(), set()):
        ttnn.release_trace(mesh_device, trace)


def command_queues(mesh_device: ttnn.MeshDevice) -> int:
    """How many a mesh was opened with: 1 or 2. It does not say; asked to wait for one that is not there, it refuses."""
    try:
        ttnn.synchronize_device(mesh_device, INPUTS)
    except RuntimeError:
        return 1
    return 2


class TracedStep:
    """Work over inputs that keep their place on the devices. The first run compiles it, the second captures it."""

    def __init__(self, mesh_device: ttnn.MeshDevice, body: Callable[[], ttnn.Tensor]) -> None:
        self._device = mesh_device
        self._body = body
        self._trace: Any = None
        self._output: ttnn.Tensor | None = None
        self._programs: int | None = None  # compiled on the mesh after the last run that was no replay

    def run(self) -> ttnn.Tensor:
        """Runs the work on what the inputs hold; its output stays valid until the next run."""
        if self._programs != self._device.num_program_cache_entries():
            self._release()
            output = self._body()
            self._programs = self._device.num_program_cache_entries()
            return output
        if not self._is_live():
            self._trace, self._output = _capture(self._device, self._body)
        ttnn.execute_trace(self._device, self._trace, cq_id=OPS, blocking=False)
        return self._output

    def _is_live(self) -> bool:
        return self._trace is not None and self._trace in _live.get(self._device.id(), ())

    def _release(self) -> None:
        if self._is_live():
            ttnn.release_trace(self._device, self._trace)
            _live[self._device.id()].remove(self._trace)
        self._trace = self._output = None


def _capture(mesh_device: ttnn.MeshDevice, body: Callable[[], ttnn.Tensor]) -> tuple[Any, ttnn.Tensor]:
    """The trace of the body's ops, and their output; what the body raises ends the capture."""
    trace = ttnn.begin_trace_capture(mesh_device, cq_id=OPS)
    try:
        output = body()
    except BaseException:
        ttnn.end_trace_capture(mesh_device, trace, cq_id=OPS)
        ttnn.release_trace(mesh_device, trace)
        raise
    ttnn.end_trace_capture(mesh_device, trace, cq_id=OPS)
    _live.setdefault(mesh_device.id(), set()).add(trace)
    return trace, output
