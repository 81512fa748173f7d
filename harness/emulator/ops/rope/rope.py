"""Rotary position embedding: `ttnn.experimental.rotary_embedding_llama`, `rotary_embedding_hf` and `rotary_embedding`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import refuse
from harness.emulator.ops.kv_cache.positions import unsigned
from harness.emulator.ops.rope import rope_steps
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, same_spec
from harness.emulator.runtime.tensor import (
    Tensor,
    device_of,
    output_config,
    require_device,
    require_layout,
)
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout, TensorMemoryLayout

_LLAMA = "ttnn.experimental.rotary_embedding_llama"
_HF = "ttnn.experimental.rotary_embedding_hf"
_PLAIN = "ttnn.experimental.rotary_embedding"
_LONGEST_LLAMA = 256  # head dim: a core's Dest holds a row of it


@op(_LLAMA)
def rotary_embedding_llama(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    trans_mat: Tensor,
    *,
    is_decode_mode: bool = False,
    memory_config: MemoryConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x * cos + (x @ trans_mat) * sin; pairs of neighbouring columns rotate.

    Prefill: x [B, H, S, D], cos and sin [1, 1 or H, any, D], trans_mat [1, 1, 32, 32], interleaved. Rows beyond the table's last
    tile become zero, and so do those it has only padding for. Decode: x [1, B, H, D], cos and sin [1, B, 1, D],
    trans_mat [1, 1, 32 * B, 32], all height sharded in L1, one user a core.
    """
    _check(_LLAMA, input_tensor, (cos_cache, sin_cache, trans_mat), is_decode_mode)
    require_layout(_LLAMA, Layout.TILE, trans_mat)
    width = input_tensor.shape[-1]
    if width > _LONGEST_LLAMA:
        refuse(_LLAMA, f"the head dim must be at most {_LONGEST_LLAMA}, got {width}")
    if cos_cache.shape[0] != 1 or (
        not is_decode_mode and cos_cache.shape[1] not in (1, input_tensor.shape[1])
    ):
        refuse(
            _LLAMA,
            f"cos and sin must be [1, 1 or {input_tensor.shape[1]} heads, positions, {width}], got {list(cos_cache.shape)}",
        )
    shape = tuple(trans_mat.shape)
    square = not is_decode_mode and shape[-2] != TILE_SIZE
    if len(shape) != 4 or shape[:2] != (1, 1) or shape[-1] != TILE_SIZE or square:
        refuse(_LLAMA, f"trans_mat must be [1, 1, 32, 32] (decode: 32 rows a user), got {list(shape)}")
    users, rows = input_tensor.shape[1], input_tensor.shape[-2]
    if is_decode_mode and trans_mat.shape[-2] < users * TILE_SIZE:
        refuse(_LLAMA, f"trans_mat {list(trans_mat.shape)} must have 32 rows for each of {users} users")

    def tiles() -> list[torch.Tensor]:
        return [_one_tile(t) for t in trans_mat.shards]

    turn = pair_rotation(compute_kernel_config)
    # Decode: a user's angle is the first row of its tile, for all heads.
    positions = 1 if is_decode_mode else rows

    def rotate(
        x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, transform: torch.Tensor
    ) -> torch.Tensor:
        if transform.dim() == 3:  # a transform of its own for each user
            transform = transform[:users]
        return turn(x, _to_length(cos, positions), _to_length(sin, positions), transform)

    def shards() -> list[torch.Tensor]:
        transforms: list[torch.Tensor] = trans_mat.derived("tiles", tiles)
        return list(map(rotate, input_tensor.shards, cos_cache.shards, sin_cache.shards, transforms))

    return same_spec(_LLAMA, input_tensor, shards, output_config(input_tensor, memory_config))


@op(_HF)
def rotary_embedding_hf(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    is_decode_mode: bool = False,
    memory_config: MemoryConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x * cos + rotate_half(x) * sin: the two halves of the head rotate.

    Prefill: x [B, H, S, D], cos and sin [1, 1, >=S, D]. Decode: as `rotary_embedding_llama`. D is 32 or a multiple of 64.
    """
    _check(_HF, input_tensor, (cos_cache, sin_cache), is_decode_mode)
    _check_halves(_HF, input_tensor)
    if not is_decode_mode and tuple(cos_cache.shape[:2]) != (1, 1):
        refuse(_HF, f"cos and sin must be [1, 1, positions, D] in prefill mode, got {list(cos_cache.shape)}")
    rows = input_tensor.shape[-2]
    if not is_decode_mode and cos_cache.shape[-2] < rows:
        refuse(_HF, f"cos and sin have {cos_cache.shape[-2]} positions, the input {rows}")
    positions = 1 if is_decode_mode else rows
    rotate = _halves(compute_kernel_config)

    def shards() -> list[torch.Tensor]:
        tables = ([table[:, :, :positions] for table in each.shards] for each in (cos_cache, sin_cache))
        return list(map(rotate, input_tensor.shards, *tables))

    return same_spec(_HF, input_tensor, shards, output_config(input_tensor, memory_config))


@op(_PLAIN)
def rotary_embedding(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    token_index: int | None = None,
    *,
    memory_config: MemoryConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """As `rotary_embedding_hf` in prefill; with a `token_index` all rows are at that position. Rows become whole tiles.

    x [B, H, S, D], cos and sin [1, 1, >=S, D] (or > token_index) -> [B, H, S to the end of its tile, D]: the rows added are zero.
    """
    _check(_PLAIN, input_tensor, (cos_cache, sin_cache), False)
    _check_halves(_PLAIN, input_tensor)
    rows, covered = input_tensor.shape[-2], cos_cache.shape[-2]
    if tuple(cos_cache.shape[:2]) != (1, 1):
        refuse(_PLAIN, f"cos and sin must be [1, 1, positions, D], got {list(cos_cache.shape)}")
    if token_index is None and covered < rows:
        refuse(_PLAIN, f"cos and sin have {covered} positions, the input {rows}")
    if token_index is not None and unsigned(_PLAIN, "token_index", token_index) >= covered:
        refuse(_PLAIN, f"cos and sin have {covered} positions, none at token_index {token_index}")
    if token_index is not None and input_tensor.shape[0] != 1:
        refuse(
            _PLAIN,
            f"with a token_index the input must be one token, [1, B, H, D], got {list(input_tensor.shape)}",
        )
    rows_used = slice(0, rows) if token_index is None else slice(token_index, token_index + 1)
    rotate = _halves(compute_kernel_config)
    short = -rows % TILE_SIZE

    def shards() -> list[torch.Tensor]:
        tables = ([table[:, :, rows_used] for table in each.shards] for each in (cos_cache, sin_cache))
        return [F.pad(x, (0, 0, 0, short)) for x in map(rotate, input_tensor.shards, *tables)]

    shape = Shape((*input_tensor.shape[:2], rows + short, input_tensor.shape[-1]))
    config = output_config(input_tensor, memory_config)
    return make_tensor(
        _PLAIN, shards, shape, input_tensor.dtype, Layout.TILE, config, device_of(input_tensor)
    )


def _halves(
    config: WormholeComputeKernelConfig | None,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """The rotation of the head's halves in the mode in force, of x [.., rows, D] by tables [.., rows or 1, D]."""
    math = _math(config)

    def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        rotated = torch.cat((-x[..., half:], x[..., :half]), -1)
        if math is not None:
            return rope_steps.turn(x, rotated, cos, sin, math)
        return _turn(x, rotated, cos, sin)

    return rotate


def pair_rotation(
    config: WormholeComputeKernelConfig | None,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """The rotation of neighbouring columns in the mode in force: x [.., rows, D] by tables [.., rows or 1, D] and the transform
    [32, 32], or a user's each, [users, 32, 32]."""
    math = _math(config)

    def rotate(
        x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, transform: torch.Tensor
    ) -> torch.Tensor:
        width = x.shape[-1]
        padded = F.pad(x, (0, -width % TILE_SIZE)) if width % TILE_SIZE else x
        if math is not None:
            turned = rope_steps.rotate(padded, transform, math)
            return rope_steps.turn(x, turned[..., :width], cos, sin, math)
        return _turn(x, _transformed(padded, transform)[..., :width].contiguous(), cos, sin)

    return rotate


def _to_length(table: torch.Tensor, positions: int) -> torch.Tensor:
    """[.., .., any, D] -> [.., .., positions, D]: what a table is short of is zero."""
    short = positions - table.shape[2]
    return F.pad(table, (0, 0, 0, short)) if short > 0 else table[:, :, :positions]


def _math(config: WormholeComputeKernelConfig | None) -> Math | None:
    """The matrix unit's setting; None in mode fast, which multiplies in bfloat16."""
    if mode.current() is Mode.FAST:
        return None
    return rope_steps.DEFAULT if config is None else Math(config.math_fidelity, config.fp32_dest_acc_en)


def _transformed(x: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
    """Every 32 columns of x [.., .., rows, D] times transform [32, 32], or [users, 32, 32] of x [1, users, rows, D]."""
    blocks = x.view(*x.shape[:-1], -1, TILE_SIZE)  # [.., .., rows, D / 32, 32]
    if transform.dim() == 3:
        return torch.matmul(blocks, transform.unsqueeze(1)).view(x.shape)
    filled = transform.ne(0)
    if bool((filled.sum(0) == 1).all()) and bool((transform.abs().sum(0) == 1).all()):
        # Columns change places and signs, as in every Llama: a third of the time of a product so thin, the same numbers.
        sources = filled.int().argmax(0)
        return blocks.gather(-1, sources.expand(blocks.shape)).mul_(transform.sum(0)).view(x.shape)
    return torch.matmul(blocks, transform).view(x.shape)


def _turn(x: torch.Tensor, rotated: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x * cos + rotated * sin; the products and the sum each pass a bf16 buffer. Sums of two bf16 tie often: half away."""
    total = torch.mul(x, cos).float().add_(rotated.mul_(sin))
    return packed(total, DataType.BFLOAT16)


def _one_tile(trans_mat: torch.Tensor) -> torch.Tensor:
    """[1, 1, 32 * n, 32] -> [32, 32] when every user has the same transform, else [n, 32, 32]."""
    tiles = trans_mat.reshape(-1, TILE_SIZE, TILE_SIZE)
    return tiles[0] if bool((tiles == tiles[0]).all()) else tiles


def _check_halves(name: str, x: Tensor) -> None:
    width = x.shape[-1]
    if width < TILE_SIZE:
        refuse(
            name,
            f"the emulator models head dims of whole tiles; ttnn turns the halves of the {TILE_SIZE} columns that {width} are padded to",
        )
    if width != TILE_SIZE and width % (2 * TILE_SIZE):
        refuse(
            name,
            f"the head dim must be {TILE_SIZE} or a multiple of {2 * TILE_SIZE}, whose halves are whole tiles, got {width}",
        )


def _check(name: str, x: Tensor, others: tuple[Tensor, ...], decode: bool) -> None:
    require_device(name, x, *others)
    cos, sin = others[0], others[1]
    for what, tensor in zip(("input", "cos", "sin", "trans_mat"), (x, *others), strict=False):
        if tensor.dtype is not DataType.BFLOAT16:
            limit = "" if name == _LLAMA else "; ttnn takes others, which the emulator does not model"
            refuse(name, f"{what} must be BFLOAT16, got {tensor.dtype}{limit}")
        if len(tensor.shape) != 4:
            refuse(name, f"{what} must have 4 dimensions, got {list(tensor.shape)}")
        if tensor.layout is not Layout.TILE:
            refuse(name, f"{what} must be in TILE layout, got {tensor.layout}")
        height_sharded = tensor.config.memory_layout is TensorMemoryLayout.HEIGHT_SHARDED
        if decode and not height_sharded:
            refuse(name, f"{what} must be height sharded in decode mode, got {tensor.config.memory_layout}")
    if not decode and x.config.sharded:
        refuse(name, f"input must be interleaved in prefill mode, got {x.config.memory_layout}")
    if cos.shape != sin.shape or cos.shape[-1] != x.shape[-1]:
        refuse(name, f"cos {list(cos.shape)} and sin {list(sin.shape)} must match the head dim {x.shape[-1]}")
    if decode and cos.shape[1] != x.shape[1]:
        refuse(name, f"cos and sin must have the input's batch size {x.shape[1]}, got {list(cos.shape)}")
    if decode and x.shape[0] != 1:
        refuse(name, f"the input must be one token a user in decode mode, [1, B, H, D], got {list(x.shape)}")
