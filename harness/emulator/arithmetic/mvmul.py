"""The matrix unit's multiply-accumulate in torch: numerics.md, "MVMUL", exactly and without its alignment losses.

One MVMUL adds 16 products to each Dest value, in two groups of 8, for one fidelity phase. This is the readable form of what
kernels/ does fast; it answers where there is no C++ compiler, and the tests hold the two equal. A Dest value is a float32;
with a 16-bit Dest it has a bfloat16's bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.emulator.arithmetic import formats
from harness.emulator.arithmetic.fidelity import Math, part_a, part_b, significands, slice_a, slice_b
from harness.emulator.spec.types import DataType

GROUP = 8  # products that are aligned to one exponent
DEPTH = 16  # products of one MVMUL
TILE = 32
_WORK = 1 << 22  # products held at a time
_ABSENT = -(1 << 14)  # exponent of a product with a zero operand
_INF = 0x7F800000


@dataclass(frozen=True)
class Blocks:
    """How K is cut, and what happens to a partial sum between two blocks."""

    width: int  # K elements of a block
    partial: DataType  # what the packer writes a partial sum in
    l1_acc: bool = False  # the packer adds partial sums up in L1, each block starts from a zero Dest
    bias: bool = False  # a bias is added later: the last block too leaves Dest as a partial sum


def matmul(
    in0: Tensor, in1: Tensor, math: Math, blocks: Blocks | None, dest: Tensor, onto: bool, exact: bool
) -> int:
    """in0 [B, M, K] @ in1 [B or 1, K, N] (Src values) into dest [B, M, N], from zero or (`onto`) from what it holds.

    Returns how often the fp32 Dest erratum hit (0 unless `exact`).
    """
    hits = 0
    exact = exact or not all(map(formats.all_finite, (in0, in1)))  # Inf and NaN are ordinary numbers there
    k, n = in1.shape[1:]
    in0 = F.pad(in0, (0, -k % TILE))
    in1 = F.pad(in1, (0, -n % TILE, 0, -k % TILE)).expand(in0.shape[0], -1, -1)
    rows = max(1, _WORK // (DEPTH * in1.shape[-1]))
    for x, w, out in zip(in0, in1, dest, strict=True):
        for part, into in zip(x.split(rows), out.split(rows), strict=True):
            start = (
                F.pad(into, (0, w.shape[1] - into.shape[1])) if onto else torch.zeros(len(part), w.shape[1])
            )
            result, count = _blocks(part, w, math, blocks, start, exact)
            into.copy_(result[:, : into.shape[1]])
            hits += count
    return hits


def _blocks(
    in0: Tensor, in1: Tensor, math: Math, blocks: Blocks | None, dest: Tensor, exact: bool
) -> tuple[Tensor, int]:
    """One product, K block by K block."""
    add = _add_exact if exact else _add_device
    if blocks is None:
        return add(dest, in0, in1, math)
    count = -(-in0.shape[1] // blocks.width)
    in_l1 = blocks.l1_acc and count > (1 if blocks.bias else 2)
    stored = torch.zeros(0)  # the partial sum in L1
    hits = 0
    for i in range(count):
        ks = slice(i * blocks.width, (i + 1) * blocks.width)
        dest, more = add(dest, in0[:, ks], in1[ks], math)
        hits += more
        last = i == count - 1
        if last and not blocks.bias:
            break
        if in_l1 and i:
            stored = formats.l1_accumulate(stored, dest, blocks.partial)
        else:
            stored = formats.pack_round(dest, blocks.partial)
        reload = last or not in_l1 or (i == count - 2 and not blocks.bias)
        dest = _reloaded(stored, blocks.partial) if reload else torch.zeros_like(dest)
    return dest, hits


def _reloaded(stored: Tensor, partial: DataType) -> Tensor:
    """Dest after a partial sum was read back; float32 goes there directly, so nothing is cut off."""
    if partial is DataType.FLOAT32:
        return stored.float()
    dest = formats.unpack(stored, partial, fp32_dest=False).float()
    return torch.where(dest.abs() < 2.0**-126, 0.0, dest)


def _add_device(dest: Tensor, in0: Tensor, in1: Tensor, math: Math) -> tuple[Tensor, int]:
    """Dest after in0 [M, K] @ in1 [K, N], groups summed in float32.

    With a 16-bit Dest the sums are rounded to 2**-10 of Dest's exponent before they meet in it, as if that were the largest.
    """
    for tile in range(0, in0.shape[1], TILE):
        for phase in range(math.phases):
            b, a = part_b(in0[:, tile : tile + TILE], phase), part_a(in1[tile : tile + TILE], phase)
            groups = b.unflatten(1, (-1, GROUP)).transpose(0, 1) @ a.unflatten(0, (-1, GROUP))  # [4, M, N]
            for first, second in (groups[:2], groups[2:]):
                if math.fp32_dest:
                    dest = dest + first + second
                    continue
                exponent = (dest.view(torch.int32) & _INF).clamp(20 << 23, 240 << 23)
                nudge = (exponent - (20 << 23)).view(torch.float32)  # halves up
                grid = (exponent + (13 << 23 | 1 << 22)).view(torch.float32)
                total = ((grid + dest) + (first + nudge) + (second + nudge)) - grid
                dest = ((total.view(torch.int32) + 0x8000) & -0x10000).view(torch.float32)
    return dest, 0


def _add_exact(dest: Tensor, in0: Tensor, in1: Tensor, math: Math) -> tuple[Tensor, int]:
    """Dest after in0 [M, K] @ in1 [K, N], K a multiple of 32, by every rule."""
    side_b, side_a = significands(in0), significands(in1)
    hits = 0
    for tile in range(0, in0.shape[1], TILE):
        for phase in range(math.phases):
            for start in (tile, tile + DEPTH):
                ks = slice(start, start + DEPTH)
                b, a = [x[:, ks] for x in side_b], [x[ks] for x in side_a]
                dest, count = _mvmul(dest, b, a, phase, math.fp32_dest)
                hits += count
    return dest, hits


def _mvmul(
    dest: Tensor, side_b: list[Tensor], side_a: list[Tensor], phase: int, fp32: bool
) -> tuple[Tensor, int]:
    """One MVMUL: dest [M, N], each of side_b [M, 16] and of side_a [16, N]; the new Dest, and hits of the erratum."""
    (eb, mb, sb), (ea, ma, sa) = side_b, side_a
    present = (eb > 0).unsqueeze(-1) & (ea > 0)  # [M, 16, N]
    offset = 127 + (5 if phase & 1 else 0) + (7 if phase & 2 else 0)
    exponents = torch.where(present, eb.unsqueeze(-1) + ea - offset, _ABSENT)
    products = slice_b(mb, phase).unsqueeze(-1) * slice_a(ma, phase)  # unit 2**-10
    negative = sb.unsqueeze(-1) ^ sa
    words = dest.view(torch.int32)
    dest_exponent = (words >> 23) & 0xFF
    common = dest_exponent
    groups = []
    for first in range(0, DEPTH, GROUP):
        group = exponents[:, first : first + GROUP]
        largest = group.amax(1)
        nonzero = largest > 0
        gap = largest.unsqueeze(1) - group
        signs = negative[:, first : first + GROUP]
        terms = _half_up(products[:, first : first + GROUP], gap)
        total = ((terms ^ signs) - signs).sum(1, dtype=torch.int32).long() << 13
        largest = torch.where(nonzero, largest, 0)
        groups.append((torch.where(nonzero, total, 0), largest))
        common = torch.maximum(common, largest)
    # Units of 2**-23 of the common exponent; with a 16-bit Dest each term is then rounded to 2**-10.
    significand = torch.where(dest_exponent > 0, (words & 0x7FFFFF) | 0x800000, 0).long()
    total = _half_up(significand, common - dest_exponent)
    total = total if fp32 else _half_up(total, 13)
    total = torch.where(words < 0, -total, total)
    for term, largest in groups:
        aligned = _half_up(term, common - largest)
        total += aligned if fp32 else _half_up(aligned, 13)
    hit = (total == -1) & fp32
    total = torch.where(hit, -(1 << 27), total)
    return _normalise(total, common, 23 if fp32 else 10, 24 if fp32 else 8), int(hit.sum())


def _normalise(total: Tensor, exponent: Tensor, unit: int, keep: int) -> Tensor:
    """`total` * 2**(exponent - 127 - unit) as float32, rounded half away from zero to `keep` significant bits."""
    magnitude = total.abs()
    length = torch.frexp(magnitude.double())[1].long()  # bits in use
    rounded = _half_up(magnitude, (length - keep).clamp(min=0)) << (length - keep).clamp(min=0)
    significand, length = torch.frexp(rounded.double())  # in [0.5, 1)
    biased = exponent + length - 1 - unit
    fraction = ((significand * 2**24).long() & 0x7FFFFF).int()
    words = torch.where(biased >= 255, _INF, (biased.int() << 23) | fraction)
    words = torch.where((rounded == 0) | (biased <= 0), 0, words | (total < 0).int() << 31)
    return words.view(torch.float32)


def _half_up(x: Tensor, shift: Tensor | int) -> Tensor:
    """x / 2**shift rounded to an integer, halves up (toward +inf for negative x)."""
    shift = shift.clamp(max=31) if isinstance(shift, Tensor) else shift
    return (((x << 1) >> shift) + 1) >> 1
