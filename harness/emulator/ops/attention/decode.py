"""Decode attention: over a contiguous cache, and over a paged one."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from harness.emulator.errors import refuse
from harness.emulator.ops.attention.checks import (
    check_decode_sink,
    check_inputs,
    check_mask_format,
    not_modelled,
    window_size,
)
from harness.emulator.ops.attention.core import Pages
from harness.emulator.ops.attention.decode_setting import DecodeStep, Lengths, default_scale, largest_chunk
from harness.emulator.ops.kv_cache.positions import (
    check_page_table,
    check_pages,
    check_positions,
    unsigned_list,
)
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Compute, Tensor, device_of, require_device, require_layout
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.program_configs import SDPAProgramConfig, WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, BufferType, DataType, Layout

_DECODE = "ttnn.transformer.scaled_dot_product_attention_decode"
_PAGED = "ttnn.transformer.paged_scaled_dot_product_attention_decode"
# Of a finite mask; what lies beyond hides a key, scaled or not.
_HIDES = 1e3
_Lengths = Callable[[], list[Lengths]]


@op(_DECODE)
def scaled_dot_product_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    is_causal: bool = True,
    attn_mask: Tensor | None = None,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Tensor | None = None,
    attention_sink: Tensor | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    share_cache: bool | None = None,
) -> Tensor:
    """q [1, B, nq, D] over caches [B, nkv, S, D]: user b attends positions 0..cur_pos[b]. Returns [1, B, nq, D].

    With is_causal=False it attends all positions, and a mask [1 or B, 1, nq, S] is added to the scores. The kernel adds it
    before they are scaled, and no op divides it first: modes device and exact do the same, see `_mask_shards`.
    With a sliding_window_size it attends the last so many of those positions. attention_sink [nq, 32] has in its first column
    a score more for each head, of a key whose value is zero, which no scale has touched.
    """
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    _check_decode(_DECODE, q, k, v, program_config, memory_config)
    not_modelled(_DECODE, share_cache=share_cache or None)
    window = window_size(_DECODE, sliding_window_size)
    check_decode_sink(_DECODE, attention_sink, q)
    users, span = q.shape[1], k.shape[2]
    if k.shape[0] != users:
        refuse(_DECODE, f"cache batch {k.shape[0]} must equal q's {users} users")
    chunk = (program_config.k_chunk_size if program_config is not None else 0) or largest_chunk(span)
    if chunk % TILE_SIZE or span % chunk:
        refuse(
            _DECODE,
            f"a cache of {span} positions needs a k_chunk_size of whole tiles that divides it, got {chunk}",
        )
    listed = torch.tensor(unsigned_list(_DECODE, "cur_pos", cur_pos), dtype=torch.int64)
    cached = f"the cache's {span} positions"
    check_positions(_DECODE, "cur_pos", listed, span, cached)
    lengths = _everything(span, q)
    if cur_pos_tensor is not None:
        lengths = _of_tensor(_DECODE, cur_pos_tensor, users, is_causal, span, cached, lengths)
    elif is_causal:
        if len(listed) < users:
            refuse(_DECODE, f"needs cur_pos or cur_pos_tensor for each of {users} users")
        user_lengths = Lengths(listed[:users])
        lengths = _same(user_lengths, q)
    mask = _mask_shards(_DECODE, attn_mask, q, is_causal, span, scale)
    _check_scale(_DECODE, q, scale)
    step = DecodeStep(q, k, scale, program_config, compute_kernel_config, chunk, is_causal, window)
    sinks = _sink_shards(attention_sink, q)

    def attend(
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        length: Lengths,
        mask: torch.Tensor | None,
        sink: torch.Tensor | None,
    ) -> torch.Tensor:
        reach = min(length.longest, span)
        cached = [length.of_present(cache)[:, :, :reach] for cache in (keys, values)]
        return step.attend(x, cached[0], cached[1], length, mask, sink)

    def shards() -> list[torch.Tensor]:
        return list(map(attend, q.shards, k.shards, v.shards, lengths(), mask(), sinks()))

    return _decoded(_DECODE, shards, q, memory_config)


@op(_PAGED)
def paged_scaled_dot_product_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    page_table_tensor: Tensor,
    *,
    is_causal: bool = True,
    attn_mask: Tensor | None = None,
    cur_pos_tensor: Tensor | None = None,
    attention_sink: Tensor | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """q [1, B, nq, D] over paged caches [blocks, nkv, block_size, D] through a page table [B, blocks a user], int32.

    User b attends positions 0..cur_pos[b]. A row at position -1 is not computed: on the device it keeps what memory held;
    here it is NaN, so that nobody can rely on it. With is_causal=False users attend all their pages, and a mask
    [1 or B, 1, nq, blocks a user * block_size] is added as in contiguous decode. A window and a sink as there. Returns
    [1, B, nq, D].
    """
    q, k, v, table = input_tensor_q, input_tensor_k, input_tensor_v, page_table_tensor
    _check_decode(_PAGED, q, k, v, program_config, memory_config)
    window = window_size(_PAGED, sliding_window_size)
    check_decode_sink(_PAGED, attention_sink, q)
    if window and k.shape[2] < TILE_SIZE:
        refuse(
            _PAGED,
            f"with blocks of {k.shape[2]} positions, less than a tile, the kernel counts a window in padded positions; the "
            "emulator does not model that: take blocks of 32",
        )
    users = q.shape[1]
    check_page_table(_PAGED, table, users)
    heads, block = k.shape[1:3]
    span = table.shape[1] * block
    # Without a program config ttnn takes chunks of a tile; with one that names none, a user's length decides.
    chunk = program_config.k_chunk_size if program_config is not None else TILE_SIZE
    reach = f"the page table's {table.shape[1]} blocks of {block}"
    lengths = _everything(span, q)
    if is_causal:
        if cur_pos_tensor is None:
            refuse(_PAGED, "needs cur_pos_tensor in causal mode")
        lengths = _paged_lengths(cur_pos_tensor, users, span, reach)
    elif not chunk or span % chunk:
        refuse(
            _PAGED, f"without causality k_chunk_size must divide the {span} positions of {reach}, got {chunk}"
        )
    mask = _mask_shards(_PAGED, attn_mask, q, is_causal, span, scale)
    _check_scale(_PAGED, q, scale)
    automatic = 0 if is_causal else chunk
    step = DecodeStep(q, k, scale, program_config, compute_kernel_config, automatic, is_causal, window)
    sinks = _sink_shards(attention_sink, q)

    def attend(
        index: int,
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        length: Lengths,
        mask: torch.Tensor | None,
        sink: torch.Tensor | None,
    ) -> torch.Tensor:
        blocks = -(-step.reach(length.longest, span) // block)
        pages = table.shards[index][:, :blocks]

        def check() -> None:
            _check_used(pages, length, block, k.shape[0])

        def rows() -> torch.Tensor:
            return _page_rows(pages[length.present], heads, k.shape[0])

        # All layers of a step share positions and page table, so they are looked at once a step.
        if cur_pos_tensor is not None and is_causal and table.storage is not None:
            key = "pages", index, table.storage.id, table.storage.version, block, k.shape[0]
            cur_pos_tensor.derived(key, check)
        else:
            check()
        order = table.derived(("rows", index, blocks, heads, length.present_users), rows)
        where = Pages(order.view(len(length.present_users), heads, blocks), block)
        return step.attend(x, keys, values, length, mask, sink, where)

    def shards() -> list[torch.Tensor]:
        each = q.shards, k.shards, v.shards, lengths(), mask(), sinks()
        return list(map(attend, itertools.count(), *each))

    return _decoded(_PAGED, shards, q, memory_config)


def _check_scale(name: str, q: Tensor, scale: float | None) -> None:
    width, padded = q.shape[-1], q.padded_shape[-1]
    if scale is None and width != padded:
        warnings.warn(
            f"{name}: without a scale ttnn takes {padded} ** -0.5, of the padded head dim, for one of {width}; give scale",
            stacklevel=3,
        )


def _everything(span: int, q: Tensor) -> _Lengths:
    """Every user attends all of its cache."""
    return _same(Lengths(torch.full((q.shape[1],), span - 1)), q)


def _same(lengths: Lengths, q: Tensor) -> _Lengths:
    """On every device the same."""
    return lambda: [lengths] * len(q.shards)


def _of_tensor(
    name: str, positions: Tensor, users: int, is_causal: bool, span: int, where: str, otherwise: _Lengths
) -> _Lengths:
    require_device(name, positions)
    if positions.dtype not in (DataType.INT32, DataType.UINT32):
        refuse(name, f"cur_pos_tensor must be INT32 or UINT32, got {positions.dtype}")
    require_layout(name, Layout.ROW_MAJOR, positions)
    if positions.volume() != positions.shape[-1] or positions.volume() < users:
        refuse(
            name,
            f"cur_pos_tensor must have one position for each of {users} users, got {list(positions.shape)}",
        )
    return _checked_lengths(name, positions, users, span, where) if is_causal else otherwise


def _paged_lengths(positions: Tensor, users: int, span: int, where: str) -> _Lengths:
    require_device(_PAGED, positions)
    if positions.dtype is not DataType.INT32:
        refuse(_PAGED, f"cur_pos must be INT32, got {positions.dtype}")
    if positions.volume() != users:
        refuse(
            _PAGED, f"cur_pos must have one position for each of {users} users, got {list(positions.shape)}"
        )
    return _checked_lengths(_PAGED, positions, users, span, where)


def _checked_lengths(name: str, positions: Tensor, users: int, span: int, where: str) -> _Lengths:
    def lengths() -> list[Lengths]:
        each = []
        for shard in positions.shards:
            these = shard.reshape(-1)[:users].to(torch.int64)
            check_positions(name, "position", torch.where(these == 2**32 - 1, -1, these), span, where)
            each.append(Lengths(these))
        return each

    return lambda: positions.derived(("lengths", users, span), lengths)


def _mask_shards(
    name: str, mask: Tensor | None, q: Tensor, is_causal: bool, span: int, scale: float | None
) -> Callable[[], list[torch.Tensor | None]]:
    """A user's mask by its head, [B, nq, S], per device.

    The kernel adds it to the scores and scales the sum, softmax((QK + M) * scale); ttnn's own golden has softmax(QK * scale + M),
    as mode fast has. So where a finite mask meets a scale other than 1 the two differ, and a warning says so.
    """
    if mask is None:
        return lambda: [None] * len(q.shards)
    if is_causal:
        refuse(name, "is_causal and attn_mask cannot both be given; is_causal is True unless told otherwise")
    require_device(name, mask)
    check_mask_format(name, mask)
    users, heads = q.shape[1:3]
    if len(mask.shape) != 4 or tuple(mask.shape[2:]) != (heads, span):
        refuse(
            name,
            f"attn_mask must be [1 or {users}, 1, {heads} heads, {span} positions], got {list(mask.shape)}",
        )
    if mask.shape[0] not in (1, users) or mask.shape[1] != 1:
        refuse(
            name,
            f"attn_mask {list(mask.shape)}: the kernel finds a user's mask by the first dimension alone, so it must be "
            f"[1 or {users}, 1, {heads}, {span}]",
        )
    factor = default_scale(q) if scale is None else scale

    def shards() -> list[torch.Tensor | None]:
        if factor != 1.0 and any(bool(((x != 0) & (x.abs() < _HIDES)).any()) for x in mask.shards):
            warnings.warn(
                f"{name}: the kernel adds attn_mask to the scores before it scales them by {factor:g}, and no op divides the "
                "mask first: softmax((QK + M) * scale) in modes device and exact, softmax(QK * scale + M) in fast. "
                "Divide the mask by the scale yourself, or scale q and give scale=1",
                stacklevel=2,
            )
        return [x[:, 0].expand(users, -1, -1) for x in mask.shards]

    return shards


def _sink_shards(sink: Tensor | None, q: Tensor) -> Callable[[], list[torch.Tensor | None]]:
    """A head's sink per device, [nq]; heads that the tensor does not reach have its padding, zero."""
    heads = q.shape[2]
    if sink is None:
        return lambda: [None] * len(q.shards)
    return lambda: [F.pad(x[:heads, 0], (0, max(0, heads - x.shape[0]))) for x in sink.shards]


def _check_used(pages: torch.Tensor, length: Lengths, block: int, blocks: int) -> None:
    """Refuse pages [users, n] of no block; those beyond a user's length may hold anything, and are not looked at."""
    used = torch.arange(pages.shape[1]) * block < length.counts[:, None]
    check_pages(_PAGED, torch.where(used, pages.long(), 0), blocks)


def _page_rows(pages: torch.Tensor, heads: int, blocks: int) -> torch.Tensor:
    """Rows of a cache seen as [blocks * heads, block_size * D], in the order [user, head, page]."""
    valid = pages.long().clamp(0, blocks - 1)  # what lies beyond a user's length is masked
    return (valid[:, None, :] * heads + torch.arange(heads)[None, :, None]).reshape(-1)


def _decoded(name: str, shards: Compute, q: Tensor, memory_config: MemoryConfig | None) -> Tensor:
    return make_tensor(
        name, shards, q.shape, q.dtype, Layout.TILE, memory_config or DRAM_MEMORY_CONFIG, device_of(q)
    )


def _check_decode(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    program: SDPAProgramConfig | None,
    memory_config: MemoryConfig | None,
) -> None:
    check_inputs(name, q, k, v, q.shape[2] if len(q.shape) == 4 else 0)
    if q.shape[0] != 1:
        refuse(name, f"q must be [1, B, nq, D], got {list(q.shape)}")
    for what, tensor in (("q", q), ("k", k), ("v", v)):
        interleaved_q = tensor is q and not q.config.sharded
        if tensor.config.buffer_type is not BufferType.DRAM and (tensor is not q or interleaved_q):
            refuse(name, f"{what} must be in DRAM, got {tensor.config.buffer_type}")
    if k.shape[1] > 1:
        if q.dtype is not DataType.BFLOAT16:
            refuse(name, f"grouped-query attention expects BFLOAT16 q, got {q.dtype}")
        if memory_config is not None and memory_config.sharded:
            refuse(name, "grouped-query attention does not support a sharded output")
    if program is not None and program.k_chunk_size & (program.k_chunk_size - 1):
        refuse(name, f"k_chunk_size must be a power of 2, got {program.k_chunk_size}")
    if program is not None and program.k_chunk_size % TILE_SIZE:
        refuse(name, f"k_chunk_size must be a multiple of {TILE_SIZE}, got {program.k_chunk_size}")
    grid = (
        program.compute_with_storage_grid_size
        if program is not None
        else device_of(q).compute_with_storage_grid_size()
    )
    if grid.x * grid.y < q.shape[1]:
        refuse(name, f"{q.shape[1]} users need a core each, the grid has {grid.x * grid.y}")
