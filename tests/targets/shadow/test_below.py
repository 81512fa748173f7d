"""Functions below the registered ops, called directly: those of an op are that op; of others nothing is known, and they are named."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_what_is_called_directly_is_seen(shadow: Run) -> None:
    """New results, writes in place and transfers have their values; what no op stands for leaves NaN in all it may have written."""
    shadow(
        """
a = torch.randn(1, 1, 32, 64).bfloat16().float()
x = tile(a)
host = ttnn.from_torch(-a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
bound = ttnn._ttnn.operations
assert torch.equal(back(bound.unary.relu(x)), a.relu())
assert source_of("ttnn.relu") == [Source.EXACT]
y = bound.core.to_device(host, mesh, ttnn.DRAM_MEMORY_CONFIG)
assert torch.equal(back(y), -a)
bound.binary.multiply_(y, 2.0)
assert torch.equal(back(y), -2 * a)
bound.core.copy_host_to_device_tensor(host, y)
assert torch.equal(bound.core.from_device(y).to_torch().float(), -a)
bound.core.copy_device_to_host_tensor(x, host)
assert torch.equal(host.to_torch().float(), a)
trace = bound.trace.begin_trace_capture(mesh, cq_id=0)
z = bound.unary.relu(y)
bound.trace.end_trace_capture(mesh, trace, cq_id=0)
bound.trace.execute_trace(mesh, trace, cq_id=0, blocking=True)
assert torch.equal(back(z), (-a).relu())
bound.trace.release_trace(mesh, trace)
assert coverage().weakest_read is Source.EXACT
name = "ttnn._ttnn.operations.data_movement.untilize_force_native"
assert back(bound.data_movement.untilize_force_native(x)).isnan().all()
assert back(x).isnan().all()
assert source_of(name) == [Source.NONE] and (name, Source.NONE) in coverage().reasons
"""
    )
