"""Prefill and decode against the fp32 Hugging Face model, at precision `accuracy`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tt_llm

MIN_PCC = 0.999
NEAR_TIE = 0.02  # of the logits' standard deviation: below this bf16 operands may order two tokens the other way


def pcc(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([actual.flatten(), expected.flatten()]).double())[0, 1])


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Row by row [.., vocab]: PCC, scale, and the same best token unless it leads by next to nothing."""
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    for mine, theirs in zip(actual.flatten(0, -2), expected.flatten(0, -2), strict=True):
        assert pcc(mine, theirs) > MIN_PCC
        assert float((mine - theirs).norm() / theirs.norm()) < 0.04
        best = theirs.topk(2).values
        if best[0] - best[1] > NEAR_TIE * theirs.std() * 3:
            assert int(mine.argmax()) == int(theirs.argmax())


@pytest.mark.parametrize("length", [1, 31, 32, 33, 100, 128, 129])
def test_prefill_gives_the_logits_of_every_position(tiny, load, length: int) -> None:
    """With all_logits each position of a prompt, below, at and above a tile and a padding step, has its logits."""
    model = tiny("mha")
    tokens = model.prompt(length)
    actual = load(model).prefill_forward(tokens, all_logits=True)
    print(length, [pcc(a,b) for a,b in zip(actual[0], model.logits(tokens)[0])][:3])
    assert_close(actual, model.logits(tokens))
