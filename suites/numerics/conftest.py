"""Fixtures of the numerics suite: a device that computes, and the weights that the recordings were made with."""

from __future__ import annotations

import pytest

from harness.conformance.numerics.inputs import Weights, layer_inputs
from harness.conformance.numerics.recordings import Recording
from harness.conformance.numerics.replay import digest, put, read
from harness.targets import active

WEIGHT = "wqkv_meta[576,960]"


@pytest.fixture(scope="session")
def computing_device(tt_session):
    """The device, where it gives numbers; the others cannot be compared."""
    if not active().computes:
        pytest.skip(f"{active().name} runs every op and computes none ({active().what})")
    return tt_session.mesh_device


@pytest.fixture(scope="session")
def weights(tt_session, computing_device):
    """SmolLM2's weights. A session with another model skips: what was recorded says nothing about it."""
    recording, loaded = Recording("layer_A"), Weights(tt_session.folder)
    spec = recording.inputs[WEIGHT]
    ours = loaded.layer(0)["qkv"]
    if tuple(ours.shape) != spec.shape or digest(read(put(ours, spec, computing_device))) != spec.sha:
        pytest.skip(f"model {tt_session.options.model} is not SmolLM2-135M-Instruct, which was recorded")
    return loaded


@pytest.fixture
def replayed_inputs(weights):
    """The inputs of a one-layer recording, as a function of it."""
    return lambda recording: layer_inputs(recording, weights)
