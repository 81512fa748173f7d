"""Where ops part from a PyTorch module, of ops made by hand."""

from __future__ import annotations

from typing import Any

import torch

from harness.foreign.ops import OpStep, Watched
from harness.foreign.partings import parting


def watched(*made: torch.Tensor, missing: tuple[int, ...] = ()) -> Watched:
    ops = Watched(None)
    for index, values in enumerate(made):
        why = "no golden" if index in missing else ""
        step = OpStep(
            index, f"op{index}", "mine.py", 1, "exact", None, None, why, [], [] if why else [values]
        )
        ops.steps.append(step)
    return ops


def masked(x: torch.Tensor, scale: float, least: float) -> list[torch.Tensor]:
    scores = x * scale
    hidden = scores.masked_fill(~torch.ones(8, 8, dtype=torch.bool).tril(), least)
    return [scores, hidden, hidden.softmax(-1)]


def module(x: torch.Tensor) -> Any:
    return masked(x, 0.5, -torch.inf)[-1]


def test_the_first_that_never_agrees_again() -> None:
    """A mask's huge values hide nothing, and what was not compared is passed over."""
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    least = torch.finfo(torch.float32).min
    assert parting(watched(*masked(x, 0.5, least)), module, x).first is None
    found = parting(watched(x.t().reshape(4, 16) * 0.5, *masked(x, 0.25, least)), module, x)
    assert (found.agree, found.first.index) == (1, 1)
    assert "PARTS FROM PYTORCH: op1" in str(found)
    found = parting(watched(*masked(x, 0.25, least), missing=(0,)), module, x)
    assert found.first.index == 1


def test_values_that_agree_again_are_no_parting() -> None:
    """What lies between may be laid out as PyTorch never has it."""
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    scores, hidden, weights = masked(x, 0.5, -torch.inf)
    assert parting(watched(torch.cat([scores, scores]), hidden, weights), module, x).first is None
