"""Between TILE and ROW_MAJOR."""

from __future__ import annotations

from harness.emulator.arithmetic import formats
from harness.emulator.errors import refuse
from harness.emulator.ops.placement.conversion import check_no_dram_blocks, converted, require_known
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of, output_config, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.tiles import BLOCK_FLOATS, TILE_BYTES, padded_shape
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout, TensorMemoryLayout


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
        check_relaid("ttnn.to_layout", tensor, layout, dtype)
    if layout is Layout.ROW_MAJOR and dtype in BLOCK_FLOATS:
        dtype = None  # as it leaves TILE
    result = relaid("ttnn.to_layout", tensor, layout, dtype, memory_config)
    result.padding = pad_value
    return result


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
    check_relaid(name, input_tensor, Layout.TILE, dtype)
    for what, size in zip(("width", "height"), reversed((1, *input_tensor.shape)), strict=False):
        if size % TILE_SIZE:
            refuse(name, f"input {what} {size} must be divisible by {TILE_SIZE}")
    return relaid(name, input_tensor, Layout.TILE, dtype, memory_config)


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
    spec, size = input_tensor.config.shard_spec, TILE_BYTES[input_tensor.dtype] // TILE_SIZE**2
    by_height = input_tensor.config.memory_layout is TensorMemoryLayout.HEIGHT_SHARDED
    if spec is not None and not by_height and spec.shape[1] * size % 16:
        refuse(
            "ttnn.tilize_with_zero_padding",
            f"shard rows of {spec.shape[1]} {input_tensor.dtype} are {spec.shape[1] * size} B, no multiple of L1's 16",
        )
    check_relaid("ttnn.tilize_with_zero_padding", input_tensor, Layout.TILE, output_dtype)
    return relaid("ttnn.tilize_with_zero_padding", input_tensor, Layout.TILE, output_dtype, memory_config)


@op("ttnn.untilize")
def untilize(
    input_tensor: Tensor, *, memory_config: MemoryConfig | None = None, use_multicore: bool = True
) -> Tensor:
    """TILE to ROW_MAJOR."""
    require_device("ttnn.untilize", input_tensor)
    if len(input_tensor.shape) > 4 and input_tensor.shape != input_tensor.padded_shape:
        refuse("ttnn.untilize", f"shape {list(input_tensor.shape)} has more than four dimensions and padding")
    check_relaid("ttnn.untilize", input_tensor, Layout.ROW_MAJOR, None)
    return relaid("ttnn.untilize", input_tensor, Layout.ROW_MAJOR, None, memory_config)


def relaid(
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
    require_known(name, x, dtype)
    return make_tensor(name, lambda: converted(x, dtype), x.shape, dtype, layout, config, device_of(x))


def check_relaid(name: str, x: Tensor, layout: Layout, dtype: DataType | None) -> None:
    """What the device cannot tilize or untilize."""
    check_no_dram_blocks(name, x.config)
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
