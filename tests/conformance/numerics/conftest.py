"""The model and the device that recorded calls are replayed on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ttnn

from harness.conformance.numerics.inputs import Weights
from tt_llm.checkpoint import locate


@pytest.fixture(scope="session")
def weights() -> Weights:
    """SmolLM2's, as the recordings were made with."""
    return Weights(locate("smollm2"))


@pytest.fixture
def device() -> Iterator[ttnn.MeshDevice]:
    """One emulated device, with nothing on it."""
    opened = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    yield opened
    ttnn.close_mesh_device(opened)
