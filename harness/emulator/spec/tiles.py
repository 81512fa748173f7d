"""Tiles: what one takes in memory, and what shapes are padded to."""

from __future__ import annotations

from harness.emulator.spec.geometry import Shape, round_up
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout

# Tile bytes: 1,024 elements, and 64 exponent bytes for the block formats (numerics.md, "Formats / tile").
TILE_BYTES = {
    DataType.BFLOAT16: 2048,
    DataType.FLOAT32: 4096,
    DataType.UINT32: 4096,
    DataType.INT32: 4096,
    DataType.UINT16: 2048,
    DataType.UINT8: 1024,
    DataType.BFLOAT8_B: 1088,
    DataType.BFLOAT4_B: 576,
}
BLOCK_FLOATS = (DataType.BFLOAT8_B, DataType.BFLOAT4_B)


def padded_shape(shape: Shape, layout: Layout) -> Shape:
    """The shape in memory: TILE pads the last two dims to tiles, a vector to one row of them."""
    if not shape:
        return Shape((1,)) if layout is Layout.ROW_MAJOR else Shape((TILE_SIZE, TILE_SIZE))
    if layout is Layout.ROW_MAJOR:
        return shape
    if len(shape) == 1:
        return Shape((TILE_SIZE, round_up(shape[0])))
    return Shape((*shape[:-2], round_up(shape[-2]), round_up(shape[-1])))
