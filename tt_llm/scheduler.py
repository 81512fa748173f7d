"""Continuous batching: requests come and go while others run, each in a row of the decode batch and in blocks of the cache.

As a serving engine does it, without a server: one step is a prompt's prefill, or a token for everybody who runs. Where blocks
run out, who came last gives up its own and is computed again later, which is cheaper than to keep them anywhere.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import torch

from tt_llm.errors import InputError
from tt_llm.generator import GREEDY, Generator
from tt_llm.kv_cache import PagedKVCache, blocks_for
from tt_llm.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt (token ids), and when its continuation ends: at so many tokens, an id of the model's or its own, or a string.

    What is not greedy is drawn from `seed`: the same text, whoever else is served.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    stop_at_eos: bool = True
    stop_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    sampling: Sampling = GREEDY
    seed: int = 0


@dataclass
class Answer:
    """What a request has got so far: token ids without the one that ended it; `text` is theirs up to a stop string."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finished: Literal["stop", "length", "aborted"] | None = None
    preemptions: int = 0


@dataclass(eq=False)
class _Running:
    answer: Answer
    random: torch.Generator
    blocks: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """All tokens, the last of which is not in the cache yet."""
        return [*self.answer.request.prompt, *self.answer.tokens]


class BlockAllocator:
    """Hands out the blocks of a cache, each to one at a time."""

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_free(self) -> int:
        """Blocks that nobody has."""
        return len(self._free)

    def extend(self, blocks: list[int], count: int) -> bool:
        """Makes them `count` blocks; False, and nothing changed, where there are not enough."""
        missing = max(count - len(blocks), 0)
        if missing > len(self._free):
            return False
        blocks += [self._free.pop() for _ in range(missing)]
        return True

    def give_back(self, blocks: list[int]) -> None:
        """Takes them all; the list is empty then."""
        self._free += reversed(blocks)
        blocks.clear()


class Scheduler:
    """Serves requests with a generator, in the order they come, as many at once as it has users and its cache has blocks."""

    def __init__(self, generator: Generator, cache: PagedKVCache | None = None) -> None:
        """`cache`: in place of the generator's own."""
        self._generator = generator
        self._cache = cache or generator.kv_cache
        self._width = blocks_for(
            generator.max_seq_len, self._cache.block_size
        )  # of a page table, always the same
        self.blocks = BlockAllocator(self._cache.n_blocks)
        self._waiting: deque[_Running] = deque()
        self._rows: list[_Running | None] = [None] * generator.max_batch_size
        self._arrivals: list[_Running] = []  # who runs, in the order they were let in

    def add(self, request: Request) -> Answer:
        """Queues a request; its answer fills as steps are made. Raises InputError for one that can never be served."""
        length, limit = len(request.prompt), self._generator.max_seq_len
        vocab = self._generator.model.config.vocab_size
        if not length or request.max_new_tokens < 1 or length + request.max_new_tokens > limit:
            raise InputError(
                f"request: {length} prompt tokens and {request.max_new_tokens} new ones: give at least one of each, together"
                f" at most {limit}"
            )
        if min(request.prompt) < 0 or max(request.prompt) >= vocab:
            raise InputError(
                f"request: ids {min(request.prompt)} to {max(request.prompt)}, the vocabulary has 0 to {vocab - 1}"
            )
        if self._blocks_for(length + request.max_new_tokens) > self.blocks.n_blocks:
            raise InputError(
                f"request: {length + request.max_new_tokens} tokens, the cache holds {self.blocks.n_blocks * self._cache.block_size}"
            )
        answer = Answer(request)
        self._waiting.append(_Running(answer, torch.Generator().manual_seed(request.seed)))
        return answer

    def abort(self, answer: Answer) -> None:
        """Ends a request where it stands; nothing happens to one that has ended."""
        for one in (*self._waiting, *self._arrivals):
            if one.answer is answer:
                self._end(one, "aborted")

    def run(self) -> None:
        """Makes steps until every request has ended."""
        while self.step():
            pass

    def step(self) -> bool:
        """One prompt is read, or everybody who runs gets a token; False where there is nobody."""
        if self._admit():
            return True
        self._make_room()
        if self._arrivals:
            self._decode()
        return bool(self._arrivals or self._waiting)

    def _admit(self) -> bool:
        """Reads the first prompt that waits, where there is a row for it and blocks for it and its next token."""
        if not self._waiting or None not in self._rows:
            return False
        one = self._waiting[0]
        ids = one.ids
        if not self.blocks.extend(one.blocks, self._blocks_for(len(ids) + 1)):
            return False
        self._rows[self._rows.index(None)] = self._waiting.popleft()
        self._arrivals.append(one)
        tokens = torch.tensor([ids], dtype=torch.int32)
        logits = self._generator.prefill_forward(tokens, self._page_table([one]), self._cache)
        self._take(one, logits[0])
        return True

    def _make_room(self) -> None:
        """A block for everybody's next token, those who came first before the others: the last ones make way."""
        for one in list(self._arrivals):
            # Who came last may be the one itself, and then waits too.
            while one in self._arrivals and not self.blocks.extend(
                one.blocks, self._blocks_for(len(one.ids))
            ):
                last = self._arrivals[-1]
                self._leave(last)
                last.answer.preemptions += 1
                self._waiting.appendleft(last)

    def _decode(self) -> None:
        """A token for everybody who runs, the batch being whole: its shapes, and so its trace, stay the same."""
        tokens = torch.zeros(len(self._rows), 1, dtype=torch.int32)
        positions = torch.full((len(self._rows),), -1, dtype=torch.int32)
        for row, one in enumerate(self._rows):
            if one is not None:
                tokens[row, 0], positions[row] = one.ids[-1], len(one.ids) - 1
        table = self._page_table(self._rows)
        logits = self._generator.decode_forward(tokens, positions, table, self._cache)
        for row, one in enumerate(list(self._rows)):
            if one is not None:
                self._take(one, logits[row])

    def _take(self, one: _Running, logits: torch.Tensor) -> None:
        """The token that logits [1, vocab] give, and what ends with it."""
        answer, request = one.answer, one.answer.request
        token = int(request.sampling.choose(logits, one.random))
        eos = self._generator.model.config.eos_token_ids if request.stop_at_eos else ()
        if token in (*eos, *request.stop_ids):
            self._end(one, "stop")
            return
        answer.tokens.append(token)
        answer.text = self._generator.tokenizer.decode(answer.tokens)
        places = [at for at in map(answer.text.find, request.stop_strings) if at >= 0]
        if places:
            answer.text = answer.text[: min(places)]
            self._end(one, "stop")
        elif len(answer.tokens) == request.max_new_tokens:
            self._end(one, "length")

    def _end(self, one: _Running, how: Literal["stop", "length", "aborted"]) -> None:
        one.answer.finished = how
        if one in self._waiting:
            self._waiting.remove(one)
        else:
            self._leave(one)

    def _leave(self, one: _Running) -> None:
        """Frees its row and its blocks."""
        self._rows[self._rows.index(one)] = None
        self._arrivals.remove(one)
        self.blocks.give_back(one.blocks)

    def _blocks_for(self, positions: int) -> int:
        return blocks_for(positions, self._cache.block_size)

    def _page_table(self, rows: list[_Running] | list[_Running | None]) -> torch.Tensor:
        """[rows, blocks a user]: 0 where there is no block, or nobody."""
        table = torch.zeros(len(rows), self._width, dtype=torch.int32)
        for row, one in enumerate(rows):
            if one is not None:
                table[row, : len(one.blocks)] = torch.tensor(one.blocks)
        return table
