"""What a prefill and a decode step of the whole model run, move and hold, exactly; needs no card and no numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.targets import active

PREFILL = 128
USERS, POSITION = 32, 127


def test_prefill(generator: Any, counters: Any) -> None:
    """A prefill of 128 tokens with the logits of every position costs what the baseline says."""
    tokens = torch.zeros(1, PREFILL, dtype=torch.int32)
    counters(
        lambda: generator.prefill_forward(tokens, all_logits=True), phase="prefill", batch=1, seq_len=PREFILL
    )


def test_decode(generator: Any, counters: Any) -> None:
    """A decode step of 32 users at position 127, op by op, costs what the baseline says."""
    tokens = torch.zeros(USERS, 1, dtype=torch.int32)
    positions = torch.full((USERS,), POSITION, dtype=torch.int32)
    counters(
        lambda: generator.decode_forward(tokens, positions, enable_trace=False),
        phase="decode",
        batch=USERS,
        seq_len=PREFILL,
    )


def test_traced_decode(generator: Any, counters: Any) -> None:
    """One step of many, as a trace: the host sends the tokens, reads the logits, and calls no op."""
    if not active().traces:
        pytest.skip(f"{active().name} runs no trace to count in ({active().what})")
    tokens = torch.zeros(USERS, 1, dtype=torch.int32)
    positions = torch.full((USERS,), POSITION - 1, dtype=torch.int32)

    def step() -> None:
        positions.add_(1)
        generator.decode_forward(tokens, positions.clone(), enable_trace=True)

    counters(step, phase="decode", batch=USERS, seq_len=PREFILL, traced=True)
