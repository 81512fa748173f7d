"""Traces under the dry run, on the real ttnn, which crashes on a mock device's trace if it is asked itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """
import torch, ttnn
from harness.ttnn_calls.refusals import OpRefused, explained
mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 20, num_command_queues=2)
host = ttnn.from_torch(torch.ones(1, 1, 32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
x = ttnn.to_device(host, mesh)
ttnn.add(x, x)  # compiled before any trace
"""
TRY = """
try:
    with explained():
        {call}
except OpRefused as error:
    print(error)
else:
    print("accepted")
"""


def shown(dry: Run, *parts: str) -> list[str]:
    result = dry(HEAD + "".join(parts))
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()


def test_a_legal_trace_is_captured_replayed_and_released(dry: Run) -> None:
    """Capture runs the body; its result may be read and its inputs written afterwards; a released trace is gone."""
    lines = shown(
        dry,
        """
trace = ttnn.begin_trace_capture(mesh, cq_id=0)
y = ttnn.add(x, x)
z = ttnn.from_torch(torch.ones(1, 1, 32, 64), dtype=ttnn.bfloat16)  # stays on the host
ttnn.end_trace_capture(mesh, trace, cq_id=0)
ttnn.copy_host_to_device_tensor(host, x)
ttnn.execute_trace(mesh, trace, cq_id=0, blocking=False)
print(list(ttnn.to_torch(y).shape))
ttnn.release_trace(mesh, trace)
""",
        TRY.format(call="ttnn.execute_trace(mesh, trace, cq_id=0)"),
    )
    assert lines[0] == "[1, 1, 32, 64]"
    assert lines[1].startswith("ttnn.execute_trace at <string>:")
    assert lines[1].endswith(": no trace 0 was captured, or it was released")


def test_host_reads_and_writes_inside_are_refused(dry: Run) -> None:
    """Each names its call and the line, and the capture can go on."""
    calls = {
        "ttnn.to_torch(x)": "ttnn.to_torch",
        "x.cpu()": "ttnn.Tensor.cpu",
        "host.to(mesh)": "ttnn.Tensor.to",
        "ttnn.copy_host_to_device_tensor(host, x)": "ttnn.copy_host_to_device_tensor",
        "ttnn.zeros((1, 1, 32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)": "ttnn.zeros",
        "ttnn.synchronize_device(mesh)": "ttnn.synchronize_device",
        "ttnn.record_event(mesh, 0)": "ttnn.record_event",
    }
    lines = shown(
        dry,
        "trace = ttnn.begin_trace_capture(mesh, cq_id=0)\n",
        *(TRY.format(call=call) for call in calls),
        "ttnn.add(x, x)\nttnn.end_trace_capture(mesh, trace, cq_id=0)\nttnn.execute_trace(mesh, trace, cq_id=0)\n",
    )
    assert len(lines) == len(calls)
    for line, name in zip(lines, calls.values(), strict=True):
        assert line.startswith(f"{name} at <string>:"), line
        assert "inside the capture of trace 0" in line


def test_a_program_compiled_inside_is_refused(dry: Run) -> None:
    """The body must have run once before it is captured; ttnn itself says so, and compiles again afterwards."""
    lines = shown(
        dry,
        "trace = ttnn.begin_trace_capture(mesh, cq_id=0)\n",
        TRY.format(call="ttnn.multiply(x, x)"),
        "ttnn.end_trace_capture(mesh, trace, cq_id=0)\n",
        TRY.format(call="ttnn.multiply(x, x)"),
    )
    assert lines[0].startswith("ttnn.multiply at <string>:")
    assert "program cache miss occurred" in lines[0]
    assert lines[1] == "accepted"


def test_a_mesh_without_room_for_traces_is_told_so(dry: Run) -> None:
    lines = shown(
        dry,
        "bare = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))\ntrace = ttnn.begin_trace_capture(bare)\n",
        TRY.format(call="ttnn.end_trace_capture(bare, trace)"),
    )
    assert lines[0].endswith(": no DRAM is kept for traces: open the mesh with trace_region_size")


def test_events_order_two_queues(dry: Run) -> None:
    """What a mock device would crash on is over when it begins; no more than what is not an event is refused."""
    lines = shown(
        dry,
        """
ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
written = ttnn.record_event(mesh, 1)
ttnn.wait_for_event(0, written)
ttnn.event_synchronize(written)
try:
    ttnn.wait_for_event(0, None)
except TypeError as error:
    print(error)
""",
    )
    assert lines == ["ttnn.wait_for_event: expected a ttnn.MeshEvent, got NoneType"]
