"""One model, two answers to `import ttnn`: the op streams must be the same, op by op."""

from __future__ import annotations

from importlib import metadata

import pytest

from harness.conformance.stream import differences, stream


def test_emulator_takes_the_real_ops(tt_session, tt_precision, recorder):
    """Names, shapes, padded shapes, dtypes, layouts, memory configs and shard specs of all ops, prefill and decode."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: nothing to hold the emulator against")
    options = tt_session.options
    ours, real = (stream(t, options.mesh, options.model, tt_precision) for t in ("emulator", "dryrun"))
    difference_lines = differences(ours, real)
    note = f"first of {len(difference_lines)}: {difference_lines[0]}" if difference_lines else ""
    recorder.judge({"op_differences": float(len(difference_lines))}, len(real), "model", note=note)
