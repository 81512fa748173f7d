"""Decode steps over one KV cache whose inputs stay on the devices: a step is a replay, and what it needs is there already.

Positions advance on the device, and in greedy decoding a step's tokens are the next one's: then nothing is sent at all. Where
the mesh has two command queues the inputs go over one of their own, and events keep them from a step that still reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import ttnn

from tt_llm.kv_cache import TILE_ROWS, PagedKVCache
from tt_llm.mesh import replicate, to_host
from tt_llm.model import Model
from tt_llm.trace import INPUTS, OPS, TracedStep, command_queues, release_traces


class DecodeInputs(NamedTuple):
    """What a decode step is told, one row a user; positions are -1 where there is none, rope positions 0."""

    tokens: ttnn.Tensor  # [1, 32] uint32
    positions: ttnn.Tensor  # [32] int32
    rope_positions: ttnn.Tensor  # [1, 32] uint32
    page_table: ttnn.Tensor  # [32, blocks] int32


class Decoding:
    """Traced decode steps of a model over a cache, with page tables of `blocks` blocks a user."""

    def __init__(
        self, *, mesh_device: ttnn.MeshDevice, model: Model, cache: PagedKVCache, blocks: int
    ) -> None:
        release_traces(mesh_device)  # the inputs must stay
        self.cache, self.blocks = cache, blocks
        self._device = mesh_device
        self._model = model
        self._queues = command_queues(mesh_device)
        none = torch.full((TILE_ROWS,), -1, dtype=torch.int32)
        tokens, table = torch.zeros_like(none), torch.zeros(TILE_ROWS, blocks, dtype=torch.int32)
        self._inputs = DecodeInputs(*(self._put(new, dtype) for new, dtype in _fields(tokens, none, table)))
        # What the devices hold of positions and page table, as far as it is known.
        self._positions: torch.Tensor | None = None
        self._table: torch.Tensor | None = None
        self._logits = TracedStep(mesh_device, self._compute_logits)
        self._greedy = TracedStep(mesh_device, self._choose_tokens)
        self._read = self._event(OPS)  # what was put on the ops' queue so far is done with the inputs
        self._written: ttnn.MeshEvent | None = None  # the next step's inputs are there

    def renew(self, tokens: torch.Tensor, positions: torch.Tensor, table: torch.Tensor) -> None:
        """Tells the next step its tokens [32], positions [32] and page table [32, blocks], int32; sends what is new."""
        fields = _fields(tokens, positions, table)
        unchanged = [
            False,
            *[self._positions is not None and torch.equal(self._positions, positions)] * 2,
            self._table is not None and torch.equal(self._table, table),
        ]
        queue = INPUTS if self._queues == 2 else OPS
        if self._read is not None:
            ttnn.wait_for_event(queue, self._read)
        for (new, dtype), tensor, same in zip(fields, self._inputs, unchanged, strict=True):
            if not same:
                ttnn.copy_host_to_device_tensor(self._host(new, dtype), tensor, cq_id=queue)
        self._written = self._event(queue)
        self._positions, self._table = positions, table

    def logits(self) -> ttnn.Tensor:
        """Runs a step; its logits as the LM head gives them, 32 rows, valid until the next step."""
        return self._run(self._logits)

    def next_tokens(self) -> Callable[[], torch.Tensor]:
        """Runs a greedy step, whose tokens are the next one's. Calling the result waits for them: [32] int64.

        It may be called after the next step was started.
        """
        host_tokens = ttnn.from_device(self._run(self._greedy), blocking=False)
        arrival = ttnn.record_event(self._device, OPS)

        def tokens() -> torch.Tensor:
            ttnn.event_synchronize(arrival)
            return to_host(host_tokens)[0].long()

        return tokens

    def _run(self, step: TracedStep) -> ttnn.Tensor:
        if self._written is not None:
            ttnn.wait_for_event(OPS, self._written)
            self._written = None
        before, self._positions = self._positions, None  # not known if it fails
        output = step.run()
        self._read = self._event(OPS)
        if before is not None:
            self._positions = torch.where(before < 0, before, before + 1)
        return output

    def _event(self, queue: int) -> ttnn.MeshEvent | None:
        """The point that a queue has come to, where there is another that may wait for it."""
        return ttnn.record_event(self._device, queue) if self._queues == 2 else None

    def _compute_logits(self) -> ttnn.Tensor:
        logits = self._model.decode(
            self._inputs.tokens,
            self._inputs.positions,
            self._inputs.rope_positions,
            self.cache,
            self._inputs.page_table,
        )
        ttnn.plus_one(self._inputs.positions, skip_negative_entries=True)
        ttnn.plus_one(self._inputs.rope_positions)
        return logits

    def _choose_tokens(self) -> ttnn.Tensor:
        tokens = self._model.lm_head.greedy(self._compute_logits())
        ttnn.copy(tokens, self._inputs.tokens)
        return tokens

    def _put(self, tensor: torch.Tensor, dtype: ttnn.DataType) -> ttnn.Tensor:
        return replicate(tensor, self._device, dtype, ttnn.ROW_MAJOR_LAYOUT)

    def _host(self, tensor: torch.Tensor, dtype: ttnn.DataType) -> ttnn.Tensor:
        """As `_put`, but on the host: one for each device."""
        return ttnn.from_torch(
            tensor,
            dtype=dtype,
            layout=ttnn.ROW_MAJOR_LAYOUT,
            mesh_mapper=ttnn.ReplicateTensorToMesh(self._device),
        )


def _fields(
    tokens: torch.Tensor, positions: torch.Tensor, table: torch.Tensor
) -> list[tuple[torch.Tensor, ttnn.DataType]]:
    """The values of DecodeInputs, each with its type."""
    return [
        (tokens[None], ttnn.uint32),
        (positions, ttnn.int32),
        (positions.clamp(min=0)[None], ttnn.uint32),
        (table, ttnn.int32),
    ]
