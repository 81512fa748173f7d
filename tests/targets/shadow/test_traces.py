"""Traces, queues and events: replays compute anew, and what hangs or is stale on cards is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]

TRACED = """
a = torch.randn(1, 1, 32, 64).bfloat16().float()
x, total = tile(a), tile(torch.zeros(1, 1, 32, 64))
def body():
    y = ttnn.hardswish(ttnn.relu(x))
    ttnn.add(total, x, output_tensor=total)
    return ttnn.reshape(y, (32, 64))
def put(values):
    ttnn.copy_host_to_device_tensor(ttnn.from_torch(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT), x)
body()
put(a)
ttnn.copy_host_to_device_tensor(ttnn.from_torch(torch.zeros(1, 1, 32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT), total)
trace = ttnn.begin_trace_capture(mesh, cq_id=0)
y = body()
ttnn.end_trace_capture(mesh, trace, cq_id=0)
"""


def test_a_replay_computes_anew(shadow: Run) -> None:
    """From what its inputs hold now: the emulator's ops, goldens, views and writes in place."""
    shadow(
        TRACED
        + """
want = torch.zeros_like(a)
for factor in (1.0, -2.0, 0.5):
    put(factor * a)
    ttnn.execute_trace(mesh, trace, cq_id=0, blocking=True)
    assert torch.equal(back(y), packed(torch.nn.functional.hardswish((factor * a).relu())).reshape(32, 64))
    want = want + factor * a
    assert torch.allclose(back(total), want, atol=0.05), factor
coverage().weakest_read = None
back(y)
assert coverage().weakest_read is Source.GOLDEN
ttnn.release_trace(mesh, trace)
assert not coverage().findings, coverage().findings
"""
    )


def test_what_a_trace_forbids_is_refused(shadow: Run) -> None:
    """A read inside a capture, a replay after release, and a tensor whose memory the replay has used."""
    shadow(
        TRACED
        + """
def refused(call, *words):
    try:
        call()
    except RuntimeError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"not refused: {words}")
late = [tile(a) for _ in range(4)]
ttnn.execute_trace(mesh, trace, cq_id=0, blocking=True)
words = []
for tensor in late:
    try:
        back(tensor)
    except RuntimeError as error:
        words.append(str(error))
assert words and "was overwritten when it ran" in words[0], words
for tensor in late:  # written as a whole, it is known again
    ttnn.copy(x, tensor)
    assert torch.equal(back(tensor), back(x))
second = ttnn.begin_trace_capture(mesh, cq_id=0)
refused(lambda: ttnn.to_torch(x), "ttnn.to_torch: inside the capture of trace")
ttnn.end_trace_capture(mesh, second, cq_id=0)
ttnn.release_trace(mesh, trace)
refused(lambda: ttnn.execute_trace(mesh, trace, cq_id=0), "was released")
"""
    )


def test_queues_that_race_are_named(shadow: Run) -> None:
    """A write on one queue and a use on the other need an event between them."""
    shadow(
        """
a = torch.randn(1, 1, 32, 64).bfloat16().float()
x = tile(a)
host = ttnn.from_torch(2 * a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
done = ttnn.record_event(mesh, 0)
ttnn.wait_for_event(1, done)
ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
written = ttnn.record_event(mesh, 1)
ttnn.wait_for_event(0, written)
assert torch.equal(back(ttnn.relu(x)), (2 * a).relu())
ttnn.wait_for_event(1, ttnn.record_event(mesh, 0))
ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
try:
    ttnn.relu(x)
except RuntimeError as error:
    assert "no event orders the two" in str(error), error
else:
    raise AssertionError("a race went unseen")
"""
    )
