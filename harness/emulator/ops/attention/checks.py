"""What all attention ops ask of their inputs."""

from __future__ import annotations

from harness.emulator.errors import refuse
from harness.emulator.ops.kv_cache.positions import unsigned
from harness.emulator.runtime.tensor import Tensor, require_device, require_layout
from harness.emulator.spec.types import TILE_SIZE, BufferType, DataType, Layout

_DTYPES = (DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B)


def check_inputs(name: str, q: Tensor, k: Tensor, v: Tensor, query_heads: int) -> None:
    """Refuse q, k and v of other formats, or whose shapes do not go together."""
    require_device(name, q, k, v)
    for what, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dtype not in _DTYPES:
            refuse(name, f"{what} must be BFLOAT16, BFLOAT8_B or BFLOAT4_B, got {tensor.dtype}")
        if tensor.layout is not Layout.TILE:
            refuse(name, f"{what} must be in TILE layout, got {tensor.layout}")
        if len(tensor.shape) != 4:
            refuse(name, f"{what} must have 4 dimensions, got {list(tensor.shape)}")
    if k.shape != v.shape or q.shape[-1] != k.shape[-1]:
        refuse(name, f"k {list(k.shape)} and v {list(v.shape)} must agree, with q's head dim {q.shape[-1]}")
    if query_heads % k.shape[1]:
        refuse(name, f"{query_heads} query heads must be a multiple of {k.shape[1]} KV heads")


def check_mask_format(name: str, mask: Tensor) -> None:
    """Refuse a mask that is not a tiled block float or bfloat16."""
    if mask.dtype not in _DTYPES:
        refuse(name, f"attn_mask must be BFLOAT16, BFLOAT8_B or BFLOAT4_B, got {mask.dtype}")
    require_layout(name, Layout.TILE, mask)


def not_modelled(name: str, **arguments: object) -> None:
    """Refuse arguments that ttnn takes and the emulator does not, unless they are None."""
    for argument, value in arguments.items():
        if value is not None:
            refuse(name, f"the emulator does not model {argument}, ttnn does; try --tt-target shadow")


def window_size(name: str, size: int | None) -> int:
    """A sliding window in keys; 0 where there is none."""
    return 0 if size is None else unsigned(name, "sliding_window_size", size)


def check_sink(name: str, sink: Tensor | None, shape: list[int], fp32_dest: bool) -> None:
    """Refuse a sink of prefill attention that is not `shape`, [1, query heads, 1, 1]."""
    if sink is None:
        return
    require_device(name, sink)
    require_layout(name, Layout.TILE, sink)
    if sink.dtype not in _DTYPES:
        refuse(name, f"attention_sink must be BFLOAT16, BFLOAT8_B or BFLOAT4_B, got {sink.dtype}")
    _check_sink_in_dram(name, sink)
    if list(sink.shape) != shape:
        refuse(name, f"attention_sink must be {shape}, a value a query head, got {list(sink.shape)}")
    if fp32_dest and sink.dtype is not DataType.BFLOAT16:
        refuse(
            name,
            f"with a float32 destination the kernel reads attention_sink as BFLOAT16, whatever it is: {sink.dtype} gives "
            "numbers that nobody knows",
        )


def check_decode_sink(name: str, sink: Tensor | None, q: Tensor) -> None:
    """Refuse a sink of decode attention that is not bfloat16 [query heads, 1 to 32], both padded to a tile."""
    if sink is None:
        return
    require_device(name, sink)
    if len(sink.shape) != 2:
        refuse(name, f"attention_sink must have 2 dimensions, got {list(sink.shape)}")
    if sink.padded_shape[0] != q.padded_shape[2] or sink.padded_shape[1] != TILE_SIZE:
        refuse(
            name,
            f"attention_sink must be [{q.shape[2]} heads, {TILE_SIZE}] with its values in the first column, got "
            f"{list(sink.shape)}",
        )
    if sink.dtype is not DataType.BFLOAT16:
        refuse(name, f"attention_sink must be BFLOAT16, got {sink.dtype}")
    require_layout(name, Layout.TILE, sink)
    _check_sink_in_dram(name, sink)


def _check_sink_in_dram(name: str, sink: Tensor) -> None:
    if sink.config.buffer_type is not BufferType.DRAM:
        refuse(name, f"attention_sink must be in DRAM, got {sink.config.buffer_type}")
