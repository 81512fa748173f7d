"""`ttnn.untilize_with_unpadding`: rows, of which the last are left out."""

from __future__ import annotations

from collections.abc import Sequence

from harness.emulator.ops.movement.movement import slice as slice_op
from harness.emulator.ops.placement.layout import check_relaid, relaid
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import Tensor, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import (
    Layout,
)


@op("ttnn.untilize_with_unpadding")
def untilize_with_unpadding(
    input_tensor: Tensor,
    output_tensor_end: Sequence[int],
    *,
    memory_config: MemoryConfig | None = None,
    use_multicore: bool = True,
) -> Tensor:
    """TILE to ROW_MAJOR, keeping elements up to `output_tensor_end` (inclusive) in each dimension."""
    name = "ttnn.untilize_with_unpadding"
    require_device(name, input_tensor)
    check_relaid(name, input_tensor, Layout.ROW_MAJOR, None)
    rows = relaid(name, input_tensor, Layout.ROW_MAJOR, None, memory_config)
    return slice_op(rows, [0] * len(rows.shape), [end + 1 for end in output_tensor_end])
