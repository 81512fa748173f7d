"""What all attention ops ask of their inputs."""

from __future__ import annotations

from harness.emulator.errors import refuse
from harness.emulator.runtime.tensor import Tensor, require_device, require_layout
from harness.emulator.spec.types import DataType, Layout

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
