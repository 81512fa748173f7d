"""What the tests of invariances share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.run.recorder import Recorder

Unchanged = Callable[..., None]


@pytest.fixture
def unchanged(recorder: Recorder) -> Unchanged:
    """unchanged(before, after, "user 0 when others join", phase="decode"): files how many values differ, and gates it."""

    def judge(before: torch.Tensor, after: torch.Tensor, what: str) -> None:
        assert before.shape == after.shape, f"{what}: shape {list(before.shape)} becomes {list(after.shape)}"
        apart = int((before != after).sum())
        largest = float((before.float() - after.float()).abs().max()) if apart else 0.0
        recorder.judge(
            {"changed_values": float(apart)},
            before.numel(),
            "model",
            details={"largest_change": largest},
            note=what,
        )

    return judge


@pytest.fixture
def decode(generator) -> Callable[..., torch.Tensor]:
    """decode(tokens, positions, rows): one step of the users of the cache that `rows` names, each at its position."""

    def step(tokens: torch.Tensor, positions: list[int], rows: list[int]) -> torch.Tensor:
        at = torch.tensor(positions, dtype=torch.int32)
        return generator.decode_forward(tokens.int(), at, page_table=generator.page_table[rows])

    return step
