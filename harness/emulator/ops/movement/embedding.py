"""`ttnn.embedding`."""

from __future__ import annotations

from math import prod

import torch

from harness.emulator.errors import refuse
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of, output_config, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType, Layout

_NAME = "ttnn.embedding"


@op(_NAME)
def embedding(
    input_tensor: Tensor,
    weight: Tensor,
    *,
    padding_idx: int | None = None,
    layout: Layout | None = None,
    dtype: DataType | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """Rows of `weight` [vocab, W] for ids [B, S] -> [B, S, W] ([S] -> [S, W]); layout defaults to the weight's.

    Of a ROW_MAJOR result asked for by `layout`, ttnn does not look at `dtype`.
    """
    require_device(_NAME, input_tensor, weight)
    if input_tensor.dtype not in (DataType.UINT32, DataType.BFLOAT16):
        refuse(_NAME, f"ids must be UINT32 or BFLOAT16, got {input_tensor.dtype}")
    if weight.dtype not in (DataType.BFLOAT16, DataType.BFLOAT8_B):
        refuse(_NAME, f"weight must be BFLOAT16 or BFLOAT8_B, got {weight.dtype}")
    if weight.volume() != prod(weight.shape[-2:]):
        refuse(_NAME, f"the dimensions of weight before the last two must be 1, got {list(weight.shape)}")
    vocab, width = weight.shape[-2:]
    ids_shape = input_tensor.shape
    if len(ids_shape) > 2:
        if prod(ids_shape[1:-1]) != 1:
            # ttnn makes a result of [B, S, W] of them and looks up no more than its rows.
            refuse(
                _NAME, f"the emulator does not model ids of shape {list(ids_shape)}; reshape them to [B, S]"
            )
        ids_shape = Shape((ids_shape[0], ids_shape[-1]))
    # Block float weights come back as bfloat16.
    out_layout = layout or weight.layout
    if layout is Layout.ROW_MAJOR:
        dtype = None
    out_dtype = dtype or DataType.BFLOAT16
    if out_layout is Layout.ROW_MAJOR and out_dtype is not DataType.BFLOAT16:
        refuse(
            _NAME, f"the emulator does not model a ROW_MAJOR result of {dtype}; give layout=ttnn.TILE_LAYOUT"
        )
    shape = Shape((*ids_shape, width))

    def shards() -> list[torch.Tensor]:
        tables = []
        for ids, table in zip(input_tensor.shards, weight.shards, strict=True):
            flat = ids.reshape(-1).long()
            if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < vocab:
                refuse(
                    _NAME, f"id {int(flat.max())} (or a negative one) is outside the vocabulary of {vocab}"
                )
            rows = torch.index_select(table.reshape(vocab, width), 0, flat).view(shape)
            tables.append(packed(rows, out_dtype))
        return tables

    config = output_config(input_tensor, memory_config)
    return make_tensor(_NAME, shards, shape, out_dtype, out_layout, config, device_of(input_tensor))
