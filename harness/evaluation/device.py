"""The device model behind lm-eval: prompts prefilled user by user, continuations decoded in one static batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch

from tt_llm import Generator
from tt_llm.kv_cache import BLOCK_SIZE, blocks_for
from tt_llm.op_configs import padded_prefill_length


class DeviceModel:
    """A generator as a `CausalModel`.

    Rows that continue one prompt share the pages it fills; each but the first gets a copy of the page it ends in, since
    they all write there, and pages of its own after it. A decode step always has the generator's whole batch, so that its
    shapes, and with them its programs and trace, stay the same.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._rows = 0
        self._positions = torch.zeros(0, dtype=torch.int32)
        self._table = torch.zeros(0, dtype=torch.int32)

    @property
    def batch_size(self) -> int:
        return self._generator.max_batch_size

    @property
    def max_length(self) -> int:
        return self._generator.max_seq_len

    @property
    def eos_token_ids(self) -> Collection[int]:
        return self._generator.model.config.eos_token_ids

    def logits(self, inputs: Sequence[Sequence[int]], last: Sequence[int]) -> Iterator[torch.Tensor]:
        for tokens, count in zip(inputs, last, strict=True):
            row = torch.tensor([list(tokens)], dtype=torch.int32)
            yield self._generator.prefill_forward(row, all_logits=count > 1)[0, -count:]

    def begin(self, prompts: Sequence[Sequence[int]], rows: Sequence[int], room: int) -> torch.Tensor:
        lens = [len(prompt) for prompt in prompts]
        tokens = torch.zeros(len(prompts), max(lens), dtype=torch.int32)
        for ids, prompt in zip(tokens, prompts, strict=True):
            ids[: len(prompt)] = torch.tensor(prompt)
        pages = _Pages(self._generator)
        ends = [blocks_for(min(length + room, self.max_length)) for length in lens]
        table = torch.stack(
            [
                pages.row(max(end, blocks_for(padded_prefill_length(n))))
                for n, end in zip(lens, ends, strict=True)
            ]
        )
        logits = self._generator.prefill_forward(tokens, page_table=table, prompt_lens=lens)[:, 0]

        self._rows = len(rows)
        self._positions = torch.tensor([lens[prompt] for prompt in rows], dtype=torch.int32)
        self._table = torch.zeros(self.batch_size, table.shape[1], dtype=torch.int32)
        self._table[: len(rows)] = table[list(rows)]
        copies: dict[int, int] = {}  # destination -> source
        for row, source in enumerate(rows):
            if source in rows[:row]:
                full, rest = divmod(lens[source], BLOCK_SIZE)
                pages.renew(self._table[row, full : ends[source]])
                if rest:
                    copies[int(self._table[row, full])] = int(table[source, full])
        if copies:
            self._generator.kv_cache.copy_blocks(list(copies.values()), list(copies))
        return logits

    def advance(self, tokens: Sequence[int | None]) -> torch.Tensor:
        present = torch.tensor([token is not None for token in tokens])
        ids = torch.zeros(self.batch_size, 1, dtype=torch.int32)
        ids[: self._rows, 0] = torch.tensor([token or 0 for token in tokens], dtype=torch.int32)
        positions = torch.full((self.batch_size,), -1, dtype=torch.int32)
        positions[: self._rows] = torch.where(present, self._positions, -1)
        self._positions += present
        logits = self._generator.decode_forward(ids, positions, page_table=self._table)
        return logits[: self._rows, 0]


class _Pages:
    """Hands out the cache's blocks, each once."""

    def __init__(self, generator: Generator) -> None:
        self._width = generator.page_table.shape[1]
        self._used = 0

    def row(self, count: int) -> torch.Tensor:
        """A page table row whose first `count` blocks are new."""
        row = torch.zeros(self._width, dtype=torch.int32)
        self.renew(row[:count])
        return row

    def renew(self, blocks: torch.Tensor) -> None:
        """Puts new blocks in these places of a page table."""
        blocks[:] = torch.arange(self._used, self._used + len(blocks))
        self._used += len(blocks)
