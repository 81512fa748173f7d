"""Replaying a layer: what operands an op is given, and the golden it is held against."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from harness.conformance.numerics.agreement import error
from harness.conformance.numerics.inputs import Weights, layer_inputs
from harness.conformance.numerics.layer import chained, from_recorded, golden
from harness.conformance.numerics.recordings import Recording


def test_the_golden_is_the_recorded_one(weights: Weights) -> None:
    """Our chain in float64 gives, at every recorded point, the PCC that the recorded golden gave."""
    for name in ("layer_A", "layer_P"):
        recording = Recording(name)
        exact = golden(recording, layer_inputs(recording, weights))
        points = [output for step in recording.steps for output in step.outputs if output.pcc is not None]
        compared = 0
        for output in points:
            recorded = recording.recorded(output.name)
            if recorded is not None and output.name in exact:
                gap = error(recorded.reshape(exact[output.name].shape), exact[output.name]).gap
                assert gap == pytest.approx(1 - output.pcc, rel=1e-3), output.name
                compared += 1
        assert compared >= 20


def test_each_op_starts_from_recorded_operands(
    weights: Weights, device: ttnn.MeshDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong op does not spoil the ops after it: they are given what the recorded device had."""
    norm = ttnn.rms_norm

    def doubled(*args: Any, **kwargs: Any) -> Any:
        return ttnn.multiply(norm(*args, **kwargs), 2.0)

    recording = Recording("layer_A")
    inputs = layer_inputs(recording, weights)
    healthy = {outcome.output.name: outcome.ours for outcome in from_recorded(recording, inputs, device)}
    monkeypatch.setattr(ttnn, "rms_norm", doubled)
    faulty = {outcome.output.name: outcome.ours for outcome in from_recorded(recording, inputs, device)}
    for name in ("qkv", "gate", "h_out"):
        assert torch.equal(healthy[name], faulty[name])
    assert not torch.equal(healthy["attn_norm"], faulty["attn_norm"])


def test_a_chain_hands_its_own_outputs_on(
    weights: Weights, device: ttnn.MeshDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the chain a wrong op shows in everything that depends on it."""
    recording = Recording("layer_P")
    inputs = layer_inputs(recording, weights)
    healthy = chained(recording, inputs, device)
    norm = ttnn.rms_norm
    monkeypatch.setattr(ttnn, "rms_norm", lambda *a, **k: ttnn.multiply(norm(*a, **k), 2.0))
    faulty = chained(recording, inputs, device)
    for name in ("qkv", "probs", "gate", "h_out"):
        assert not torch.equal(healthy[name], faulty[name])


def test_what_cannot_be_replayed_says_why(weights: Weights, device: ttnn.MeshDevice) -> None:
    """An op without its recorded operand, and one that ttnn does not offer, are outcomes with a reason, not gaps."""
    recording = Recording("decode_step")
    outcomes = {
        outcome.output.name: outcome
        for outcome in from_recorded(recording, layer_inputs(recording, weights), device)
    }
    assert set(outcomes) == {output.name for step in recording.steps for output in step.outputs}
    assert outcomes["attn_norm"].ours is None
    assert outcomes["attn_norm"].reason == "not recorded: h_in"
