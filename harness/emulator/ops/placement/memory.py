"""Ops that change where a tensor lies: memory config, sharding, copies."""

from __future__ import annotations

from collections.abc import Sequence

from harness.emulator.errors import refuse
from harness.emulator.ops.placement.conversion import check_no_dram_blocks, converted, require_known
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Tensor, device_of, output_config, require_device
from harness.emulator.spec.geometry import CoreCoord, CoreRange, CoreRangeSet
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig, ShardSpec
from harness.emulator.spec.tiles import TILE_BYTES
from harness.emulator.spec.types import (
    TILE_SIZE,
    BufferType,
    DataType,
    Layout,
    ShardOrientation,
    TensorMemoryLayout,
)

# What a row of a shard must be a multiple of, in bytes.
_L1_ALIGNMENT, _DRAM_ALIGNMENT = 16, 32


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
    settings = (grid, shard_shape, shard_scheme, shard_orientation)
    rest = [*placement, *(each for each in settings if each is not None)]
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
    _check_pages(input_tensor, output_memory_config)
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
    if dtype not in (None, input.dtype) and input.layout is Layout.ROW_MAJOR:
        refuse("ttnn.clone", f"another dtype needs TILE layout, got {input.layout}")
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


@op("ttnn.copy", kind=Kind.IN_PLACE, writes=("input_b",))
def copy(input_a: Tensor, input_b: Tensor) -> Tensor:
    """Write `input_a` over `input_b`, whose dtype it takes."""
    require_device("ttnn.copy", input_a)
    if input_b.storage is not None:
        input_b.storage.regain()  # also where a trace has run over it: all of it is written here
    require_device("ttnn.copy", input_b)
    if input_a.shape != input_b.shape or input_a.layout is not input_b.layout:
        refuse("ttnn.copy", f"{input_a!r} and {input_b!r} must have one shape and layout")
    if input_a.layout is Layout.ROW_MAJOR and input_a.dtype is not input_b.dtype:
        refuse("ttnn.copy", f"{input_a.dtype} in ROW_MAJOR cannot become {input_b.dtype}; TILE can")
    require_known("ttnn.copy", input_a, input_b.dtype)

    def copied() -> None:
        for target, source in zip(input_b.shards, converted(input_a, input_b.dtype), strict=True):
            target.copy_(source)

    return write("ttnn.copy", input_b, copied)


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
        check_no_dram_blocks(name, x.config, config)
    require_known(name, x, dtype)
    return make_tensor(name, lambda: converted(x, dtype), x.shape, dtype, x.layout, config, device_of(x))


def _check_pages(x: Tensor, config: MemoryConfig) -> None:
    """ttnn.reshard moves rows of ROW_MAJOR shards, its pages: seen on ttnn 0.81.1."""
    old, new = x.config.shard_spec, config.shard_spec
    if x.layout is not Layout.ROW_MAJOR or old is None or new is None:
        return
    layouts = {x.config.memory_layout, config.memory_layout}
    from_dram, to_dram = (side.buffer_type is BufferType.DRAM for side in (x.config, config))
    if layouts != {TensorMemoryLayout.HEIGHT_SHARDED} and not (from_dram and to_dram):
        _check_shard_rows("ttnn.reshard", x, x.config, _DRAM_ALIGNMENT if from_dram else _L1_ALIGNMENT)
        _check_shard_rows("ttnn.reshard", x, config, _L1_ALIGNMENT)
    widths = [-(-x.shape[-1] // spec.shape[1]) for spec in (old, new)]
    if to_dram and (from_dram or len(layouts) > 1) and widths[0] != widths[1]:
        refuse(
            "ttnn.reshard",
            f"into DRAM a row of {x.shape[-1]} must have as many pages as it had, got {widths[0]} and {widths[1]}",
        )


def _check_shard_rows(name: str, x: Tensor, config: MemoryConfig, unit: int = _L1_ALIGNMENT) -> None:
    """Of a ROW_MAJOR shard, a row is a page: `unit` bytes or a multiple."""
    spec = config.shard_spec
    if spec is None or x.layout is not Layout.ROW_MAJOR:
        return
    row = spec.shape[1] * TILE_BYTES[x.dtype] // TILE_SIZE**2
    if row % unit:
        refuse(name, f"a shard's row of {spec.shape[1]} {x.dtype}, {row} bytes, must be a multiple of {unit}")
