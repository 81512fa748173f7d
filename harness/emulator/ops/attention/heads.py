"""Splitting a fused QKV projection into heads and joining heads again, for prefill and decode."""

from __future__ import annotations

import torch

from harness.emulator.errors import refuse
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import (
    Tensor,
    device_of,
    output_config,
    require_device,
    require_layout,
)
from harness.emulator.spec.geometry import CoreCoord, Shape, num_cores_to_corerangeset, round_up
from harness.emulator.spec.memory_config import MemoryConfig, ShardSpec
from harness.emulator.spec.types import TILE_SIZE, BufferType, DataType, Layout, TensorMemoryLayout

_CREATE = "ttnn.experimental.nlp_create_qkv_heads"
_CREATE_DECODE = "ttnn.experimental.nlp_create_qkv_heads_decode"
_CONCAT = "ttnn.experimental.nlp_concat_heads"
_CONCAT_DECODE = "ttnn.experimental.nlp_concat_heads_decode"


@op(_CREATE)
def nlp_create_qkv_heads(
    input: Tensor,
    input_kv: Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
    memory_config: MemoryConfig | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """[B, 1, S, (nq + 2 nkv) * D] -> q [B, nq, S, D], k [B, nkv, S, D] (or [B, nkv, D, S]), v [B, nkv, S, D]."""
    require_device(_CREATE, input)
    require_layout(_CREATE, Layout.TILE, input)
    _require_dtype(_CREATE, input, DataType.BFLOAT8_B)
    if input_kv is not None:
        refuse(_CREATE, "the emulator does not model a separate input_kv")
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    head_dim = _head_dim(_CREATE, input.shape, num_heads, kv_heads)
    batch, _, rows, _ = input.shape

    def part(first: int, heads: int, transposed: bool = False) -> list[torch.Tensor]:
        columns = [x.view(batch, rows, -1, head_dim)[:, :, first : first + heads] for x in input.shards]
        views = [c.permute(0, 2, 3, 1) if transposed else c.transpose(1, 2) for c in columns]
        return [view.contiguous() for view in views]

    config, device = output_config(input, memory_config), device_of(input)
    q = Shape((batch, num_heads, rows, head_dim))
    kv = Shape((batch, kv_heads, rows, head_dim))
    k = Shape((batch, kv_heads, head_dim, rows)) if transpose_k_heads else kv
    dtype = input.dtype
    after = num_heads + kv_heads
    return (
        make_tensor(_CREATE, lambda: part(0, num_heads), q, dtype, Layout.TILE, config, device),
        make_tensor(
            _CREATE,
            lambda: part(num_heads, kv_heads, transpose_k_heads),
            k,
            dtype,
            Layout.TILE,
            config,
            device,
        ),
        make_tensor(_CREATE, lambda: part(after, kv_heads), kv, dtype, Layout.TILE, config, device),
    )


@op(_CREATE_DECODE)
def nlp_create_qkv_heads_decode(
    input_tensor: Tensor,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    overlap_qk_coregrid: bool | None = True,
    memory_config: MemoryConfig | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """[1, 1, B, (nq + 2 nkv) * D] -> q [1, B, nq, D], k and v [1, B, nkv, D], height sharded in L1, one user a core."""
    require_device(_CREATE_DECODE, input_tensor)
    require_layout(_CREATE_DECODE, Layout.TILE, input_tensor)
    _require_dtype(_CREATE_DECODE, input_tensor)
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if num_heads < kv_heads:
        refuse(_CREATE_DECODE, f"num_heads {num_heads} must not be less than num_kv_heads {kv_heads}")
    head_dim = _head_dim(_CREATE_DECODE, input_tensor.shape, num_heads, kv_heads)
    one, _, batch, _ = input_tensor.shape
    if one != 1 or batch > TILE_SIZE:
        refuse(_CREATE_DECODE, f"input must be [1, 1, B <= {TILE_SIZE}, W], got {list(input_tensor.shape)}")
    device, dtype = device_of(input_tensor), input_tensor.dtype

    def part(first: int, heads: int) -> list[torch.Tensor]:
        return [
            x.view(1, batch, -1, head_dim)[:, :, first : first + heads].contiguous()
            for x in input_tensor.shards
        ]

    grid = device.compute_with_storage_grid_size()
    q_config, kv_config = (_user_per_core(batch, heads, head_dim, grid) for heads in (num_heads, kv_heads))
    q, kv = Shape((1, batch, num_heads, head_dim)), Shape((1, batch, kv_heads, head_dim))
    after = num_heads + kv_heads
    spec = dtype, Layout.TILE
    return (
        make_tensor(_CREATE_DECODE, lambda: part(0, num_heads), q, *spec, q_config, device),
        make_tensor(_CREATE_DECODE, lambda: part(num_heads, kv_heads), kv, *spec, kv_config, device),
        make_tensor(_CREATE_DECODE, lambda: part(after, kv_heads), kv, *spec, kv_config, device),
    )


@op(_CONCAT)
def nlp_concat_heads(input_tensor: Tensor, *, memory_config: MemoryConfig | None = None) -> Tensor:
    """[B, H, S, D] -> [B, 1, S, H * D]."""
    require_device(_CONCAT, input_tensor)
    require_layout(_CONCAT, Layout.TILE, input_tensor)
    _require_dtype(_CONCAT, input_tensor, DataType.BFLOAT8_B)
    batch, heads, rows, head_dim = input_tensor.shape
    shape = Shape((batch, 1, rows, heads * head_dim))

    def shards() -> list[torch.Tensor]:
        return [
            x.transpose(1, 2).clone(memory_format=torch.contiguous_format).view(shape)
            for x in input_tensor.shards
        ]

    config = output_config(input_tensor, memory_config)
    return make_tensor(
        _CONCAT, shards, shape, input_tensor.dtype, Layout.TILE, config, device_of(input_tensor)
    )


@op(_CONCAT_DECODE)
def nlp_concat_heads_decode(
    input_tensor: Tensor,
    *,
    num_heads: int,
    memory_config: MemoryConfig | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """[1, B, H, D] height sharded, one user a core -> [1, 1, 32, num_heads * D], width sharded in L1, one head a core."""
    require_device(_CONCAT_DECODE, input_tensor)
    require_layout(_CONCAT_DECODE, Layout.TILE, input_tensor)
    _require_dtype(_CONCAT_DECODE, input_tensor)
    if not input_tensor.config.sharded:
        refuse(_CONCAT_DECODE, f"input must be sharded, got {input_tensor.config.memory_layout}")
    _, batch, heads, head_dim = input_tensor.shape
    if num_heads > round_up(heads):
        refuse(_CONCAT_DECODE, f"num_heads {num_heads} exceeds the input's padded heads {round_up(heads)}")
    shape = Shape((1, 1, TILE_SIZE, num_heads * head_dim))

    def join(x: torch.Tensor) -> torch.Tensor:
        joined = x.new_zeros(TILE_SIZE, num_heads, head_dim)
        joined[:batch, : min(heads, num_heads)] = x[0, :, :num_heads]
        return joined.view(shape)

    device = device_of(input_tensor)
    grid = device.compute_with_storage_grid_size()
    spec = ShardSpec(num_cores_to_corerangeset(num_heads, grid, True), (TILE_SIZE, head_dim))
    config = MemoryConfig(TensorMemoryLayout.WIDTH_SHARDED, BufferType.L1, spec)
    return make_tensor(
        _CONCAT_DECODE,
        lambda: [join(x) for x in input_tensor.shards],
        shape,
        input_tensor.dtype,
        Layout.TILE,
        config,
        device,
    )


def _require_dtype(name: str, x: Tensor, *further: DataType) -> None:
    taken = (DataType.BFLOAT16, DataType.FLOAT32, *further)
    if x.dtype not in taken:
        refuse(name, f"input must be {' or '.join(d.name for d in taken)}, got {x.dtype}")


def _head_dim(name: str, shape: Shape, heads: int, kv_heads: int) -> int:
    if len(shape) != 4 or shape[1] != 1:
        refuse(name, f"input must be [B, 1, S, W], got {list(shape)}")
    width, rest = divmod(shape[-1], heads + 2 * kv_heads)
    if rest or width % TILE_SIZE:
        refuse(
            name,
            f"the emulator does not model width {shape[-1]}: it must be num_heads + 2 * num_kv_heads = {heads + 2 * kv_heads} heads of a multiple "
            f"of {TILE_SIZE} columns",
        )
    return width


_CONFIGS: dict[tuple[int, int, int, CoreCoord], MemoryConfig] = {}


def _user_per_core(batch: int, heads: int, head_dim: int, grid: CoreCoord) -> MemoryConfig:
    key = (batch, heads, head_dim, grid)
    config = _CONFIGS.get(key)
    if config is None:
        spec = ShardSpec(num_cores_to_corerangeset(batch, grid, True), (round_up(heads), head_dim))
        config = _CONFIGS[key] = MemoryConfig(TensorMemoryLayout.HEIGHT_SHARDED, BufferType.L1, spec)
    return config
