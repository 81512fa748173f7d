"""A model that is not this project's: its logits over a golden's text, and all metrics of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from goldens import GoldenSpec
from harness.errors import UserError
from harness.foreign import logits_of

VOCABULARY = 7
TOKENS = torch.arange(24).reshape(2, 12) % VOCABULARY
PREFILL, LAST = (
    GoldenSpec("model", seq_len=12, batch=2),
    GoldenSpec("model", seq_len=12, batch=2, rows="last"),
)
STEPS = GoldenSpec("teacher_forced", phase="decode", seq_len=8, steps=4, batch=2)


def plain(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits that tell position, token, and how many tokens of 1 came before."""
    told = torch.stack([positions, tokens, (tokens == 1).cumsum(-1)], -1).float()
    return torch.nn.functional.pad(told, (0, VOCABULARY - 3))


class Stepwise:
    """The same, with a memory."""

    def prefill_forward(self, tokens: torch.Tensor, prompt_lens: list[int]) -> torch.Tensor:
        assert prompt_lens == [tokens.shape[1]] * len(tokens)
        self.seen = tokens
        return plain(tokens, torch.arange(tokens.shape[1]).expand_as(tokens))[:, -1:]

    def decode_forward(self, tokens: torch.Tensor, start_pos: torch.Tensor) -> torch.Tensor:
        assert start_pos.tolist() == [self.seen.shape[1]] * len(tokens)
        return self.prefill_forward(torch.cat([self.seen, tokens], 1), [self.seen.shape[1] + 1] * len(tokens))


def test_a_callable_and_an_object_give_the_same() -> None:
    """At every position, at the last one, and step by step after a prompt."""
    whole = logits_of(plain, PREFILL, {"tokens": TOKENS})
    assert torch.equal(whole[..., 1].long(), TOKENS)
    steps = whole[:, 7:11]  # row i of the golden is what stands after seq_len + i tokens
    for model in (plain, Stepwise()):
        assert torch.equal(logits_of(model, LAST, {"tokens": TOKENS}), whole[:, -1:])
        assert torch.equal(logits_of(model, STEPS, {"tokens": TOKENS}), steps)


@pytest.mark.parametrize(
    ("model", "spec", "words"),
    [
        (
            lambda tokens, positions: None,
            PREFILL,
            r"logits: NoneType from the model; a torch\.Tensor is right",
        ),
        (
            lambda tokens, positions: torch.zeros(1, 12, 7),
            PREFILL,
            r"shape \[1, 12, 7\] .* \[2, 12, vocabulary\]",
        ),
        (lambda tokens, positions: torch.zeros(24, 7), PREFILL, r"shape \[24, 7\] from the model"),
        (Stepwise(), PREFILL, r"mark the test rows='last'"),
        (
            plain,
            GoldenSpec("mlp", layer=0, seq_len=32),
            r"mlp.*'model' in phase prefill or of 'teacher_forced'",
        ),
    ],
)
def test_bad_input_is_one_line(model: Any, spec: GoldenSpec, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        logits_of(model, spec, {"tokens": TOKENS})
    assert "\n" not in str(caught.value)
