"""The golden behind lm-eval: the Hugging Face model in fp32 on the CPU."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence

import torch
from transformers import DynamicCache

from goldens import Reference
from tt_llm.config import ModelConfig


class GoldenModel:
    """A reference model as a `CausalModel`. Batches are padded: on the right for scoring, on the left for decoding."""

    def __init__(self, reference: Reference, config: ModelConfig, batch_size: int, max_length: int) -> None:
        self.reference = reference
        self._config = config
        self._batch_size = batch_size
        self._max_length = max_length
        self._cache = DynamicCache()
        self._mask = torch.zeros(0, 0, dtype=torch.int64)

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def max_length(self) -> int:
        return self._max_length

    @property
    def eos_token_ids(self) -> Collection[int]:
        return self._config.eos_token_ids

    @torch.inference_mode()
    def logits(self, inputs: Sequence[Sequence[int]], last: Sequence[int]) -> Iterator[torch.Tensor]:
        for start in range(0, len(inputs), self._batch_size):
            rows, counts = inputs[start : start + self._batch_size], last[start : start + self._batch_size]
            ends = [len(row) for row in rows]
            first = min(end - count for end, count in zip(ends, counts, strict=True))
            ids = torch.zeros(len(rows), max(ends), dtype=torch.int64)
            for tokens, row in zip(ids, rows, strict=True):
                tokens[: len(row)] = torch.tensor(row)
            output = self.reference.model(
                input_ids=ids, use_cache=False, logits_to_keep=torch.arange(first, max(ends))
            ).logits
            for row, end, count in zip(output, ends, counts, strict=True):
                yield row[end - count - first : end - first]

    @torch.inference_mode()
    def begin(self, prompts: Sequence[Sequence[int]], rows: Sequence[int], room: int) -> torch.Tensor:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
            mask[i, longest - len(prompt) :] = 1
        self._cache = DynamicCache()
        logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0))
        if rows:
            self._cache.batch_select_indices(torch.tensor(rows))
            self._mask = mask[list(rows)]
        return logits

    @torch.inference_mode()
    def advance(self, tokens: Sequence[int | None]) -> torch.Tensor:
        ids = torch.tensor([[token or 0] for token in tokens])
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        return self._forward(ids, self._mask, self._mask.sum(-1, keepdim=True) - 1)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits [rows, V] after the last of `ids` [rows, S], which the cache then holds."""
        model = self.reference.model
        # Renamed in transformers 5.
        name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        logits: torch.Tensor = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{name: self._cache},
        ).logits
        return logits[:, -1]
