"""Positions of users and pages of caches, as the attention and cache ops take them: what is out of range is named.

ttnn checks lists on the host; what a tensor holds it never sees, and its kernels then read or write other memory. Here both
are refused, when the op is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.emulator.errors import refuse
from harness.emulator.runtime.tensor import Tensor, require_device, require_layout
from harness.emulator.spec.types import DataType, Layout

SKIPPED = -1  # the position of a user, or the page of a block, that an op leaves alone
_UINT32 = 2**32


def unsigned(name: str, what: str, value: object) -> int:
    """An argument that ttnn takes as uint32. Raises TypeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _UINT32:
        raise TypeError(f"{name}: {what} must be an integer from 0 to {_UINT32 - 1}, got {value!r}")
    return value


def unsigned_list(name: str, what: str, values: object) -> list[int]:
    """A list or tuple that ttnn takes as uint32. Raises TypeError naming the first value that is none."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"{name}: {what} must be a list of integers, got {type(values).__name__}")
    return [unsigned(name, f"{what}[{user}]", value) for user, value in enumerate(values)]


def check_position_tensor(name: str, what: str, positions: Tensor) -> None:
    """Refuse positions that are not INT32 and ROW_MAJOR on the device."""
    require_device(name, positions)
    if positions.dtype is not DataType.INT32:
        refuse(name, f"{what} must be INT32, got {positions.dtype}")
    require_layout(name, Layout.ROW_MAJOR, positions)


def check_positions(name: str, what: str, positions: torch.Tensor, end: int, where: str) -> None:
    """Refuse positions [users] from `end` on, and negative ones but SKIPPED; `where` says what ends there."""
    for user, position in enumerate(positions.tolist()):
        if position < SKIPPED:
            refuse(
                name,
                f"{what} {position} of user {user} is none: {SKIPPED} skips a user, 0 is the first",
            )
        if position >= end:
            refuse(name, f"{what} {position} lies beyond {where}: that of user {user}")


def check_page_table(name: str, table: Tensor, users: int) -> None:
    """Refuse a page table that is not int32, ROW_MAJOR, [users, blocks]."""
    require_device(name, table)
    if table.dtype is not DataType.INT32:
        refuse(name, f"page table must be INT32, got {table.dtype}")
    require_layout(name, Layout.ROW_MAJOR, table)
    if len(table.shape) != 2 or table.shape[0] != users:
        refuse(name, f"page table must be [{users} users, blocks], got {list(table.shape)}")


def check_pages(name: str, pages: torch.Tensor, blocks: int, users: torch.Tensor | None = None) -> None:
    """Refuse pages of no block. [entries], each of the user that `users` names; or [users, entries] of all users."""
    beyond = (pages < 0) | (pages >= blocks)
    if bool(beyond.any()):
        first = beyond.nonzero()[0]
        user = int(first[0]) if users is None else int(users[first[0]])
        page = int(pages[tuple(first)])
        refuse(
            name,
            f"page table of user {user} names block {page}, a page the cache does not have: it has {blocks} blocks, 0 to {blocks - 1}",
        )
