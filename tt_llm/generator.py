"""The public face of a loaded model: prefill, decode, generate. Host tensors in, host tensors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import ttnn
from torch.nn.functional import pad

from tt_llm import precision as precisions
from tt_llm.decoding import Decoding
from tt_llm.errors import InputError
from tt_llm.kv_cache import (
    BLOCK_SIZE,
    SKIPPED_PAGE,
    TILE_ROWS,
    PagedKVCache,
    blocks_for,
    default_page_table,
    padded_page_table,
)
from tt_llm.mesh import replicate
from tt_llm.model import Model
from tt_llm.op_configs import padded_prefill_length
from tt_llm.sampling import Sampling
from tt_llm.trace import OPS

if TYPE_CHECKING:
    from transformers import AutoTokenizer  # takes half a second, and modules alone need none

GREEDY = Sampling()


class DecodeOutput(NamedTuple):
    """A decode step that was started: its logits as the LM head gives them, and the positions asked for, [B]."""

    logits: ttnn.Tensor
    start_pos: torch.Tensor


class Generator:
    """A model with a KV cache for `max_batch_size` users of `max_seq_len` tokens each.

    `enable_trace`: whether decode steps run as traces where the call does not say. The first of a kind runs op by op.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        model: Model,
        precision: precisions.Precision,
        tokenizer: AutoTokenizer,
        max_batch_size: int,
        max_seq_len: int,
        own_kv_cache: bool = True,
    ) -> None:
        """`own_kv_cache`: whether it makes a cache for itself; else one is put in its place as `kv_cache`, or given to each call."""
        self.mesh_device = mesh_device
        self.model = model
        self.tokenizer = tokenizer
        self.precision = precision
        self.max_batch_size = max_batch_size
        self.max_seq_len = max_seq_len
        # Prompts are padded before they fill their pages, so a user's pages hold a padded prompt.
        padded_len = padded_prefill_length(max_seq_len)
        if own_kv_cache:
            self.kv_cache = self.new_kv_cache(max_batch_size * blocks_for(padded_len))
        self.page_table = default_page_table(max_batch_size, padded_len)
        self.enable_trace = True
        self._decoding: Decoding | None = None

    def prefill_forward(
        self,
        tokens: torch.Tensor,
        page_table: torch.Tensor | None = None,
        kv_cache: PagedKVCache | None = None,
        prompt_lens: list[int] | None = None,
        all_logits: bool = False,
    ) -> torch.Tensor:
        """Reads prompts and fills their users' pages.

        tokens [B, S], row b being user b's prompt in its first prompt_lens[b] places (default: all S);
        page_table [B, blocks] (default: the generator's own). Returns float32 logits [B, 1, vocab] of each prompt's
        last token, or with `all_logits` [B, S, vocab], zero beyond a prompt's end.
        """
        users, seq_len = self._check(tokens)
        lens = [seq_len] * users if prompt_lens is None else prompt_lens
        cache = kv_cache or self.kv_cache
        if len(lens) != users or not all(1 <= n <= seq_len for n in lens):
            raise InputError(f"prompt_lens {lens}: give {users} lengths between 1 and {seq_len}")
        table, padded_table = self._page_table(page_table, users, cache)
        positions_held = table.shape[1] * cache.block_size
        if positions_held < max(lens):
            raise InputError(
                f"page table: {table.shape[1]} blocks a user hold {positions_held} positions, the longest prompt has {max(lens)}"
            )
        # The op wants a page for every position of a padded prompt, though the padding is written nowhere.
        blocks_needed = blocks_for(padded_prefill_length(max(lens)), cache.block_size)
        padded_table = pad(padded_table, (0, max(blocks_needed - table.shape[1], 0)), value=SKIPPED_PAGE)
        for user, length in enumerate(lens):
            # What a table names beyond a prompt's own pages may be another user's.
            padded_table[user, blocks_for(length, cache.block_size) :] = SKIPPED_PAGE
        device_table = replicate(padded_table, self.mesh_device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
        logits = torch.empty(users, seq_len if all_logits else 1, self.model.config.vocab_size)
        for user, length in enumerate(lens):
            prompt = torch.zeros(1, padded_prefill_length(length), dtype=torch.int32)
            prompt[0, :length] = tokens[user, :length]
            ids = replicate(prompt, self.mesh_device, ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)
            hidden = self.model.prefill(ids, cache, device_table, user)
            positions = range(0 if all_logits else length - 1, length)
            self.model.prefill_logits(hidden, positions, logits[user, : len(positions)])
            logits[user, len(positions) :] = 0
        return logits

    def decode_forward(
        self,
        tokens: torch.Tensor,
        start_pos: torch.Tensor,
        page_table: torch.Tensor | None = None,
        kv_cache: PagedKVCache | None = None,
        enable_trace: bool | None = None,
    ) -> torch.Tensor:
        """One decode step. tokens [B, 1], start_pos [B] the position each token takes (-1: no user in that row).

        `enable_trace`: replay it as a trace (default: as the generator is set); the result is the same, bit for bit.
        Returns float32 logits [B, 1, vocab]; rows at position -1 are zero.
        """
        return self.read_decode_output(
            self.decode_step(tokens, start_pos, page_table, kv_cache, enable_trace)
        )

    def decode_step(
        self,
        tokens: torch.Tensor,
        start_pos: torch.Tensor,
        page_table: torch.Tensor | None = None,
        kv_cache: PagedKVCache | None = None,
        enable_trace: bool | None = None,
    ) -> DecodeOutput:
        """`decode_forward` without waiting for it: the logits stay on the devices, and are good until the next step."""
        users, _ = self._check(tokens)
        if tokens.shape[1] != 1 or tuple(start_pos.shape) != (users,):
            raise InputError(
                f"decode: tokens {list(tokens.shape)} and start_pos {list(start_pos.shape)}: give [B, 1] and [B]"
            )
        cache = kv_cache or self.kv_cache
        table, padded_table = self._page_table(page_table, users, cache)
        first, last = int(start_pos.min()), int(start_pos.max())
        limit = min(table.shape[1] * cache.block_size, self.max_seq_len)
        if last >= limit:
            raise InputError(f"decode: position {last} is beyond the {limit} positions a user has")
        if first < -1:
            raise InputError(
                f"decode: position {first}: give -1 where there is no user, else 0 to {limit - 1}"
            )
        positions, ids = _tile_rows(start_pos, -1), _tile_rows(tokens[:, 0], 0)
        # Where no row has a user, none says how far positions have advanced on the device.
        if (self.enable_trace if enable_trace is None else enable_trace) and last >= 0:
            decoding = self._decoding_over(cache, padded_table.shape[1])
            decoding.renew(ids, positions, padded_table)
            logits = decoding.logits()
        else:
            logits = self._decode_op_by_op(ids, positions, padded_table, cache)
        return DecodeOutput(logits, start_pos)

    def read_decode_output(self, output: DecodeOutput) -> torch.Tensor:
        """What `decode_forward` returns, read from the devices, or from the host's copy of them."""
        rows = self.model.lm_head.to_host(output.logits)[: len(output.start_pos)].float()
        return torch.where(output.start_pos[:, None] >= 0, rows, 0.0)[:, None]

    def copy_decode_output(self, output: DecodeOutput) -> tuple[DecodeOutput, ttnn.MeshEvent]:
        """Starts to copy a step's logits to the host, where the next step leaves them alone.

        The copy is for `read_decode_output`, once the event has happened.
        """
        logits = ttnn.from_device(output.logits, blocking=False)
        return DecodeOutput(logits, output.start_pos), ttnn.record_event(self.mesh_device, OPS)

    def new_kv_cache(self, n_blocks: int, block_size: int = BLOCK_SIZE) -> PagedKVCache:
        """A cache in the precision's format."""
        return PagedKVCache(
            mesh_device=self.mesh_device,
            tp=self.model.tp,
            n_blocks=n_blocks,
            dtype=self.precision.kv_cache,
            block_size=block_size,
        )

    def _decode_op_by_op(
        self, ids: torch.Tensor, positions: torch.Tensor, table: torch.Tensor, cache: PagedKVCache
    ) -> ttnn.Tensor:
        """A decode step without a trace."""
        row_major = self.mesh_device, ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        return self.model.decode(
            replicate(ids[None], *row_major),
            replicate(positions, self.mesh_device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT),
            replicate(positions.clamp(min=0)[None], *row_major),
            cache,
            replicate(table, self.mesh_device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT),
        )

    def _decoding_over(self, cache: PagedKVCache, blocks: int) -> Decoding:
        """The traced steps over a cache; those of one cache and one width of page table are kept at a time."""
        decoding = self._decoding
        if decoding is None or decoding.cache is not cache or decoding.blocks != blocks:
            decoding = self._decoding = Decoding(
                mesh_device=self.mesh_device, model=self.model, cache=cache, blocks=blocks
            )
        return decoding

    def generate(
        self,
        prompts: list[list[int]],
        max_new_tokens: int,
        stop_at_eos: bool = True,
        enable_trace: bool | None = None,
        sampling: Sampling = GREEDY,
        seed: int = 0,
    ) -> list[list[int]]:
        """Continuation of each prompt (token ids), all users in one batch: new ids only, without the stop token.

        As traces, greedy tokens are chosen on the devices and fed back there; the host reads them while the next step runs.
        What is not greedy is drawn on the host, from `seed`.
        """
        lens = [len(prompt) for prompt in prompts]
        if not prompts or min(lens) < 1:
            raise InputError("generate: give at least one prompt, each of at least one token")
        if max(lens) + max_new_tokens > self.max_seq_len:
            raise InputError(
                f"generate: {max(lens)} prompt tokens and {max_new_tokens} new ones exceed the {self.max_seq_len} a user has"
            )
        tokens = torch.zeros(len(prompts), max(lens), dtype=torch.int32)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        random = torch.Generator().manual_seed(seed)

        def choose(logits: torch.Tensor) -> torch.Tensor:
            return sampling.choose(logits[:, 0], random)

        first = choose(self.prefill_forward(tokens, prompt_lens=lens))
        stops = self.model.config.eos_token_ids if stop_at_eos else ()
        trace = self.enable_trace if enable_trace is None else enable_trace
        positions = torch.tensor(lens, dtype=torch.int32)
        if trace and sampling.temperature == 0:
            steps = self._traced_steps(first, positions, max_new_tokens)
        else:
            steps = self._host_steps(first, positions, max_new_tokens, choose, trace)
        generated: list[list[int]] = [[] for _ in prompts]
        running = [True] * len(prompts)
        for step in steps:
            for user, token in enumerate(step.tolist()):
                running[user] = running[user] and token not in stops
                if running[user]:
                    generated[user].append(token)
            if not any(running):
                break
        return generated

    def _host_steps(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        count: int,
        choose: Callable[[torch.Tensor], torch.Tensor],
        enable_trace: bool,
    ) -> Iterator[torch.Tensor]:
        """The tokens [B] and what follows them at positions [B], `count` in all; one step on the device for each but one."""
        for number in range(count):
            yield tokens
            if number < count - 1:
                step = tokens[:, None].int(), positions + number
                tokens = choose(self.decode_forward(*step, enable_trace=enable_trace))

    def _traced_steps(
        self, tokens: torch.Tensor, positions: torch.Tensor, count: int
    ) -> Iterator[torch.Tensor]:
        """The same, greedy, each step started before the tokens of the one before are looked at."""
        if count:
            yield tokens
        if count < 2:
            return
        users = len(tokens)
        _, table = self._page_table(None, users, self.kv_cache)
        decoding = self._decoding_over(self.kv_cache, table.shape[1])
        decoding.renew(_tile_rows(tokens, 0), _tile_rows(positions, -1), table)
        read = decoding.next_tokens()
        for number in range(1, count):
            read_next = decoding.next_tokens() if number < count - 1 else None
            yield read()[:users]
            if read_next is not None:
                read = read_next

    def _check(self, tokens: torch.Tensor) -> tuple[int, int]:
        """Users and columns of tokens [B, S]; raises InputError for ones that the generator has no room for."""
        if tokens.dim() != 2 or not 1 <= tokens.shape[0] <= self.max_batch_size:
            raise InputError(
                f"tokens {list(tokens.shape)}: give [B, S] with 1 to {self.max_batch_size} users"
            )
        if not 1 <= tokens.shape[1] <= self.max_seq_len:
            raise InputError(
                f"tokens {list(tokens.shape)}: a user has room for 1 to {self.max_seq_len} tokens"
            )
        vocab = self.model.config.vocab_size
        if int(tokens.min()) < 0 or int(tokens.max()) >= vocab:
            raise InputError(
                f"tokens: ids {int(tokens.min())} to {int(tokens.max())}, the vocabulary has 0 to {vocab - 1}"
            )
        return tokens.shape[0], tokens.shape[1]

    def _page_table(
        self, page_table: torch.Tensor | None, users: int, cache: PagedKVCache
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The users' rows, and the table of all 32 tile rows; raises InputError for one the cache cannot have."""
        table = self.page_table[:users] if page_table is None else page_table
        if table.shape[0] != users:
            raise InputError(f"page table {list(table.shape)}: give a row for each of the {users} users")
        return table, padded_page_table(table, cache.n_blocks)


def _tile_rows(rows: torch.Tensor, without: int) -> torch.Tensor:
    """[B] -> [32] int32, `without` in the rows that have no user."""
    padded = torch.full((TILE_ROWS,), without, dtype=torch.int32)
    padded[: len(rows)] = rows
    return padded
