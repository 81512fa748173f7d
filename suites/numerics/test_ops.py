"""Single ttnn calls on random and on special values: every format, fidelity, destination and K block that was recorded."""

from __future__ import annotations

import pytest

from harness.conformance.numerics.exact import exact
from harness.conformance.numerics.filing import Filing
from harness.conformance.numerics.layer import Outcome
from harness.conformance.numerics.recordings import Recording
from harness.conformance.numerics.replay import call, put, read

OPS = Recording("ops")


@pytest.mark.parametrize("step", OPS.steps, ids=lambda step: step.point)
def test_call(step, computing_device, recorder):
    """A call gives the recorded output."""
    tensors = [
        put(OPS.arrays[spec.name].reshape(spec.shape), spec, computing_device) for spec in step.tensors
    ]
    operands = [read(tensor) for tensor in tensors]
    ours = read(call(step, tensors)[0])
    output, expected = step.outputs[0], exact(step, operands)
    filing = Filing(recorder)
    outcome = Outcome(step, output, ours, OPS.arrays[output.name], expected[0] if expected else None)
    filing.outcome(outcome, vector=True)
    filing.close()
