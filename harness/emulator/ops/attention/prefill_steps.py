"""Prefill attention in the steps of the device's kernels (modes device and exact).

Online softmax over chunks of keys. With a bfloat16 Dest the device runs its streaming kernel, with a float32 Dest its older
one. Scores stay unscaled: the scale acts inside the exponentials. A step here takes one chunk of keys and every chunk of
queries that sees it at once, as rows never meet; keys that a row does not see have weight zero, which the matrix unit skips.

With a float32 Dest, mode device makes each product of a long prompt as one float32 sum (numerics.md, "One place, for speed").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch

from harness.emulator import kernels
from harness.emulator.arithmetic import accumulate, formats, fpu, mode, products
from harness.emulator.arithmetic.fidelity import Math, matmul_operands, source
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.ops.attention import prefill_compiled, sfpu_steps, windows
from harness.emulator.ops.attention.places import Scores, Setting
from harness.emulator.ops.attention.prefill_compiled import State
from harness.emulator.spec.types import TILE_SIZE, DataType

# Subblocks of a matmul in tiles, (height, width): ttnn takes the first that divides the block and fits the Dest.
_SUBBLOCKS = (
    (2, 4), (4, 2), (1, 8), (8, 1), (1, 7), (7, 1), (2, 3), (3, 2), (1, 6), (6, 1),
    (1, 5), (5, 1), (2, 2), (1, 4), (4, 1), (1, 3), (3, 1), (1, 2), (2, 1), (1, 1),
)  # fmt: skip
_DEST_TILES = 8  # of a bfloat16 Dest, whose other half the packer empties
# Scores of one step, unless one group of heads has more: a step's temporaries then stay in the cache, and few are held.
_STEP = 1 << 18


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    setting: Setting,
    sink: torch.Tensor | None = None,
) -> torch.Tensor:
    """q [B, nq, Sq, D], k and v [B, nkv, Sk, D], mask [1 or B, 1 or nq, Sq, Sk] or None -> Dest values [B, nq, Sq, D].

    sink [nq] or None: a score more in every row of a head, which no scale has touched, for a key whose value is zero.
    """
    batch, heads, rows, width = q.shape
    kv_heads, span = k.shape[1:3]
    queries = q.reshape(batch * kv_heads, heads // kv_heads, rows, width)
    keys = k.reshape(-1, span, width).transpose(1, 2)
    values = v.reshape(-1, span, width)
    if mask is not None:
        mask = mask.expand(batch, heads, rows, span).reshape(*queries.shape[:3], span)
    if sink is not None:
        sink = (
            sink.view(1, kv_heads, -1, 1, 1).expand(batch, -1, -1, -1, -1).reshape(-1, queries.shape[1], 1, 1)
        )
    out = torch.empty(queries.shape)
    groups = max(1, _STEP // (queries.shape[1] * rows * min(span, setting.k_chunk)))
    for first in range(0, len(queries), groups):
        now = slice(first, first + groups)
        hiding, sinks = (None if x is None else x[now] for x in (mask, sink))
        out[now] = _attend(queries[now], keys[now], values[now], hiding, causal, setting, sinks)
    return out.view(q.shape)


def _attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    setting: Setting,
    sink: torch.Tensor | None,
) -> torch.Tensor:
    """Query heads that share a key-value head as one group: [groups, heads, Sq, D] with keys [groups, D, Sk]."""
    rows = queries.shape[2]
    span = keys.shape[-1]
    loose = rows > accumulate.EXACT_ROWS and mode.current() is mode.Mode.DEVICE
    kernel = _Standard(setting, loose) if setting.math.fp32_dest else _Streaming(setting)
    # A window moves from one chunk of queries to the next, and the first chunk of keys with it.
    height = setting.q_chunk if setting.window else rows
    outputs = []
    for top in range(0, rows, height):
        own = queries[:, :, top : top + height]
        state = kernel.empty(own)
        if setting.window:
            places = windows.places(setting, top, own.shape[2], span, causal)
        else:
            places = _places(setting, rows, span, causal, mask)
        for place in places:
            chunk = slice(place.start, place.start + setting.k_chunk)
            scores = kernel.multiply(own[:, :, place.first :], keys[..., chunk])
            weights, alpha = kernel.weigh(scores, place, state)
            kernel.add(kernel.product(weights, values[:, chunk], place), alpha, place, state)
        outputs.append(kernel.finish(state, None if sink is None else sink.expand_as(state.largest)))
    return torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]


def _places(
    setting: Setting, rows: int, span: int, causal: bool, mask: torch.Tensor | None
) -> Iterator[Scores]:
    for start in range(0, span, setting.k_chunk):
        diagonal = start // setting.q_chunk * setting.q_chunk - setting.position
        first = max(0, diagonal) if causal else 0
        if first >= rows:
            break
        chunk = slice(start, start + setting.k_chunk)
        part = None if mask is None else mask[..., chunk]
        yield Scores(first, start, span, causal, part, setting.position)


class _Kernel(ABC):
    """What both kernels share; `wide` is the storage of their buffers of scores and sums."""

    wide = torch.bfloat16

    def __init__(self, setting: Setting) -> None:
        self.setting, self.math = setting, setting.math
        own = None if setting.math.fp32_dest else setting.matmul_fidelity
        self.products = Math(own or setting.math.fidelity, setting.math.fp32_dest)

    def empty(self, queries: torch.Tensor) -> State:
        shape = queries.shape[:3]
        sums = torch.zeros(*shape, TILE_SIZE, dtype=self.wide)
        largest, out = (torch.zeros(*shape, n, dtype=torch.bfloat16) for n in (1, queries.shape[3]))
        return State(largest, sums, out)

    def weigh(self, scores: torch.Tensor, place: Scores, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Dest values of scores -> weights as a source register has them, and what the outputs of earlier chunks are multiplied
        by; raises `state`'s maxima, adds to its sums."""
        if place.mask is not None:
            scores = self.masked(scores.to(self.wide), place.mask)
        library = kernels.load()
        if library is None:
            return self._weigh_in_torch(scores.to(self.wide), place, state)
        return prefill_compiled.weigh(
            library,
            scores.float(),
            state,
            self.math,
            scale=self.setting.scale,
            exp_approx=self.setting.exp_approx,
            first=place.first,
            keys_end=place.position + place.first - place.start + 1 if place.causal else scores.shape[-1],
            onto=place.onto,
        )

    def _weigh_in_torch(
        self, scores: torch.Tensor, place: Scores, state: State
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if place.causal:
            # Rows from the end of the chunk on see all of it.
            first = place.position + place.first
            rows = max(0, place.start + scores.shape[-1] - first)
            hidden = torch.ones(rows, scores.shape[-1], dtype=torch.bool).triu_(first - place.start + 1)
            scores[:, :, :rows].masked_fill_(hidden[: scores.shape[2]], -torch.inf)
        now = slice(place.first, None)
        before = state.largest[:, :, now] if place.onto else None
        largest = self.largest(scores, before)
        weights = self.weights(scores, largest)
        total = self.tile_sums(weights)
        alpha = torch.empty_like(largest)
        if before is not None:
            alpha = self.correction(before, largest)
            total = self.corrected(total, state.sums[:, :, now], alpha)
        state.largest[:, :, now], state.sums[:, :, now] = largest, total
        return source(weights, self.math.fp32_dest), alpha

    def add(self, part: torch.Tensor, alpha: torch.Tensor, place: Scores, state: State) -> None:
        """A chunk's part of the outputs, onto those of earlier chunks times `alpha`."""
        onto = place.onto
        library = kernels.load()
        if library is not None:
            prefill_compiled.add_outputs(
                library, part, alpha, state.out, self.math, first=place.first, onto=onto
            )
            return
        out = state.out[:, :, place.first :]
        part = bf16(part) if self.math.fp32_dest else part
        out[:] = l1_add(part, fpu.multiply(out, alpha, self.math)) if onto else part

    def multiply(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """`grouped_matmul` of operands as they are in L1."""
        return grouped_matmul(left, right, self.products)

    @abstractmethod
    def masked(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Scores and a mask of the same keys, added."""

    @abstractmethod
    def largest(self, scores: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        """Each row's maximum, of the chunks before too, in bfloat16."""

    @abstractmethod
    def weights(self, scores: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """Exponentials of the scores less their row's maximum."""

    @abstractmethod
    def product(self, weights: torch.Tensor, values: torch.Tensor, place: Scores) -> torch.Tensor:
        """Weights times values: Dest values with a float32 Dest, else bfloat16."""

    @abstractmethod
    def corrected(self, total: torch.Tensor, before: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        """A chunk's sums, onto those of earlier chunks times `alpha`."""

    @abstractmethod
    def finish(self, state: State, sink: torch.Tensor | None) -> torch.Tensor:
        """The outputs divided by the sums, to which each row's sink, of the maxima's shape, is added: Dest values."""

    def correction(self, before: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        s, fp32 = self.setting, self.math.fp32_dest
        below = fpu.subtract(before, largest, fp32_dest=fp32)
        alpha = sfpu_steps.correction(below, s.scale, approx=s.exp_approx, fp32_dest=fp32)
        return bf16(alpha) if fp32 else alpha.bfloat16()

    def tile_sums(self, weights: torch.Tensor) -> torch.Tensor:
        """The packer adds a chunk's tiles of weights on top of one another: [..., keys] -> [..., 32]."""
        short = -weights.shape[-1] % TILE_SIZE
        padded = torch.nn.functional.pad(weights, (0, short)) if short else weights
        total: torch.Tensor = padded[..., :TILE_SIZE]
        for column in range(TILE_SIZE, padded.shape[-1], TILE_SIZE):
            total = total + padded[..., column : column + TILE_SIZE]
        return total


class _Streaming(_Kernel):
    """The kernel of a bfloat16 Dest: all buffers are bfloat16, the exponential of scores is always the approximate one."""

    def masked(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return l1_add(scores, mask)

    def largest(self, scores: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        largest = scores.amax(-1, keepdim=True)
        return largest if before is None else torch.maximum(largest, before)

    def weights(self, scores: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        below = fpu.subtract(scores, largest, dtype=torch.bfloat16)
        return sfpu.exp(below, fp32_dest=False, approx=True, scale=self.setting.scale).bfloat16().relu_()

    def product(self, weights: torch.Tensor, values: torch.Tensor, place: Scores) -> torch.Tensor:
        """Weights times values; in a query chunk's first rows the sum over keys goes through L1, block by block."""
        out = grouped_matmul(weights, values, self.products).bfloat16()
        for rows, block in self._split_rows(weights.shape[2], place, values.shape[-1]):
            for column in range(0, weights.shape[-1], block):
                keys = slice(column, column + block)
                part = grouped_matmul(weights[:, :, rows, keys], values[:, keys], self.products).bfloat16()
                out[:, :, rows] = out[:, :, rows] + part if column else part
        return out

    def corrected(self, total: torch.Tensor, before: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return l1_add(total, fpu.multiply(before, alpha, self.math))

    def finish(self, state: State, sink: torch.Tensor | None) -> torch.Tensor:
        s, total = self.setting, fpu.row_sum(state.sums, self.math)
        if sink is not None:
            # The maximum stays what it was: the sink's weight may exceed 1. It is added on the SFPU, whose store cuts.
            above = fpu.subtract(state.largest, sink, fp32_dest=False)
            weight = sfpu_steps.correction(above, -s.scale, approx=s.exp_approx, fp32_dest=False)
            total = lanes.store(lanes.add(total.float(), weight.float()), fp32_dest=False)
        if s.approx:
            inverse = sfpu_steps.reciprocal(total, approx=True, fp32_dest=False)
        else:
            inverse = sfpu.reciprocal(total, fp32_dest=False)
        return fpu.multiply(state.out, bf16(inverse), self.math)

    def _split_rows(self, rows: int, place: Scores, width: int) -> list[tuple[torch.Tensor, int]]:
        """Rows whose sum over keys is split, with the size of the blocks, one entry a size."""
        tall, wide = self.setting.q_chunk // TILE_SIZE, self.setting.k_chunk // TILE_SIZE
        block = _subblock(tall, wide)[1]
        height, across = _subblock(tall, -(-width // TILE_SIZE), tallest=2)
        if height == 1 and 2 * across <= _DEST_TILES and tall >= 2:
            height = 2
        by_block: dict[int, list[torch.Tensor]] = {}
        start = place.start // TILE_SIZE
        for chunk in range(
            place.first // self.setting.q_chunk, -(-(place.first + rows) // self.setting.q_chunk)
        ):
            end = place.position // TILE_SIZE + (chunk + 1) * tall
            if place.end is not None:
                end = place.end
            elif not place.causal:
                end = -(-place.span // TILE_SIZE) if place.mask is None else start + wide
            active = min(wide, end - start)
            size = max(n for n in range(1, min(active, block) + 1) if active % n == 0)
            if active > size:
                row = chunk * self.setting.q_chunk - place.first
                last = min(row + height * TILE_SIZE, rows)
                by_block.setdefault(size * TILE_SIZE, []).append(torch.arange(row, last))
        return [(torch.cat(numbers), size) for size, numbers in by_block.items()]


class _Standard(_Kernel):
    """The kernel of a float32 Dest: scores, weights and sums are float32 buffers, maxima and outputs bfloat16."""

    wide = torch.float32

    def __init__(self, setting: Setting, loose: bool = False) -> None:
        super().__init__(setting)
        self.loose = loose

    def multiply(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if self.loose:
            return _one_sum(left, right, self.products)
        return super().multiply(left, right)

    def masked(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return fpu.add(scores, mask, fp32_dest=True)

    def largest(self, scores: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        # On its way through the transposing unpacker the maximum is cut to bfloat16, so a weight may exceed 1.
        largest = cut_bf16(scores.amax(-1, keepdim=True))
        return largest if before is None else torch.maximum(largest, before)

    def weights(self, scores: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        below = fpu.subtract(scores, largest, fp32_dest=True)
        if self.setting.exp_approx:
            return sfpu.exp(below, fp32_dest=True, approx=True, scale=self.setting.scale).relu_()
        return sfpu.exp_of_product(below, self.setting.scale).relu_()

    def product(self, weights: torch.Tensor, values: torch.Tensor, place: Scores) -> torch.Tensor:
        if self.loose:
            return _one_sum(weights, values, self.products)
        return grouped_matmul(weights, values, self.products, prepared=True)

    def corrected(self, total: torch.Tensor, before: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return fpu.add(total, fpu.multiply(before, alpha, self.math), fp32_dest=True)

    def finish(self, state: State, sink: torch.Tensor | None) -> torch.Tensor:
        total, out = fpu.row_sum(state.sums, self.math), state.out
        if sink is not None:
            # One chunk of keys more, of a single key without a value.
            largest = torch.maximum(state.largest, sink)
            alpha = self.correction(state.largest, largest)
            total = self.corrected(self.weights(sink, largest), total, alpha)
            out = bf16(fpu.multiply(out, alpha, self.math))
        inverse = sfpu_steps.reciprocal(cut_tf32(total), approx=self.setting.approx, fp32_dest=True)
        return fpu.multiply(out, inverse, self.math)


def grouped_matmul(
    left: torch.Tensor, right: torch.Tensor, math: Math, *, prepared: bool = False
) -> torch.Tensor:
    """[groups, heads, n, K] @ [groups, K, m] -> Dest values [groups, heads, n, m]; the heads of a group share the right.

    `prepared`: the left is as a source register has it.
    """
    groups, heads, rows, inner = left.shape
    flat = left.reshape(groups, heads * rows, inner)
    result = accumulate.matmul(accumulate.Prepared(flat) if prepared else flat, right, math)
    return result.view(groups, heads, rows, -1)


def _one_sum(left: torch.Tensor, right: torch.Tensor, math: Math) -> torch.Tensor:
    """`grouped_matmul` with a float32 Dest, what the multiplier sees of the operands summed in float32."""
    left, right = matmul_operands(left, right, math.fidelity, fp32_dest=True)
    numbers = products.Numbers.TF32 if torch.float32 in (left.dtype, right.dtype) else products.Numbers.WIDE
    rows = products.form(left, numbers).flatten(1, 2)
    result = torch.stack([products.multiply(x, y, numbers) for x, y in zip(rows, right, strict=True)])
    return result.view(*left.shape[:3], -1)


def bf16(dest: torch.Tensor) -> torch.Tensor:
    """Dest values as a bfloat16 buffer has them."""
    return formats.pack_round(dest, DataType.BFLOAT16)


def l1_add(buffer: torch.Tensor, dest: torch.Tensor) -> torch.Tensor:
    """What the packer leaves when it adds a Dest onto a bfloat16 buffer: packed first, the sum rounded half to even."""
    return buffer + bf16(dest)


def cut_tf32(x: torch.Tensor) -> torch.Tensor:
    """Float32 as it reaches a source register."""
    return (x.view(torch.int32) & -0x2000).view(torch.float32)


def cut_bf16(x: torch.Tensor) -> torch.Tensor:
    """Float32 cut to bfloat16."""
    return (x.view(torch.int32) >> 16).to(torch.int16).view(torch.bfloat16)


def _subblock(tall: int, wide: int, tallest: int = _DEST_TILES) -> tuple[int, int]:
    fits = ((h, w) for h, w in _SUBBLOCKS if h <= tallest and tall % h == 0 and wide % w == 0)
    return next(fits)
