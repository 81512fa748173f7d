"""Which token comes next: the likeliest, or one drawn by temperature, top-k and top-p. On the host, of full logits.

ttnn has an op that draws on the device (`ttnn.sampling`). Its draws come from the device's own random numbers, so what it says
cannot be held against a golden; greedy decoding, which can, chooses on the device (`LMHead.greedy`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tt_llm.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. `temperature` 0 takes the likeliest; `top_k` 0 and `top_p` 1 leave all tokens in.

    Raises InputError for values that say nothing.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise InputError(f"temperature {self.temperature}: give 0 (greedy) or more")
        if self.top_k < 0:
            raise InputError(f"top_k {self.top_k}: give 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: give more than 0, at most 1 (all tokens)")

    def choose(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """[B, vocab] -> [B] int64. First top_k, then top_p of what is left, as Hugging Face and ttnn have it."""
        if self.temperature == 0:
            return logits.argmax(-1)
        return torch.multinomial(self.probabilities(logits), 1, generator=generator)[:, 0]

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """[B, vocab] -> the same: what is drawn from, where the temperature is not 0."""
        scores = logits.float() / self.temperature
        if self.top_k:
            least = scores.topk(min(self.top_k, scores.shape[-1])).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        probabilities, order = scores.softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities  # of the likelier ones: the first is always in
        nucleus = probabilities.masked_fill(before >= self.top_p, 0.0)
        nucleus = torch.zeros_like(nucleus).scatter(-1, order, nucleus)
        return nucleus / nucleus.sum(-1, keepdim=True)
