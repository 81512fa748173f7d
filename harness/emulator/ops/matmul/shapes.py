"""Which shapes `ttnn.matmul` and `ttnn.linear` take, and the shape of what they make."""

from __future__ import annotations

import torch

from harness.emulator.errors import refuse
from harness.emulator.runtime.tensor import Tensor, require_device
from harness.emulator.spec.geometry import Shape, round_up
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout

FLOATS = (DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B, DataType.FLOAT32)


def product_shape(name: str, a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Shape:
    """[..., M, N] of `a @ b`; a vector stands for one row (a), which the shape then lacks. b has two dimensions at least.

    One batch may be all ones, of whichever operand; a batched b needs an a of its rank.
    """
    if a.layout is not Layout.TILE or b.layout is not Layout.TILE:
        refuse(name, f"inputs must be in TILE layout, got {a.layout} and {b.layout}")
    if a.dtype not in FLOATS or b.dtype not in FLOATS:
        refuse(name, f"inputs must be floating point, got {a.dtype} and {b.dtype}")
    sa, sb = tuple(a.shape) if len(a.shape) > 1 else (1, *a.shape), tuple(b.shape)
    shapes = f"{list(a.shape)} x {list(b.shape)}"
    m, k = (sa[-1], sa[-2]) if transpose_a else sa[-2:]
    kb, n = (sb[-1], sb[-2]) if transpose_b else sb[-2:]
    if k != kb:
        refuse(
            name,
            f"the width of the first tensor must equal the height of the second: {shapes} has {k} and {kb}",
        )
    if any(size != 1 for size in sb[: max(len(sb) - len(sa), 0)]):
        refuse(name, f"the dimensions that the second tensor has before the first's must be 1: {shapes}")
    batch_a, batch_b = sa[:-2], sb[:-2]
    if any(size != 1 for size in batch_b):
        if len(a.shape) != len(b.shape):
            refuse(name, f"a batched second tensor needs a first of the same rank: {shapes}")
        if batch_a != batch_b and any(size != 1 for size in batch_a):
            refuse(name, f"batch dimensions must be equal, or all 1 in one of the tensors: {shapes}")
        batch = batch_b
    else:
        batch = (1,) * (len(batch_b) - len(batch_a)) + batch_a
    return Shape((*batch, m, n) if len(a.shape) > 1 else (*batch, n))


def biased_shape(name: str, bias: Tensor, product: Shape) -> Shape:
    """The shape of the product plus the bias: they broadcast."""
    require_device(name, bias)
    if bias.dtype not in FLOATS:
        refuse(name, f"the emulator does not model a bias that is not floating point, got {bias.dtype}")
    try:
        return Shape(torch.broadcast_shapes(tuple(product), tuple(bias.shape)))
    except RuntimeError:
        refuse(name, f"bias {list(bias.shape)} does not broadcast with the product {list(product)}")


def fuses(name: str, bias: Tensor, product: Shape, b: Tensor) -> bool:
    """Whether the product's kernel adds the bias: one row of tiles as wide as the product, and no batch in b.

    Any other is added by `ttnn.add` to the packed product.
    """
    rows = bias.shape[-2] if len(bias.shape) > 1 else 1
    batch = bias.volume() // max(rows * bias.shape[-1], 1) if bias.shape else 1
    if (
        bias.layout is not Layout.TILE
        or not bias.shape
        or batch != 1
        or rows > TILE_SIZE
        or bias.shape[-1] != product[-1]
        or b.volume() != b.shape[-1] * b.shape[-2]
    ):
        return False
    if rows > 1 and rows != (product[-2] if len(product) > 1 else 1):
        refuse(
            name,
            f"bias {list(bias.shape)} would be added to the tile padding below the product's one row, {list(product)}; "
            f"give it one row, or more than {round_up(1)}",
        )
    return True
