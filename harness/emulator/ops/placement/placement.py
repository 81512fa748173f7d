"""Ops that change where or in what form a tensor lies, not its values' order: memory config, layout, dtype, copies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.emulator.arithmetic import casts, formats, mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.errors import refuse
from harness.emulator.mesh.device import BLOCK_FLOATS, TILE_BYTES, padded_shape
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import (
    Compute,
    Shards,
    Tensor,
    device_of,
    make_tensor,
    output_config,
    require_device,
    write,
)
from harness.emulator.spec.geometry import CoreCoord, CoreRange, CoreRangeSet
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig, ShardSpec
from harness.emulator.spec.types import (
    TILE_SIZE,
    BufferType,
    DataType,
    Layout,
    ShardOrientation,
    TensorMemoryLayout,
)

_L1_ALIGNMENT = 16  # bytes


@op("ttnn.to_memory_config")
def to_memory_config(
    tensor: Tensor,
    memory_config: MemoryConfig,
    dtype: DataType | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """The tensor at `memory_config`; itself when it is there already."""
    name = "ttnn.to_memory_config"
    require_device(name, tensor)
    if output_tensor is None and tensor.config == memory_config and (dtype is None or dtype is tensor.dtype):
        return tensor
    result = _moved(name, tensor, memory_config, dtype)
    if output_tensor is None:
        return result
    return copy(result, output_tensor)


@op("ttnn.interleaved_to_sharded")
def interleaved_to_sharded(
    input_tensor: Tensor,
    *placement: object,
    grid: object = None,
    shard_shape: object = None,
    shard_scheme: object = None,
    shard_orientation: object = None,
    sharded_memory_config: MemoryConfig | None = None,
    output_dtype: DataType | None = None,
    keep_l1_aligned: bool | None = False,
) -> Tensor:
    """Shard by a memory config, or by (grid, shard_shape, shard_scheme, shard_orientation)."""
    name = "ttnn.interleaved_to_sharded"
    require_device(name, input_tensor)
    config = sharded_memory_config
    named = (grid, shard_shape, shard_scheme, shard_orientation)
    rest = [*placement, *(each for each in named if each is not None)]
    if config is None and rest and isinstance(rest[0], MemoryConfig):
        config, rest = rest[0], rest[1:]
    elif config is None and len(rest) >= 4:
        config = _sharding(*rest[:4])
        rest = rest[4:]
    if config is None or not config.sharded:
        refuse(name, f"needs a sharded memory config, got {placement or config}")
    if rest and isinstance(rest[0], DataType):
        output_dtype, rest = rest[0], rest[1:]
    if rest:
        raise TypeError(f"{name}: unexpected argument {rest[0]!r}")
    if input_tensor.config.sharded:
        refuse(name, f"the input must be INTERLEAVED, it is {input_tensor.config.memory_layout}")
    _check_shard_rows(name, input_tensor, config)
    return _moved(name, input_tensor, config, output_dtype)


@op("ttnn.sharded_to_interleaved")
def sharded_to_interleaved(
    input_tensor: Tensor, memory_config: MemoryConfig | None = None, output_dtype: DataType | None = None
) -> Tensor:
    """The tensor interleaved, in DRAM unless told otherwise; an interleaved input comes back as it is."""
    name = "ttnn.sharded_to_interleaved"
    require_device(name, input_tensor)
    if not input_tensor.config.sharded:
        return input_tensor
    if input_tensor.config.buffer_type is not BufferType.L1:
        refuse(name, f"the input must be in L1, it is in {input_tensor.config.buffer_type.name}")
    _check_shard_rows(name, input_tensor, input_tensor.config)
    config = memory_config or DRAM_MEMORY_CONFIG
    if config.sharded:
        refuse(name, f"needs an interleaved memory config, got {config}")
    return _moved(name, input_tensor, config, output_dtype)


@op("ttnn.reshard")
def reshard(input_tensor: Tensor, output_memory_config: MemoryConfig) -> Tensor:
    """From one sharding to another."""
    require_device("ttnn.reshard", input_tensor)
    if not input_tensor.config.sharded or not output_memory_config.sharded:
        refuse("ttnn.reshard", "input and output must both be sharded")
    return _moved("ttnn.reshard", input_tensor, output_memory_config, None)


@op("ttnn.move")
def move(input_tensor: Tensor, *, memory_config: MemoryConfig | None = None) -> Tensor:
    """A copy, after which the input is gone."""
    require_device("ttnn.move", input_tensor)
    if input_tensor.config.sharded and memory_config is not None and not memory_config.sharded:
        refuse("ttnn.move", "the memory config of a sharded input's result must be sharded too")
    if input_tensor.config.sharded and memory_config not in (None, input_tensor.config):
        refuse(
            "ttnn.move",
            "the emulator does not model a sharded tensor moved to other shards; use ttnn.reshard",
        )
    result = _moved("ttnn.move", input_tensor, output_config(input_tensor, memory_config), None)
    input_tensor.deallocate()
    return result


@op("ttnn.clone")
def clone(
    input: Tensor, *, dtype: DataType | None = None, memory_config: MemoryConfig | None = None
) -> Tensor:
    """A copy, in another dtype if asked."""
    require_device("ttnn.clone", input)
    config = output_config(input, memory_config)
    if config.sharded is not input.config.sharded:
        refuse("ttnn.clone", "input and result must both be sharded, or both interleaved")
    spec = config.shard_spec
    if spec != input.config.shard_spec:
        refuse(
            "ttnn.clone",
            f"input and result must have one shard spec, got {input.config.shard_spec} and {spec}",
        )
    if spec is not None and input.layout is Layout.ROW_MAJOR and input.shape[-1] % spec.shape[1]:
        refuse(
            "ttnn.clone",
            f"the emulator does not model rows of {input.shape[-1]} in shards of {spec.shape[1]}",
        )
    return _moved("ttnn.clone", input, config, dtype)


@op("ttnn.copy")
def copy(input_a: Tensor, input_b: Tensor) -> Tensor:
    """Write `input_a` over `input_b`, whose dtype it takes."""
    require_device("ttnn.copy", input_a, input_b)
    if input_a.shape != input_b.shape or input_a.layout is not input_b.layout:
        refuse("ttnn.copy", f"{input_a!r} and {input_b!r} must have one shape and layout")
    if input_a.layout is Layout.ROW_MAJOR and input_a.dtype is not input_b.dtype:
        refuse("ttnn.copy", f"{input_a.dtype} in ROW_MAJOR cannot become {input_b.dtype}; TILE can")
    _require_known("ttnn.copy", input_a, input_b.dtype)

    def copied() -> None:
        for target, source in zip(input_b.shards, _converted(input_a, input_b.dtype), strict=True):
            target.copy_(source)

    return write("ttnn.copy", input_b, copied)


@op("ttnn.typecast")
def typecast(
    input_tensor: Tensor,
    *dtypes: DataType,
    dtype: DataType | None = None,
    input_dtype: DataType | None = None,
    output_dtype: DataType | None = None,
    memory_config: MemoryConfig | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """The values in another dtype: by (dtype), or by (input_dtype, output_dtype), of which the first must be the input's.

    Rounded as the typecast op rounds: block floats once, half away from zero; integers see `casts`.
    """
    name = "ttnn.typecast"
    given = [d for d in (*dtypes, input_dtype, output_dtype, dtype) if d is not None]
    if len(given) not in (1, 2) or not all(isinstance(d, DataType) for d in given):
        raise TypeError(
            f"{name}: expected (tensor, dtype) or (tensor, input_dtype, output_dtype), got {given}"
        )
    if len(given) == 2 and given[0] is not input_tensor.dtype:
        refuse(name, f"input_dtype {given[0]} must be the input tensor's dtype, {input_tensor.dtype}")
    target = given[-1]
    if input_tensor.layout is Layout.ROW_MAJOR and target in BLOCK_FLOATS:
        refuse(name, f"{target} needs TILE layout, the input is ROW_MAJOR")
    if input_tensor.storage is None:
        return _on_host(name, input_tensor, target)
    require_device(name, input_tensor)
    before = input_tensor.dtype
    # The one typecast between floats that has a kernel: the SFPU rounds half to even, then the packer has nothing to do.
    narrows = before is DataType.FLOAT32 and target is DataType.BFLOAT16 and mode.current() is not Mode.FAST

    def shards() -> Shards:
        if narrows:
            return [formats.pack_round(lanes.round_bf16_even(s), target) for s in input_tensor.shards]
        if before is not target and (before in casts.INTEGERS or target in casts.INTEGERS):
            return [casts.typecast(s, before, target) for s in input_tensor.shards]
        return _converted(input_tensor, target)

    if output_tensor is not None:
        return _cast_into(name, output_tensor, shards, input_tensor, target)
    config = output_config(input_tensor, memory_config)
    return make_tensor(
        name, shards, input_tensor.shape, target, input_tensor.layout, config, device_of(input_tensor)
    )


@op("ttnn.to_dtype")
def to_dtype(tensor: Tensor, dtype: DataType) -> Tensor:
    """A host tensor in another dtype."""
    if tensor.storage is not None:
        refuse("ttnn.to_dtype", "converts host tensors; use ttnn.typecast on the device")
    if (
        dtype in BLOCK_FLOATS
        and tensor.layout is Layout.ROW_MAJOR
        and tensor.shape != padded_shape(tensor.shape, Layout.TILE)
    ):
        refuse(
            "ttnn.to_dtype",
            f"{dtype} is TILE, for which {list(tensor.shape)} in ROW_MAJOR must be padded before",
        )
    return _on_host("ttnn.to_dtype", tensor, dtype)


def _on_host(name: str, x: Tensor, dtype: DataType) -> Tensor:
    try:
        shards = [formats.host_round(s, dtype) for s in x.shards]
    except ValueError as error:  # a number that has no value in an integer
        refuse(name, str(error))
    layout = Layout.TILE if dtype in BLOCK_FLOATS else x.layout
    return Tensor(shards, x.shape, dtype, layout, x.config)


def _cast_into(name: str, output: Tensor, shards: Compute, x: Tensor, dtype: DataType) -> Tensor:
    require_device(name, output)
    if (output.shape, output.layout, output.dtype) != (x.shape, x.layout, dtype):
        refuse(name, f"output_tensor {output!r} must be {dtype} and have the input's shape and layout, {x!r}")

    def copied() -> None:
        for target, source in zip(output.shards, shards(), strict=True):
            target.copy_(source)

    return write(name, output, copied)


@op("ttnn.to_layout")
def to_layout(
    tensor: Tensor,
    layout: Layout,
    dtype: DataType | None = None,
    memory_config: MemoryConfig | None = None,
    *,
    pad_value: float = 0.0,
) -> Tensor:
    """TILE or ROW_MAJOR; block floats leave TILE as bfloat16. Itself when nothing changes."""
    if tensor.storage is not None:
        require_device("ttnn.to_layout", tensor)
    if tensor.storage is None:
        if tensor.layout is layout and dtype in (None, tensor.dtype):
            return tensor
    elif tensor.layout is layout:
        return tensor  # ttnn looks at neither dtype nor memory_config then
    else:
        _check_relaid("ttnn.to_layout", tensor, layout, dtype)
    if layout is Layout.ROW_MAJOR and dtype in BLOCK_FLOATS:
        dtype = None  # as it leaves TILE
    made = _relaid("ttnn.to_layout", tensor, layout, dtype, memory_config)
    made.padding = pad_value
    return made


@op("ttnn.tilize")
def tilize(
    input_tensor: Tensor,
    *,
    memory_config: MemoryConfig | None = None,
    dtype: DataType | None = None,
    use_multicore: bool = True,
) -> Tensor:
    """ROW_MAJOR to TILE; height and width must be whole tiles."""
    name = "ttnn.tilize"
    require_device(name, input_tensor)
    _check_relaid(name, input_tensor, Layout.TILE, dtype)
    for what, size in zip(("width", "height"), reversed((1, *input_tensor.shape)), strict=False):
        if size % TILE_SIZE:
            refuse(name, f"input {what} {size} must be divisible by {TILE_SIZE}")
    return _relaid(name, input_tensor, Layout.TILE, dtype, memory_config)


@op("ttnn.tilize_with_zero_padding")
def tilize_with_zero_padding(
    input_tensor: Tensor,
    *,
    memory_config: MemoryConfig | None = None,
    output_dtype: DataType | None = None,
    use_multicore: bool = True,
) -> Tensor:
    """ROW_MAJOR to TILE, padded with zeros to whole tiles."""
    require_device("ttnn.tilize_with_zero_padding", input_tensor)
    if input_tensor.layout is Layout.TILE:
        return input_tensor
    _check_relaid("ttnn.tilize_with_zero_padding", input_tensor, Layout.TILE, output_dtype)
    return _relaid("ttnn.tilize_with_zero_padding", input_tensor, Layout.TILE, output_dtype, memory_config)


@op("ttnn.untilize")
def untilize(
    input_tensor: Tensor, *, memory_config: MemoryConfig | None = None, use_multicore: bool = True
) -> Tensor:
    """TILE to ROW_MAJOR."""
    require_device("ttnn.untilize", input_tensor)
    if len(input_tensor.shape) > 4 and input_tensor.shape != input_tensor.padded_shape:
        refuse("ttnn.untilize", f"shape {list(input_tensor.shape)} has more than four dimensions and padding")
    _check_relaid("ttnn.untilize", input_tensor, Layout.ROW_MAJOR, None)
    return _relaid("ttnn.untilize", input_tensor, Layout.ROW_MAJOR, None, memory_config)


@op("ttnn.untilize_with_unpadding")
def untilize_with_unpadding(
    input_tensor: Tensor,
    output_tensor_end: Sequence[int],
    *,
    memory_config: MemoryConfig | None = None,
    use_multicore: bool = True,
) -> Tensor:
    """TILE to ROW_MAJOR, keeping elements up to `output_tensor_end` (inclusive) in each dimension."""
    from harness.emulator.ops.movement.movement import slice as slice_op

    name = "ttnn.untilize_with_unpadding"
    require_device(name, input_tensor)
    _check_relaid(name, input_tensor, Layout.ROW_MAJOR, None)
    rows = _relaid(name, input_tensor, Layout.ROW_MAJOR, None, memory_config)
    return slice_op(rows, [0] * len(rows.shape), [end + 1 for end in output_tensor_end])


def _sharding(grid: object, shape: object, scheme: object, orientation: object) -> MemoryConfig:
    if isinstance(grid, CoreCoord):
        grid = CoreRangeSet([CoreRange((0, 0), (grid.x - 1, grid.y - 1))])
    if not (
        isinstance(grid, CoreRangeSet)
        and isinstance(shape, Sequence)
        and isinstance(scheme, TensorMemoryLayout)
        and isinstance(orientation, ShardOrientation)
    ):
        raise TypeError(
            "ttnn.interleaved_to_sharded: expected (grid, shard_shape, shard_scheme, shard_orientation), "
            f"got ({grid!r}, {shape!r}, {scheme!r}, {orientation!r})"
        )
    return MemoryConfig(scheme, BufferType.L1, ShardSpec(grid, shape, orientation))


def _moved(name: str, x: Tensor, config: MemoryConfig, dtype: DataType | None) -> Tensor:
    dtype = dtype or x.dtype
    if name not in ("ttnn.clone", "ttnn.move"):
        _check_no_dram_blocks(name, x.config, config)
    _require_known(name, x, dtype)
    return make_tensor(name, lambda: _converted(x, dtype), x.shape, dtype, x.layout, config, device_of(x))


def _relaid(
    name: str, x: Tensor, layout: Layout, dtype: DataType | None, memory_config: MemoryConfig | None
) -> Tensor:
    leaves = layout is Layout.ROW_MAJOR and x.dtype in BLOCK_FLOATS
    if dtype is None or (leaves and dtype is x.dtype):
        dtype = DataType.BFLOAT16 if leaves else x.dtype
    config = output_config(x, memory_config)
    if x.storage is None:
        return Tensor([formats.host_round(s, dtype) for s in x.shards], x.shape, dtype, layout, config)
    if layout is Layout.ROW_MAJOR and (
        x.dtype is DataType.BFLOAT4_B or dtype not in (x.dtype, DataType.BFLOAT16)
    ):
        refuse(
            name,
            f"cannot make {x.dtype} {dtype} ROW_MAJOR; only BFLOAT8_B leaves TILE as another dtype, BFLOAT16",
        )
    _require_known(name, x, dtype)
    return make_tensor(name, lambda: _converted(x, dtype), x.shape, dtype, layout, config, device_of(x))


def _check_no_dram_blocks(name: str, *configs: MemoryConfig) -> None:
    for config in configs:
        if config.buffer_type is BufferType.DRAM and config.memory_layout is TensorMemoryLayout.BLOCK_SHARDED:
            refuse(name, "block sharding in DRAM is not supported")


def _check_shard_rows(name: str, x: Tensor, config: MemoryConfig) -> None:
    """Of a ROW_MAJOR shard, a row is a page in L1."""
    spec = config.shard_spec
    if spec is None or x.layout is not Layout.ROW_MAJOR:
        return
    row = spec.shape[1] * TILE_BYTES[x.dtype] // TILE_SIZE**2
    if row % _L1_ALIGNMENT:
        refuse(
            name,
            f"a shard's row of {spec.shape[1]} {x.dtype}, {row} bytes, must be a multiple of {_L1_ALIGNMENT}",
        )


def _check_relaid(name: str, x: Tensor, layout: Layout, dtype: DataType | None) -> None:
    """What the device cannot tilize or untilize."""
    _check_no_dram_blocks(name, x.config)
    if x.config.sharded and layout is Layout.ROW_MAJOR and x.shape != x.padded_shape:
        refuse(
            name, f"the emulator does not model a sharded tensor with padding, {list(x.shape)}, in ROW_MAJOR"
        )
    if x.layout is layout:
        refuse(name, f"the input is {layout} already")
    if (
        layout is Layout.TILE
        and x.dtype is DataType.UINT8
        and (x.shape != padded_shape(x.shape, layout) or name == "ttnn.tilize_with_zero_padding")
    ):
        refuse(name, f"{x.dtype} of shape {list(x.shape)} cannot be tilized with padding")
    if layout is Layout.ROW_MAJOR and x.dtype is DataType.BFLOAT4_B:
        refuse(name, f"{x.dtype} needs TILE layout")
    rows = DataType.BFLOAT16 if x.dtype is DataType.BFLOAT8_B else x.dtype
    if layout is Layout.ROW_MAJOR and dtype not in (None, rows, x.dtype):
        refuse(name, f"dtype {dtype} cannot differ from the tensor's, {rows}, on the way to ROW_MAJOR")


def _converted(x: Tensor, dtype: DataType) -> list[torch.Tensor]:
    """Copies of the shards in `dtype`, as a kernel without a typecast converts: by its unpacker and packer."""
    if dtype is x.dtype:
        return [s.clone() for s in x.shards]
    if dtype in casts.INTEGERS:
        return [casts.typecast(s, x.dtype, dtype) for s in x.shards]  # of 32 bits both: see `_require_known`
    rounded = [formats.typecast_round(s, dtype) for s in x.shards]
    return [s.clone() if s is before else s for s, before in zip(rounded, x.shards, strict=True)]


def _require_known(name: str, x: Tensor, dtype: DataType) -> None:
    """Refuse a conversion that ttnn leaves to its unpacker and packer where the emulator does not know what comes out."""
    if not casts.moves_bits(x.dtype, dtype):
        refuse(
            name,
            f"copies {x.dtype} to {dtype} without a typecast kernel, and the emulator does not model what the "
            "packer then makes of it; use ttnn.typecast",
        )
