"""Scaled dot product attention: prefill, decode over a contiguous cache, decode over a paged cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from harness.emulator import fidelity, formats, mode
from harness.emulator.errors import refuse
from harness.emulator.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.mode import Mode
from harness.emulator.ops import prefill_steps
from harness.emulator.ops.attention_core import attend
from harness.emulator.ops.attention_decode import (
    DEFAULT,
    DecodeStep,
    Lengths,
    exp_is_approximate,
    largest_chunk,
)
from harness.emulator.ops.rounding import packed
from harness.emulator.program_configs import SDPAProgramConfig, WormholeComputeKernelConfig
from harness.emulator.registry import op
from harness.emulator.tensor import (
    Compute,
    Shards,
    Tensor,
    device_of,
    make_tensor,
    require_device,
    require_layout,
)
from harness.emulator.types import TILE_SIZE, DataType, Layout

_PREFILL = "ttnn.transformer.scaled_dot_product_attention"
_DECODE = "ttnn.transformer.scaled_dot_product_attention_decode"
_PAGED = "ttnn.transformer.paged_scaled_dot_product_attention_decode"
_CACHE_DTYPES = (DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B)
_EMPTY = torch.empty(0, dtype=torch.bfloat16)


@op(_PREFILL)
def scaled_dot_product_attention(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """q [B, nq, Sq, D], k and v [B, nkv, Sk, D], nkv dividing nq; mask [1 or B, 1 or nq, Sq, Sk] added to the scores.

    Returns [B, nq, Sq, D] with q's dtype; scale defaults to D ** -0.5.
    """
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    _check_inputs(_PREFILL, q, k, v)
    if is_causal and attn_mask is not None:
        refuse(_PREFILL, "is_causal and attn_mask cannot both be given")
    if is_causal and q.shape[-2] != k.shape[-2]:
        refuse(
            _PREFILL, f"causal attention needs as many queries as keys, got {q.shape[-2]} and {k.shape[-2]}"
        )
    if q.shape[0] != k.shape[0]:
        refuse(_PREFILL, f"batch of q ({q.shape[0]}) and k ({k.shape[0]}) differ")
    _check_chunks(_PREFILL, program_config)
    if attn_mask is not None:
        _check_mask(attn_mask, q, k)
    math = (compute_kernel_config or DEFAULT).math_fidelity
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    config = memory_config or DRAM_MEMORY_CONFIG
    setting = _prefill_setting(compute_kernel_config or DEFAULT, program_config, factor)
    is_fast = mode.current() is Mode.FAST

    def modelled(
        x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        return formats.pack_round(prefill_steps.attend(x, keys, values, mask, is_causal, setting), q.dtype)

    def fast(
        x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        x, keys = fidelity.matmul_operands(x, keys, math)
        values = fidelity.matmul_operands(_EMPTY, values, math)[1]
        return packed(attend(x, keys, values, mask, is_causal, factor), q.dtype)

    def shards() -> Shards:
        masks = itertools.repeat(None) if attn_mask is None else attn_mask.shards
        given = list(zip(q.shards, k.shards, v.shards, masks, strict=False))
        # A device of a mesh may have padding for heads: whatever the weights, they weigh zeros.
        some = [bool(values.any()) for values in v.shards]
        filled = list(itertools.compress(given, some))
        results = iter(_at_once(fast, filled) if is_fast else itertools.starmap(modelled, filled))
        return [next(results) if has else torch.zeros_like(x) for has, x in zip(some, q.shards, strict=True)]

    return make_tensor(_PREFILL, shards, q.shape, q.dtype, Layout.TILE, config, device_of(q))


@op(_DECODE)
def scaled_dot_product_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    is_causal: bool = True,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """q [1, B, nq, D] over caches [B, nkv, S, D]: user b attends positions 0..cur_pos[b]. Returns [1, B, nq, D]."""
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    _check_decode(_DECODE, q, k, v, is_causal, program_config, memory_config)
    users = q.shape[1]
    if k.shape[0] != users:
        refuse(_DECODE, f"cache batch {k.shape[0]} must equal q's {users} users")
    if cur_pos_tensor is None and len(cur_pos) != users:
        refuse(_DECODE, f"needs cur_pos or cur_pos_tensor for each of {users} users")
    lengths = (
        _lengths(_DECODE, cur_pos_tensor, users)
        if cur_pos_tensor is not None
        else lambda: [Lengths(torch.tensor(list(cur_pos)))] * len(q.shards)
    )
    step = DecodeStep(q, k, scale, program_config, compute_kernel_config, largest_chunk(k.shape[2]))

    def attend(x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, length: Lengths) -> torch.Tensor:
        span = min(length.longest, k.shape[2])
        cached = [length.of_present(cache)[:, :, :span] for cache in (keys, values)]
        return step.attend(x, cached[0], cached[1], length)

    def shards() -> Shards:
        return list(map(attend, q.shards, k.shards, v.shards, lengths()))

    return _decoded(_DECODE, shards, q, memory_config)


@op(_PAGED)
def paged_scaled_dot_product_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    page_table_tensor: Tensor,
    *,
    is_causal: bool = True,
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """q [1, B, nq, D] over paged caches [blocks, nkv, block_size, D] through a page table [B, blocks a user], int32.

    User b attends positions 0..cur_pos[b]. A row at position -1 is not computed: on the device it keeps what memory held;
    here it is NaN, so that nobody can rely on it. Returns [1, B, nq, D].
    """
    q, k, v, table = input_tensor_q, input_tensor_k, input_tensor_v, page_table_tensor
    _check_decode(_PAGED, q, k, v, is_causal, program_config, memory_config)
    users = q.shape[1]
    check_page_table(_PAGED, table, users)
    if cur_pos_tensor is None:
        refuse(_PAGED, "needs cur_pos_tensor in causal mode")
    lengths = _lengths(_PAGED, cur_pos_tensor, users)
    step = DecodeStep(q, k, scale, program_config, compute_kernel_config, 0)
    heads, block, head_dim = k.shape[1:]

    def attend(
        index: int, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, length: Lengths
    ) -> torch.Tensor:
        blocks = -(-length.longest // block)
        if blocks > table.shape[1]:
            refuse(
                _PAGED,
                f"position {length.longest - 1} lies beyond the page table's {table.shape[1]} blocks of {block}",
            )
        pages = table.shards[index]

        def rows(pages: torch.Tensor = pages, blocks: int = blocks, length: Lengths = length) -> torch.Tensor:
            return _page_rows(pages[length.present, :blocks], heads, k.shape[0])

        order = table.derived(("rows", index, blocks, heads, length.present_users), rows)
        span, present = blocks * block, len(length.present_users)
        gathered = [
            cache.view(-1, block * head_dim).index_select(0, order).view(present, heads, span, head_dim)
            for cache in (keys, values)
        ]
        return step.attend(x, gathered[0], gathered[1], length)

    def shards() -> Shards:
        return list(map(attend, itertools.count(), q.shards, k.shards, v.shards, lengths()))

    return _decoded(_PAGED, shards, q, memory_config)


def _at_once(
    attend: Callable[..., torch.Tensor],
    devices: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]],
) -> Shards:
    """All devices' attention as one batch: a device has a head or two, too little to share among the CPU's threads."""
    if len(devices) <= 1:
        return list(itertools.starmap(attend, devices))
    x, keys, values, masks = zip(*devices, strict=True)
    users = len(x[0])
    mask = torch.cat([m.expand(users, -1, -1, -1) for m in masks]) if masks[0] is not None else None
    return list(attend(torch.cat(x), torch.cat(keys), torch.cat(values), mask).split(users))


def check_page_table(name: str, table: Tensor, users: int) -> None:
    """Refuse a page table that is not int32, ROW_MAJOR, [users, blocks]."""
    require_device(name, table)
    if table.dtype is not DataType.INT32:
        refuse(name, f"page table must be INT32, got {table.dtype}")
    require_layout(name, Layout.ROW_MAJOR, table)
    if len(table.shape) != 2 or table.shape[0] != users:
        refuse(name, f"page table must be [{users} users, blocks], got {list(table.shape)}")


def _lengths(name: str, positions: Tensor, users: int) -> Callable[[], list[Lengths]]:
    require_device(name, positions)
    if positions.dtype is not DataType.INT32:
        refuse(name, f"cur_pos must be INT32, got {positions.dtype}")
    if positions.volume() != users:
        refuse(name, f"cur_pos must have one position for each of {users} users, got {list(positions.shape)}")

    def lengths() -> list[Lengths]:
        return [Lengths(p.reshape(-1)) for p in positions.shards]

    return lambda: positions.derived("lengths", lengths)


def _page_rows(pages: torch.Tensor, heads: int, blocks: int) -> torch.Tensor:
    """Rows of a cache seen as [blocks * heads, block_size * D], in the order [user, head, page]: one gather, no transpose."""
    valid = pages.long().clamp(
        0, blocks - 1
    )  # pages beyond a user's length may hold anything; they are masked
    return (valid[:, None, :] * heads + torch.arange(heads)[None, :, None]).reshape(-1)


def _prefill_setting(
    compute: WormholeComputeKernelConfig, program: SDPAProgramConfig | None, scale: float
) -> prefill_steps.Setting:
    return prefill_steps.Setting(
        math=fidelity.Math(compute.math_fidelity, compute.fp32_dest_acc_en),
        matmul_fidelity=program.matmul_math_fidelity if program is not None else None,
        approx=compute.math_approx_mode,
        exp_approx=exp_is_approximate(program),
        scale=scale,
        q_chunk=program.q_chunk_size if program is not None else TILE_SIZE,
        k_chunk=program.k_chunk_size if program is not None else TILE_SIZE,
    )


def _decoded(name: str, shards: Compute, q: Tensor, memory_config: MemoryConfig | None) -> Tensor:
    return make_tensor(
        name, shards, q.shape, q.dtype, Layout.TILE, memory_config or DRAM_MEMORY_CONFIG, device_of(q)
    )


def _check_inputs(name: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    require_device(name, q, k, v)
    for what, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dtype not in _CACHE_DTYPES:
            refuse(name, f"{what} must be BFLOAT16, BFLOAT8_B or BFLOAT4_B, got {tensor.dtype}")
        if tensor.layout is not Layout.TILE:
            refuse(name, f"{what} must be in TILE layout, got {tensor.layout}")
        if len(tensor.shape) != 4:
            refuse(name, f"{what} must have 4 dimensions, got {list(tensor.shape)}")
    if k.shape != v.shape or q.shape[-1] != k.shape[-1]:
        refuse(name, f"k {list(k.shape)} and v {list(v.shape)} must agree, with q's head dim {q.shape[-1]}")
    query_heads = q.shape[1] if name is _PREFILL else q.shape[2]
    if query_heads % k.shape[1]:
        refuse(name, f"{query_heads} query heads must be a multiple of {k.shape[1]} KV heads")


def _check_decode(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    is_causal: bool,
    program: SDPAProgramConfig | None,
    memory_config: MemoryConfig | None,
) -> None:
    _check_inputs(name, q, k, v)
    if not is_causal:
        refuse(name, "the emulator models causal decode only")
    if q.shape[0] != 1:
        refuse(name, f"q must be [1, B, nq, D], got {list(q.shape)}")
    if q.shape[2] != k.shape[1]:
        if q.dtype is not DataType.BFLOAT16:
            refuse(name, f"grouped-query attention expects BFLOAT16 q, got {q.dtype}")
        if memory_config is not None and memory_config.sharded:
            refuse(name, "grouped-query attention does not support a sharded output")
    if program is not None and program.k_chunk_size & (program.k_chunk_size - 1):
        refuse(name, f"k_chunk_size must be a power of 2, got {program.k_chunk_size}")


def _check_chunks(name: str, program: SDPAProgramConfig | None) -> None:
    if program is None:
        return
    for what, size in (("q_chunk_size", program.q_chunk_size), ("k_chunk_size", program.k_chunk_size)):
        if size <= 0 or size % TILE_SIZE:
            refuse(name, f"{what} must be a positive multiple of {TILE_SIZE}, got {size}")


def _check_mask(mask: Tensor, q: Tensor, k: Tensor) -> None:
    require_device(_PREFILL, mask)
    require_layout(_PREFILL, Layout.TILE, mask)
    if mask.dtype not in _CACHE_DTYPES:
        refuse(_PREFILL, f"attn_mask must be BFLOAT16, BFLOAT8_B or BFLOAT4_B, got {mask.dtype}")
    wanted = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    fits = len(mask.shape) == 4 and all(m in (1, w) for m, w in zip(mask.shape[:2], wanted[:2], strict=True))
    if not fits or tuple(mask.shape[2:]) != wanted[2:]:
        refuse(_PREFILL, f"attn_mask {list(mask.shape)} does not fit scores of shape {list(wanted)}")
