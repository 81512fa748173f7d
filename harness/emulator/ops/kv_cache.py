"""Writing the KV cache: `paged_fill_cache`, `paged_update_cache`, and `fill_cache`/`update_cache` of contiguous caches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.emulator import formats
from harness.emulator.errors import refuse
from harness.emulator.ops.attention import check_page_table
from harness.emulator.program_configs import WormholeComputeKernelConfig
from harness.emulator.registry import op
from harness.emulator.tensor import Tensor, require_device, require_layout, write
from harness.emulator.types import DataType, Layout

_FILL = "ttnn.experimental.paged_fill_cache"
_UPDATE = "ttnn.experimental.paged_update_cache"
SKIPPED_PAGE = -1  # `paged_fill_cache` writes nothing there (SKIP_PAGE_TABLE_ENTRY in ttnn's writer_fill_cache_interleaved.cpp)


@op(_FILL)
def paged_fill_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Write one user's [1, nkv, S, D] into the blocks its page table row names, from position 0. Returns the cache.

    cache [blocks, nkv, block_size, D]; page table int32 [users, blocks a user], -1 where nothing is written; cache and input
    have one dtype.
    """
    require_device(_FILL, cache_tensor, input_tensor, page_table)
    require_layout(_FILL, Layout.TILE, cache_tensor, input_tensor)
    if page_table.dtype is not DataType.INT32:
        refuse(_FILL, f"page table must be INT32, got {page_table.dtype}")
    if input_tensor.dtype is not cache_tensor.dtype:
        refuse(
            _FILL,
            f"input dtype {input_tensor.dtype} must equal the cache's {cache_tensor.dtype}: typecast K/V first",
        )
    blocks, heads, block, head_dim = cache_tensor.shape
    batch, input_heads, rows, input_dim = input_tensor.shape
    if batch != 1:
        refuse(_FILL, f"fills one user at a time, got a batch of {batch}")
    if (input_heads, input_dim) != (heads, head_dim):
        refuse(_FILL, f"input {list(input_tensor.shape)} does not fit a cache of {heads} heads of {head_dim}")
    if batch_idx_tensor is not None:
        require_device(_FILL, batch_idx_tensor)
    if rows > page_table.shape[1] * block:
        refuse(_FILL, f"{rows} positions do not fit {page_table.shape[1]} blocks of {block}")
    full, rest = divmod(rows, block)

    def fill() -> None:
        user = batch_idx if batch_idx_tensor is None else int(batch_idx_tensor.shards[0].reshape(-1)[0])
        if not 0 <= user < page_table.shape[0]:
            refuse(_FILL, f"batch_idx {user} is outside the page table's {page_table.shape[0]} users")
        for cache, new, pages in zip(
            cache_tensor.shards, input_tensor.shards, page_table.shards, strict=True
        ):
            row = pages[user, : full + bool(rest)].long()
            wanted = row != SKIPPED_PAGE
            _check_pages(_FILL, row[wanted], blocks)
            if full:
                whole = new[0, :, : full * block].reshape(heads, full, block, head_dim).transpose(0, 1)
                cache.index_copy_(0, row[:full][wanted[:full]], whole[wanted[:full]].contiguous())
            if rest and wanted[full]:
                cache[row[full], :, :rest] = new[0, :, full * block :]

    return write(_FILL, cache_tensor, fill)


@op(_UPDATE)
def paged_update_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    share_cache: bool | None = None,
    page_table: Tensor | None = None,
    batch_offset: int = 0,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Write [1, B, nkv, D], one row a user, at each user's position; position -1 is skipped. Returns the cache.

    With a page table [B, blocks a user] the cache is [blocks, nkv, block_size, D], else [B, nkv, S, D]. The row is packed to
    the cache's dtype as the packer does: a BFLOAT8_B cache rounds it twice.
    """
    require_device(_UPDATE, cache_tensor, input_tensor)
    require_layout(_UPDATE, Layout.TILE, cache_tensor, input_tensor)
    if input_tensor.dtype not in (DataType.BFLOAT16, DataType.FLOAT32):
        refuse(
            _UPDATE,
            f"input must be BFLOAT16 or FLOAT32 (it is packed to the cache's dtype), got {input_tensor.dtype}",
        )
    if not input_tensor.config.sharded:
        refuse(_UPDATE, "input must be sharded, one user a core")
    blocks, heads, _, head_dim = cache_tensor.shape
    _, users, input_heads, input_dim = input_tensor.shape
    if (input_heads, input_dim) != (heads, head_dim):
        refuse(
            _UPDATE, f"input {list(input_tensor.shape)} does not fit a cache of {heads} heads of {head_dim}"
        )
    if page_table is not None:
        check_page_table(_UPDATE, page_table, users)
        if update_idxs_tensor is None:
            refuse(_UPDATE, "a paged cache needs update_idxs_tensor")
    elif users > blocks:
        refuse(_UPDATE, f"{users} users do not fit a cache of {blocks}")
    if update_idxs_tensor is None and len(update_idxs) != users:
        refuse(_UPDATE, f"needs update_idxs or update_idxs_tensor for each of {users} users")
    if update_idxs_tensor is not None:
        require_device(_UPDATE, update_idxs_tensor)
        if update_idxs_tensor.dtype is not DataType.INT32:
            refuse(_UPDATE, f"update_idxs_tensor must be INT32, got {update_idxs_tensor.dtype}")
        if update_idxs_tensor.volume() != users:
            refuse(
                _UPDATE, f"number of update_idxs ({update_idxs_tensor.volume()}) must match the {users} users"
            )

    def update() -> None:
        for index, (cache, new) in enumerate(zip(cache_tensor.shards, input_tensor.shards, strict=True)):
            rows, kept = _target_rows(cache_tensor, update_idxs, update_idxs_tensor, page_table, index, users)
            packed = formats.pack_round(new, cache_tensor.dtype)
            source = packed.view(users * heads, head_dim)
            if kept is not None:
                source = source.index_select(0, kept)
            cache.view(-1, head_dim).index_copy_(0, rows, source)

    return write(_UPDATE, cache_tensor, update)


def _target_rows(
    cache: Tensor,
    positions: Sequence[int],
    positions_tensor: Tensor | None,
    page_table: Tensor | None,
    index: int,
    users: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Rows of the cache seen as [-1, D] that the users' heads go to, and which input rows those are (None: all)."""
    heads, block = cache.shape[1], cache.shape[2]

    def rows() -> tuple[torch.Tensor, torch.Tensor | None]:
        at = (
            positions_tensor.shards[index].reshape(-1).long()
            if positions_tensor
            else torch.tensor(list(positions))
        )
        active = (at >= 0).nonzero()[:, 0]
        at = at[active]
        last = int(at.max()) if len(at) else 0
        if page_table is None:
            if last >= block:
                refuse(_UPDATE, f"position {last} is outside a cache of {block} positions")
            entry = active
        else:
            if last >= page_table.shape[1] * block:
                refuse(
                    _UPDATE,
                    f"position {last} lies beyond the page table's {page_table.shape[1]} blocks of {block}",
                )
            entry = page_table.shards[index][active, at // block].long()
            _check_pages(_UPDATE, entry, cache.shape[0])
            at = at % block
        head = torch.arange(heads)
        target = ((entry[:, None] * heads + head) * block + at[:, None]).reshape(-1)
        kept = None if len(active) == users else (active[:, None] * heads + head).reshape(-1)
        return target, kept

    if positions_tensor is None:
        return rows()
    # All layers of a step share positions and page table, so the rows are worked out once a step.
    table = (
        None
        if page_table is None or page_table.storage is None
        else (page_table.storage.id, page_table.storage.version)
    )
    result: tuple[torch.Tensor, torch.Tensor | None] = positions_tensor.derived(
        ("rows", index, cache.shape, table), rows
    )
    return result


def _check_pages(name: str, pages: torch.Tensor, blocks: int) -> None:
    if len(pages) and not 0 <= int(pages.min()) <= int(pages.max()) < blocks:
        refuse(name, f"page table names block {int(pages.max())} (or a negative one); the cache has {blocks}")
