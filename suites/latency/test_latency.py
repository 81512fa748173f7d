"""Prefill by length, decode by batch and position, with and without a trace, one layer and the whole model."""

from __future__ import annotations

import pytest

from harness.run.session import Session
from harness.timing.benchmark import Latency, now

pytestmark = pytest.mark.benchmark(timer=now)
LAYERS = pytest.mark.parametrize("layers", [1, None], ids=["layer", "model"])


@LAYERS
@pytest.mark.parametrize("prompt", [128, 512, 1024, 4096])
def test_prefill(tt_session: Session, latency: Latency, prompt: int, layers: int | None) -> None:
    """Time to the first token of one user's prompt. Not traced: prompts differ in length."""
    longest = tt_session.config.max_position
    if prompt > longest:
        pytest.skip(f"a prompt of {prompt} tokens is not timed: the model takes at most {longest}")
    latency("prefill", seq_len=prompt, traced=False, layers=layers)


@LAYERS
@pytest.mark.parametrize("traced", [True, False], ids=["trace", "no-trace"])
@pytest.mark.parametrize("position", [128, 1024])
@pytest.mark.parametrize("batch", [1, 8, 32])
def test_decode(
    tt_session: Session, latency: Latency, batch: int, position: int, traced: bool, layers: int | None
) -> None:
    """A decode step of every user at the same position."""
    longest = tt_session.config.max_position
    if position >= longest:
        pytest.skip(f"a step at position {position} is not timed: the model takes at most {longest} tokens")
    latency("decode", batch=batch, seq_len=position, traced=traced, layers=layers)
