"""One layer, op by op: each op from the operands the device had, then all of them chained."""

from __future__ import annotations

import pytest

from harness.conformance.numerics.agreement import error
from harness.conformance.numerics.filing import Filing, of_precision
from harness.conformance.numerics.layer import chained, from_recorded, golden
from harness.conformance.numerics.recordings import Recording

# Recording -> the precision policy it is one of.
LAYERS = {"layer_A": "accuracy", "layer_P": "bfp4_mlp"}
STEPS = {**LAYERS, "decode_step": "bfp4_mlp"}


@pytest.mark.parametrize("name", STEPS)
def test_every_op_from_its_recorded_operands(name, replayed_inputs, computing_device, recorder):
    """Norms, linears, heads, RoPE, attention by parts and by SDPA, SiLU, cache updates: each alone gives the recorded output."""
    recording = Recording(name)
    filing = Filing(of_precision(recorder, STEPS[name]))
    for outcome in from_recorded(recording, replayed_inputs(recording), computing_device):
        filing.outcome(outcome)
    filing.close()


@pytest.mark.parametrize("name", LAYERS)
def test_chained_layer_has_the_recorded_error(name, replayed_inputs, computing_device, recorder):
    """Fed with its own outputs, the layer is as far from the fp32 golden, at every point, as the device was."""
    recording = Recording(name)
    inputs = replayed_inputs(recording)
    ours, exact = chained(recording, inputs, computing_device), golden(recording, inputs)
    filing = Filing(of_precision(recorder, LAYERS[name]))
    for output in (output for step in recording.steps for output in step.outputs):
        if output.pcc is None or output.name not in ours:
            continue
        expected = exact[output.name]
        recorded = recording.recorded(output.name)
        if recorded is not None:  # our golden is the one the recorded figure was taken against
            assert error(recorded.reshape(expected.shape), expected).gap == pytest.approx(
                1 - output.pcc, rel=1e-3
            )
        gap = error(ours[output.name], expected).gap
        what, n = f"1-PCC of {output.name}", expected.numel()
        filing.error(what, gap, 1 - output.pcc, n, "decoder", modes=("exact",))
    filing.close()


def test_attention(computing_device, recorder):
    """SDPA prefill with every recorded chunk size, fidelity, destination, exponential and format."""
    recording = Recording("sdpa")
    heads = {part: recording.arrays[part] for part in "qkv"}
    inputs = {}
    for name, spec in recording.inputs.items():
        inputs[name] = heads[name[0]][:, :, : spec.shape[-2]]
    filing = Filing(recorder)
    for outcome in from_recorded(recording, inputs, computing_device):
        filing.outcome(outcome)
    filing.close()
