"""What the lm-eval adapter asks of a model: the device and the golden answer the same questions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import torch


class CausalModel(Protocol):
    """A causal LM that scores token sequences and decodes in batches. Logits are float32 over the true vocabulary, [.., V]."""

    @property
    def batch_size(self) -> int:
        """Rows that decode at once."""

    @property
    def max_length(self) -> int:
        """Tokens that a row holds, prompt and continuation together."""

    @property
    def eos_token_ids(self) -> Collection[int]:
        """Tokens that end a generation."""

    def logits(self, inputs: Sequence[Sequence[int]], last: Sequence[int]) -> Iterator[torch.Tensor]:
        """The logits [last[i], V] of the last positions of each input in turn; nothing is kept of the input."""

    def begin(self, prompts: Sequence[Sequence[int]], rows: Sequence[int], room: int) -> torch.Tensor:
        """Reads each prompt once and opens decode rows: row i continues prompt rows[i], by at most `room` tokens.

        Returns the logits [prompts, V] after each prompt. Ends the batch begun before. The rows, and with them the
        prompts that have none, are at most `batch_size`.
        """

    def advance(self, tokens: Sequence[int | None]) -> torch.Tensor:
        """One more token for each row -> logits [rows, V]. None for a row that has ended: its logits mean nothing."""
