"""Writing contiguous KV caches [users, nkv, S, D]: a user's prompt (`fill_cache`), a token of all users (`update_cache`)."""

from __future__ import annotations

from harness.emulator.arithmetic import formats
from harness.emulator.errors import refuse
from harness.emulator.ops.kv_cache.positions import unsigned
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import write
from harness.emulator.runtime.tensor import Tensor, require_device, require_layout
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout

_DTYPES = (DataType.FLOAT32, DataType.BFLOAT16, DataType.BFLOAT8_B)

_FILL = "ttnn.fill_cache"
_FILL_USER = "ttnn.kv_cache.fill_cache_for_user_"
_UPDATE = "ttnn.update_cache"
_UPDATE_TOKEN = "ttnn.kv_cache.update_cache_for_token_"


@op(_FILL, kind=Kind.IN_PLACE, writes=("cache_tensor",))
def fill_cache(cache_tensor: Tensor, input_tensor: Tensor, batch_idx: int, *, update_idx: int = 0) -> Tensor:
    """Write one user's [1, nkv, rows, D] from position `update_idx`, a multiple of 32, on. Returns the cache.

    Whole tiles are written: rows that fill the last one become zero. Cache and input have one dtype.
    """
    return _filled(_FILL, cache_tensor, input_tensor, batch_idx, update_idx)


@op(_FILL_USER, kind=Kind.IN_PLACE, writes=("cache",))
def fill_cache_for_user_(cache: Tensor, input: Tensor, batch_index: int, *, update_idx: int = 0) -> Tensor:
    """`fill_cache`."""
    return _filled(_FILL_USER, cache, input, batch_index, update_idx)


@op(_UPDATE, kind=Kind.IN_PLACE, writes=("cache",))
def update_cache(
    cache: Tensor,
    input: Tensor,
    update_idx: int,
    *,
    batch_offset: int = 0,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Write [1, nkv, users, D], a row a user from row `batch_offset` on, at one position of all users. Returns the cache.

    The rows are packed to the cache's dtype as the packer does.
    """
    return _updated(_UPDATE, cache, input, update_idx, batch_offset)


@op(_UPDATE_TOKEN, kind=Kind.IN_PLACE, writes=("cache",))
def update_cache_for_token_(
    cache: Tensor,
    input: Tensor,
    update_index: int,
    batch_offset: int = 0,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """`update_cache`."""
    return _updated(_UPDATE_TOKEN, cache, input, update_index, batch_offset)


def _check_dtypes(name: str, cache: Tensor, new: Tensor) -> None:
    for what, tensor in (("cache", cache), ("input", new)):
        if tensor.dtype not in _DTYPES:
            refuse(name, f"{what} must be one of {', '.join(d.name for d in _DTYPES)}, got {tensor.dtype}")


def _filled(name: str, cache: Tensor, new: Tensor, batch_idx: int, update_idx: int) -> Tensor:
    user, start = unsigned(name, "batch_idx", batch_idx), unsigned(name, "update_idx", update_idx)
    _check(name, cache, new)
    _check_dtypes(name, cache, new)
    if new.dtype is not cache.dtype:
        refuse(name, f"input dtype {new.dtype} must equal the cache's {cache.dtype}")
    if new.shape[0] != 1:
        refuse(name, f"fills one user at a time, got a batch of {new.shape[0]}")
    if user >= cache.shape[0]:
        refuse(name, f"batch_idx {user} lies beyond the cache's {cache.shape[0]} users")
    if start % TILE_SIZE:
        refuse(name, f"update_idx must be a multiple of {TILE_SIZE}, got {start}")
    rows, positions = new.shape[2], cache.shape[2]
    if start + rows > positions:
        refuse(name, f"{rows} rows from position {start} on lie beyond the cache's {positions} positions")
    padded = min(start + -(-rows // TILE_SIZE) * TILE_SIZE, positions)

    def fill() -> None:
        for cached, rows_of_user in zip(cache.shards, new.shards, strict=True):
            cached[user, :, start : start + rows] = rows_of_user[0]
            cached[user, :, start + rows : padded] = 0

    return write(name, cache, fill)


def _updated(name: str, cache: Tensor, new: Tensor, update_idx: int, batch_offset: int) -> Tensor:
    position, first = unsigned(name, "update_idx", update_idx), unsigned(name, "batch_offset", batch_offset)
    _check(name, cache, new)
    _check_dtypes(name, cache, new)
    users, _, positions, _ = cache.shape
    if new.shape[0] != 1:
        refuse(name, f"the input must be [1, nkv, users, D], got {list(new.shape)}")
    if position >= positions:
        refuse(name, f"update_idx {position} lies beyond the cache's {positions} positions")
    if first + users > new.shape[2]:
        refuse(
            name, f"the cache's {users} users from row {first} on lie beyond the input's {new.shape[2]} rows"
        )

    def update() -> None:
        for cached, rows in zip(cache.shards, new.shards, strict=True):
            packed = formats.pack_round(rows[0, :, first : first + users], cache.dtype)
            cached[:, :, position] = packed.transpose(0, 1)

    return write(name, cache, update)


def _check(name: str, cache: Tensor, new: Tensor) -> None:
    require_device(name, cache, new)
    require_layout(name, Layout.TILE, cache, new)
    for tensor in (cache, new):
        if len(tensor.shape) != 4:
            refuse(name, f"caches and their inputs have 4 dimensions, got {list(tensor.shape)}")
    if (new.shape[1], new.shape[3]) != (cache.shape[1], cache.shape[3]):
        refuse(
            name,
            f"input {list(new.shape)} does not fit a cache of {cache.shape[1]} heads of {cache.shape[3]}",
        )
