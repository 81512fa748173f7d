"""Writing paged KV caches, and contiguous ones row by row: `paged_fill_cache`, `paged_update_cache`, its fused pair."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.errors import refuse
from harness.emulator.ops.kv_cache.positions import (
    SKIPPED,
    check_page_table,
    check_pages,
    check_position_tensor,
    check_positions,
    unsigned,
    unsigned_list,
)
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import write
from harness.emulator.runtime.tensor import Tensor, require_device, require_layout
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout

_FILL = "ttnn.experimental.paged_fill_cache"
_UPDATE = "ttnn.experimental.paged_update_cache"
_FUSED = "ttnn.experimental.paged_fused_update_cache"
_INTEGERS = (DataType.UINT32, DataType.INT32)


@op(_FILL, kind=Kind.IN_PLACE, writes=("cache_tensor",))
def paged_fill_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Write users' [users, nkv, S, D] into the blocks their page table rows name, from position 0. Returns the cache.

    cache [blocks, nkv, block_size, D]; page table int32 [users, blocks a user], -1 where nothing is written; cache and input
    have one dtype. The input is one user's, `batch_idx`, or those that `batch_idx_tensor` names. Whole tiles are written: rows
    that fill the last one become zero.
    """
    require_device(_FILL, cache_tensor, input_tensor, page_table)
    require_layout(_FILL, Layout.TILE, cache_tensor, input_tensor)
    _check_rank(_FILL, cache_tensor, input_tensor)
    listed = unsigned(_FILL, "batch_idx", batch_idx)
    if page_table.dtype is not DataType.INT32:
        refuse(_FILL, f"page table must be INT32, got {page_table.dtype}")
    if len(page_table.shape) != 2:
        refuse(_FILL, f"page table must be [users, blocks], got {list(page_table.shape)}")
    if input_tensor.dtype is not cache_tensor.dtype:
        refuse(
            _FILL,
            f"input dtype {input_tensor.dtype} must equal the cache's {cache_tensor.dtype}: typecast K/V first",
        )
    blocks, heads, block, head_dim = cache_tensor.shape
    batch, input_heads, rows, input_dim = input_tensor.shape
    if (input_heads, input_dim) != (heads, head_dim):
        refuse(_FILL, f"input {list(input_tensor.shape)} does not fit a cache of {heads} heads of {head_dim}")
    if batch_idx_tensor is None:
        if batch != 1:
            refuse(_FILL, f"fills one user at a time without batch_idx_tensor, got a batch of {batch}")
        _check_user(listed, page_table)
    else:
        require_device(_FILL, batch_idx_tensor)
        if batch_idx_tensor.dtype not in _INTEGERS:
            refuse(_FILL, f"batch_idx_tensor must be UINT32 or INT32, got {batch_idx_tensor.dtype}")
        if batch_idx_tensor.volume() != batch:
            refuse(
                _FILL,
                f"batch_idx_tensor must name a user for each of {batch}, got {list(batch_idx_tensor.shape)}",
            )
    if rows > page_table.shape[1] * block:
        refuse(_FILL, f"{rows} positions do not fit {page_table.shape[1]} blocks of {block}")
    full, rest = divmod(rows, block)
    padded = min(-(-rest // TILE_SIZE) * TILE_SIZE, block)

    def put(cache: torch.Tensor, new: torch.Tensor, pages: torch.Tensor, user: int) -> None:
        row = pages[user, : full + bool(rest)].long()
        valid = row != SKIPPED
        check_pages(_FILL, row[valid], blocks, torch.full_like(row[valid], user))
        if full:
            whole = new[:, : full * block].reshape(heads, full, block, head_dim).transpose(0, 1)
            cache.index_copy_(0, row[:full][valid[:full]], whole[valid[:full]].contiguous())
        if rest and valid[full]:
            cache[row[full], :, :rest] = new[:, full * block :]
            cache[row[full], :, rest:padded] = 0

    def fill() -> None:
        users = [listed] if batch_idx_tensor is None else batch_idx_tensor.shards[0].reshape(-1).tolist()
        for user in users:
            _check_user(user, page_table)
        for cache, new, pages in zip(
            cache_tensor.shards, input_tensor.shards, page_table.shards, strict=True
        ):
            for user, one in zip(users, new, strict=True):
                put(cache, one, pages, user)

    return write(_FILL, cache_tensor, fill)


@op(_UPDATE, kind=Kind.IN_PLACE, writes=("cache_tensor",))
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
    """Write [1, B, nkv, D], one row a user, at each user's position; a tensor's position -1 is skipped. Returns the cache.

    With a page table [B, blocks a user] the cache is [blocks, nkv, block_size, D], else [B, nkv, S, D], or with `share_cache`
    [1, nkv, S, D]. The row is packed to the cache's dtype as the packer does: a BFLOAT8_B cache rounds it twice.
    """
    return _updated(
        _UPDATE,
        cache_tensor,
        input_tensor,
        update_idxs,
        update_idxs_tensor,
        bool(share_cache),
        page_table,
        unsigned(_UPDATE, "batch_offset", batch_offset),
    )


@op(_FUSED, kind=Kind.IN_PLACE, writes=("cache_tensor1", "cache_tensor2"))
def paged_fused_update_cache(
    cache_tensor1: Tensor,
    input_tensor1: Tensor,
    cache_tensor2: Tensor,
    input_tensor2: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    share_cache: bool | None = None,
    page_table: Tensor | None = None,
    batch_offset: int = 0,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """`paged_update_cache` of two caches, whose inputs lie on cores of their own. Returns both caches."""
    offset = unsigned(_FUSED, "batch_offset", batch_offset)
    require_device(_FUSED, cache_tensor1, input_tensor1, cache_tensor2, input_tensor2)
    cores = [one.config.shard_spec.grid for one in (input_tensor1, input_tensor2) if one.config.shard_spec]
    if len(cores) == 2 and set(cores[0].cores()) & set(cores[1].cores()):
        refuse(_FUSED, f"input_tensor1 ({cores[0]}) and input_tensor2 ({cores[1]}) must not overlap")

    def updated(cache: Tensor, new: Tensor) -> Tensor:
        return _updated(
            _FUSED, cache, new, update_idxs, update_idxs_tensor, bool(share_cache), page_table, offset
        )

    return updated(cache_tensor1, input_tensor1), updated(cache_tensor2, input_tensor2)


def _updated(
    name: str,
    cache_tensor: Tensor,
    input_tensor: Tensor,
    update_idxs: Sequence[int],
    update_idxs_tensor: Tensor | None,
    shared: bool,
    page_table: Tensor | None,
    batch_offset: int,
) -> Tensor:
    require_device(name, cache_tensor, input_tensor)
    listed = unsigned_list(name, "update_idxs", update_idxs)
    require_layout(name, Layout.TILE, cache_tensor, input_tensor)
    _check_rank(name, cache_tensor, input_tensor)
    if input_tensor.dtype not in (DataType.BFLOAT16, DataType.FLOAT32):
        refuse(
            name,
            f"input must be BFLOAT16 or FLOAT32 (it is packed to the cache's dtype), got {input_tensor.dtype}",
        )
    if not input_tensor.config.sharded:
        refuse(name, "input must be sharded, one user a core")
    batch, heads, positions, head_dim = cache_tensor.shape
    steps, users, input_heads, input_dim = input_tensor.shape
    if (steps, input_heads, input_dim) != (1, heads, head_dim):
        refuse(name, f"input {list(input_tensor.shape)} does not fit a cache of {heads} heads of {head_dim}")
    if bool(listed) == (update_idxs_tensor is not None):
        refuse(name, "needs either update_idxs or update_idxs_tensor")
    if batch_offset:
        refuse(name, f"batch_offset must be 0, got {batch_offset}")
    where = f"the cache's {positions} positions"
    if page_table is not None:
        check_page_table(name, page_table, users)
        if update_idxs_tensor is None:
            refuse(name, "a paged cache needs update_idxs_tensor")
        if shared:
            refuse(name, "share_cache does not go with a paged cache")
        where = f"the page table's {page_table.shape[1]} blocks of {positions}"
        positions *= page_table.shape[1]
    elif batch != (1 if shared else users):
        refuse(
            name,
            f"the input has {users} users, the cache a batch of {batch}; it must be {1 if shared else users}",
        )
    if update_idxs_tensor is not None:
        check_position_tensor(name, "update_idxs_tensor", update_idxs_tensor)
    users_named = len(listed) if update_idxs_tensor is None else update_idxs_tensor.shape[0]
    if users_named != users or (update_idxs_tensor is not None and update_idxs_tensor.volume() != users):
        refuse(name, f"number of update_idxs ({users_named}) must match the {users} users")
    check_positions(name, "position", torch.tensor(listed, dtype=torch.int64), positions, where)

    def target_rows(index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        def rows() -> tuple[torch.Tensor, torch.Tensor | None]:
            at = torch.tensor(listed, dtype=torch.int64)
            if update_idxs_tensor is not None:
                at = update_idxs_tensor.shards[index].reshape(-1).long()
                check_positions(name, "position", at, positions, where)
            pages = None if page_table is None else page_table.shards[index]
            return _target_rows(name, cache_tensor, at, pages, shared)

        if update_idxs_tensor is None:
            return rows()
        # All layers of a step share positions and page table, so the rows are worked out once a step.
        table = (
            None
            if page_table is None or page_table.storage is None
            else (page_table.storage.id, page_table.storage.version)
        )
        key = "rows", index, cache_tensor.shape, table, shared
        result: tuple[torch.Tensor, torch.Tensor | None] = update_idxs_tensor.derived(key, rows)
        return result

    def update() -> None:
        for index, (cache, new) in enumerate(zip(cache_tensor.shards, input_tensor.shards, strict=True)):
            rows, source_rows = target_rows(index)
            packed = formats.pack_round(new, cache_tensor.dtype)
            source = packed.view(users * heads, head_dim)
            if source_rows is not None:
                source = source.index_select(0, source_rows)
            cache.view(-1, head_dim).index_copy_(0, rows, source)

    return write(name, cache_tensor, update)


def _target_rows(
    name: str, cache: Tensor, at: torch.Tensor, pages: torch.Tensor | None, shared: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Rows of the cache seen as [-1, D] that the users' heads go to, and which input rows those are (None: all)."""
    blocks, heads, block = cache.shape[:3]
    users = len(at)
    active = (at != SKIPPED).nonzero()[:, 0]
    at = at[active]
    entry = torch.zeros_like(active) if shared else active
    if pages is not None:
        entry = pages[active, at // block].long()
        check_pages(name, entry, blocks, active)
        at = at % block
    head = torch.arange(heads)
    target = ((entry[:, None] * heads + head) * block + at[:, None]).reshape(-1)
    source_rows = None if len(active) == users else (active[:, None] * heads + head).reshape(-1)
    return target, source_rows


def _check_rank(name: str, *tensors: Tensor) -> None:
    for tensor in tensors:
        if len(tensor.shape) != 4:
            refuse(name, f"caches and their inputs have 4 dimensions, got {list(tensor.shape)}")


def _check_user(user: int, page_table: Tensor) -> None:
    if not 0 <= user < page_table.shape[0]:
        refuse(_FILL, f"batch_idx {user} is outside the page table's {page_table.shape[0]} users")
