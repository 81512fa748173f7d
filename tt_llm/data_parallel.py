"""Data parallel groups: a mesh cut into submeshes, each with the whole model and its own users."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import ttnn

from tt_llm.checkpoint import Checkpoint, locate
from tt_llm.errors import InputError
from tt_llm.generator import Generator
from tt_llm.kv_cache import TILE_ROWS, PagedKVCache
from tt_llm.loading import load


def submesh_shape(mesh: tuple[int, int], groups: int) -> tuple[int, int]:
    """Rows and columns of each of `groups` equal parts of a mesh, rows divided first: whole rows stay together.

    Raises InputError where it does not divide, with the numbers of groups that do.
    """
    rows, columns = mesh

    def part(groups: int) -> tuple[int, int] | None:
        down = math.gcd(rows, groups)
        across = groups // down
        return None if columns % across else (rows // down, columns // across)

    shape = part(groups) if groups > 0 else None
    if shape is None:
        fitting = [n for n in range(1, rows * columns + 1) if part(n)]
        raise InputError(
            f"data_parallel {groups}: a {rows}x{columns} mesh divides into {', '.join(map(str, fitting))} groups"
        )
    return shape


def load_groups(
    model: str,
    mesh_device: ttnn.MeshDevice,
    groups: int,
    precision: str = "performance",
    max_batch_size: int = TILE_ROWS,
    max_seq_len: int = 1024,
    n_layers: int | None = None,
    weights: Checkpoint | None = None,
    own_kv_cache: bool = True,
) -> DataParallel:
    """The model once on each of `groups` submeshes. `max_batch_size` is a group's; the rest as in `load`.

    The mesh itself must hold nothing: its devices are the submeshes' from now on.
    """
    rows, columns = mesh_device.shape
    shape = submesh_shape((rows, columns), groups)
    weights = weights or Checkpoint(locate(model))
    submeshes = mesh_device.create_submeshes(ttnn.MeshShape(*shape)) if groups > 1 else [mesh_device]
    options = precision, max_batch_size, max_seq_len, n_layers, weights, own_kv_cache
    return DataParallel([load(model, submesh, *options) for submesh in submeshes])


class DataParallel:
    """Generators with the interface of one; row b of a batch belongs to group b // (users of a group).

    The groups run one after the other: each call waits for its group's logits.
    """

    def __init__(self, groups: Sequence[Generator]) -> None:
        self.groups = tuple(groups)
        self.tokenizer = groups[0].tokenizer
        self.max_seq_len = groups[0].max_seq_len
        self._users = groups[0].max_batch_size
        self.max_batch_size = self._users * len(self.groups)

    def prefill_forward(
        self,
        tokens: torch.Tensor,
        page_table: torch.Tensor | None = None,
        kv_cache: Sequence[PagedKVCache] | None = None,
        prompt_lens: list[int] | None = None,
        all_logits: bool = False,
    ) -> torch.Tensor:
        """As `Generator.prefill_forward`; a page table's blocks are those of the group's own cache, a cache for each group."""
        parts = self._parts(len(tokens))
        return torch.cat(
            [
                self.groups[group].prefill_forward(
                    tokens[users],
                    page_table[users] if page_table is not None else None,
                    kv_cache[group] if kv_cache is not None else None,
                    prompt_lens[users] if prompt_lens is not None else None,
                    all_logits,
                )
                for group, users in parts
            ]
        )

    def decode_forward(
        self,
        tokens: torch.Tensor,
        start_pos: torch.Tensor,
        page_table: torch.Tensor | None = None,
        kv_cache: Sequence[PagedKVCache] | None = None,
        enable_trace: bool | None = None,
    ) -> torch.Tensor:
        """As `Generator.decode_forward`, page table and caches as in `prefill_forward`."""
        return torch.cat(
            [
                self.groups[group].decode_forward(
                    tokens[users],
                    start_pos[users],
                    page_table[users] if page_table is not None else None,
                    kv_cache[group] if kv_cache is not None else None,
                    enable_trace,
                )
                for group, users in self._parts(len(tokens))
            ]
        )

    def generate(
        self,
        prompts: list[list[int]],
        max_new_tokens: int,
        stop_at_eos: bool = True,
        enable_trace: bool | None = None,
    ) -> list[list[int]]:
        """As `Generator.generate`."""
        generated: list[list[int]] = []
        for group, users in self._parts(len(prompts)):
            generated += self.groups[group].generate(
                prompts[users], max_new_tokens, stop_at_eos, enable_trace
            )
        return generated

    def _parts(self, users: int) -> list[tuple[int, slice]]:
        """The groups that have users in a batch of so many, and which."""
        if not 1 <= users <= self.max_batch_size:
            raise InputError(
                f"{users} users: {len(self.groups)} groups of {self._users} hold 1 to {self.max_batch_size}"
            )
        starts = range(0, users, self._users)
        return [(group, slice(start, start + self._users)) for group, start in enumerate(starts)]
