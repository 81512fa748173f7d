"""The recorded decode run: two users prefilled into one paged cache, then four steps in one batch, and its variations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import ttnn

from harness.conformance.numerics.inputs import initial_cache
from harness.conformance.numerics.model import Caches, Calls, Model, Trace
from harness.conformance.numerics.recordings import TILE_ROWS, Recording, Step
from harness.conformance.numerics.replay import call, put, read

PREFILLS = ("prefill_u0", "prefill_u1")


@dataclass(frozen=True)
class User:
    """A row of the decode batch: `prompt` tokens of `ids` are prefilled, the others are fed one a step."""

    row: int
    prompt: int
    ids: tuple[int, ...]


class Decoding:
    """The recording's users, page table and calls, and how they are run on a model."""

    def __init__(self, recording: Recording, model: Model) -> None:
        self.recording = recording
        self.users = [
            User(one["row"], one["prompt_tokens"], tuple(one["ids"])) for one in recording.info["users"]
        ]
        self.table = torch.tensor(recording.info["page_table"], dtype=torch.int32)
        self.phases = {name: Calls(recording.phase(name)) for name in recording.info["steps"]}
        self._model = model

    def prefilled(self, users: list[User]) -> Caches:
        """Fresh caches with the users' prompts in them."""
        caches = self._model.caches(self.phases[PREFILLS[0]], initial_cache(self.recording))
        for user in users:
            ids = torch.zeros(TILE_ROWS, dtype=torch.int32)  # token 0 beyond a shorter prompt
            ids[: user.prompt] = torch.tensor(user.ids[: user.prompt])
            self._model.prefill(self.phases[PREFILLS[user.row]], ids, caches, self.table)
        return caches

    def step(
        self, phase: str, step: int, users: list[User], caches: Caches, rows: dict[int, int] | None = None
    ) -> Trace:
        """One decode step of the users; `rows` moves users, by their own row, to other rows of the batch."""
        ids = torch.zeros(TILE_ROWS, dtype=torch.int32)
        positions = torch.full((TILE_ROWS,), -1, dtype=torch.int32)
        table = self.table.clone()
        for user in users:
            at = user.prompt + step
            row = (rows or {}).get(user.row, user.row)
            ids[row], positions[row] = user.ids[at], at
            table[row] = self.table[user.row]
            if row != user.row:
                table[user.row] = self.table[row]
        return self._model.decode(self.phases[phase], ids, positions, caches, table)

    def prefill(self, ids: torch.Tensor) -> Trace:
        """A prefill of 32 tokens on its own; the recording stops before the LM head."""
        return self._model.prefill(self.phases[PREFILLS[0]], ids)

    def prefill64(self) -> Trace:
        """User 0's whole text in one prefill padded to 64 tokens: the trace of all 64 rows, logits of the last 32."""
        ids = torch.zeros(64, dtype=torch.int32)
        ids[: len(self.users[0].ids)] = torch.tensor(self.users[0].ids)
        return self._model.prefill(self.phases["prefill64_u0"], ids)


def cache_of_recorded_rows(
    recording: Recording, device: ttnn.MeshDevice, name: str, layer: int
) -> torch.Tensor:
    """A whole cache, K or V of one layer ("k" or "v"), written by the cache ops from the recorded rows alone.

    The rows are those that lie in the recorded cache, so they are in bfp8 already and writing them must not change them.
    """
    fill = {phase: _step(recording, phase, f"{name}_fill") for phase in PREFILLS}
    update = _step(recording, "decode_both", f"{name}_update")
    cache = put(initial_cache(recording), fill[PREFILLS[0]].tensors[0], device)
    table = torch.tensor(recording.info["page_table"], dtype=torch.int32)
    blocks = [recording.arrays[f"{name}_layer{layer}_user{user}_blocks"] for user in range(len(PREFILLS))]
    prompts = [user["prompt_tokens"] for user in recording.info["users"]]
    for phase, block in zip(PREFILLS, blocks, strict=True):
        step = fill[phase]
        rows = put(block[:1], step.tensors[1], device)
        cache = call(step, [cache, rows, put(table, step.tensors[2], device)])[0]
    text = [torch.cat(list(block), 1) for block in blocks]  # [heads, positions, head_dim]
    for number in range(len(recording.info["users"][0]["ids"]) - prompts[0]):
        rows = torch.zeros(update.tensors[1].shape)
        positions = torch.full((TILE_ROWS,), -1, dtype=torch.int32)
        for user, prompt in enumerate(prompts):
            positions[user] = prompt + number
            rows[0, user] = text[user][:, prompt + number]
        arguments = (rows, positions, table)
        tensors = [put(one, spec, device) for one, spec in zip(arguments, update.tensors[1:], strict=True)]
        cache = call(update, [cache, *tensors])[0]
    return read(cache)


def _step(recording: Recording, phase: str, point: str) -> Step:
    return next(step for step in recording.phase(phase) if step.point == point)
