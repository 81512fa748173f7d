"""Decode attention in the steps of the device's kernel (modes device and exact).

A user's keys are cut into chunks, which the cores of a KV head share: each core runs an online softmax over its own chunks,
then pairs of cores join what they have, up a binary tree. All buffers are bfloat16. A `lane` is one core of one user here;
nothing passes between users. Keys beyond a user's position have weight zero; a mask is added to the scores, which no scale
has touched. Chunks depend on one another through the running
maximum alone, so their products are taken all at once; only sums and outputs are then added up chunk by chunk.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from harness.emulator.arithmetic import fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.ops.attention import sfpu_steps
from harness.emulator.ops.attention.prefill_steps import bf16, grouped_matmul
from harness.emulator.spec.types import TILE_SIZE


@dataclass(frozen=True)
class Setting:
    """What of the configs changes the arithmetic."""

    math: Math
    approx: bool  # math_approx_mode
    exp_approx: bool  # in corrections
    weights_approx: bool  # in weights: the approximate exponential
    scale: float
    k_chunk: int  # keys in a chunk; 0 lets each user's length decide
    cores: int  # that share a KV head's chunks
    window: int = 0  # keys that a user sees at most, its last ones; 0: all


def attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    counts: list[int],
    setting: Setting,
    mask: torch.Tensor | None = None,
    sink: torch.Tensor | None = None,
) -> torch.Tensor:
    """q [users, nkv, group, D], keys and values [users, nkv, S, D]; user b sees its first counts[b] keys -> q's shape.

    mask [users, nkv, group, S] or None; sink [nkv, group, 1] or None, a score more in each row.
    """
    out = torch.empty_like(q)
    chunks = [setting.k_chunk or _dynamic_chunk(count, setting.math.fp32_dest) for count in counts]
    for chunk in sorted(set(chunks)):
        users = [user for user, size in enumerate(chunks) if size == chunk]
        if len(users) == len(counts):
            return _same_chunk(q, keys, values, counts, chunk, setting, mask, sink)
        lengths = [counts[user] for user in users]
        theirs = None if mask is None else mask[users]
        out[users] = _same_chunk(q[users], keys[users], values[users], lengths, chunk, setting, theirs, sink)
    return out


def _same_chunk(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    counts: list[int],
    chunk: int,
    setting: Setting,
    mask: torch.Tensor | None,
    sink: torch.Tensor | None,
) -> torch.Tensor:
    plan = [
        _Lane(user, rank, *share)
        for user, count in enumerate(counts)
        for rank, share in _shares(count, chunk, setting)
    ]
    user = torch.tensor([lane.user for lane in plan])
    first = torch.tensor([lane.start for lane in plan])
    last = torch.tensor([lane.end for lane in plan])
    begins, ends = _seen(counts, chunk, keys.shape[2], setting)
    begins, ends = begins[user], ends[user]
    queries = q[user]
    state = _State.empty(queries)
    count = last - first
    for chunks in count.unique().tolist():
        these = (count == chunks).nonzero()[:, 0]
        start, who = first[these] * chunk, user[these]
        numbers = start[:, None] + torch.arange(chunks * chunk)
        hidden = (numbers < begins[these, None]) | (numbers >= ends[these, None])
        part = [_stretch(t, who, start, chunks * chunk) for t in (keys, values)]
        added = None if mask is None else _stretch(mask.transpose(2, 3), who, start, chunks * chunk)
        state.put(these, _online(queries[these], part[0], part[1], hidden, added, chunk, setting))
    _join(state, plan, setting)
    roots = torch.tensor([index for index, lane in enumerate(plan) if lane.rank == 0])
    result = state.take(roots)
    if sink is not None:
        result = _with_sink(result, sink.expand_as(result.largest), setting)
    inverse = bf16(
        sfpu_steps.reciprocal(result.sums, approx=setting.approx, fp32_dest=setting.math.fp32_dest)
    )
    return _buffer(fpu.multiply(result.out, inverse, setting.math), setting)


def _seen(counts: list[int], chunk: int, span: int, s: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """The first key that each user sees, and the one after its last.

    Where a user's length decides the chunk, the kernel adds one mask to a chunk: in the first chunk of a window that of the
    window. If that is the last chunk too, nothing hides the keys beyond the user's position.
    """
    begins, ends = [], []
    for count in counts:
        begin = max(0, count - s.window) if s.window else 0
        open_ended = (
            begin > 0 and not s.k_chunk and begin // chunk == (count - 1) // chunk and count % chunk > 0
        )
        if open_ended:
            warnings.warn(
                f"decode attention at position {count - 1}: with no k_chunk_size the kernel's one mask of a chunk hides what lies "
                f"before a window of {s.window} and not what lies beyond the position; give k_chunk_size",
                stacklevel=2,
            )
        begins.append(begin)
        ends.append(span if open_ended else count)
    return torch.tensor(begins), torch.tensor(ends)


def _with_sink(state: _State, sink: torch.Tensor, s: Setting) -> _State:
    """The core that has all: what it has is scaled to a maximum that covers the sink, whose weight is added to the sum."""
    fp32 = s.math.fp32_dest
    largest = torch.maximum(state.largest, sink)
    alpha, weight = (
        _buffer(
            sfpu_steps.correction(
                fpu.subtract(score, largest, fp32_dest=fp32), s.scale, approx=s.exp_approx, fp32_dest=fp32
            ),
            s,
        )
        for score in (state.largest, sink)
    )
    sums = _buffer(fpu.multiply(state.sums, alpha, s.math), s)
    out = _buffer(fpu.multiply(state.out, alpha, s.math), s)
    return _State(largest, _buffer(fpu.add(sums, weight, fp32_dest=fp32), s), out)


@dataclass(frozen=True)
class _Lane:
    user: int
    rank: int  # of the core among those of its KV head
    start: int  # chunks from `start` to `end`
    end: int


@dataclass(frozen=True)
class _State:
    """Per lane the row maximum and sum [lanes, nkv, group, 1] and the unscaled output [lanes, nkv, group, D], bfloat16."""

    largest: torch.Tensor
    sums: torch.Tensor
    out: torch.Tensor

    @staticmethod
    def empty(like: torch.Tensor) -> _State:
        column = (*like.shape[:-1], 1)
        return _State(*(torch.zeros(shape, dtype=torch.bfloat16) for shape in (column, column, like.shape)))

    def take(self, which: torch.Tensor) -> _State:
        return _State(self.largest[which], self.sums[which], self.out[which])

    def put(self, which: torch.Tensor, part: _State) -> None:
        self.largest[which], self.sums[which], self.out[which] = part.largest, part.sums, part.out


def _online(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    hidden: torch.Tensor,
    added: torch.Tensor | None,
    chunk: int,
    s: Setting,
) -> _State:
    """Lanes of equally many chunks: q [lanes, nkv, group, D], keys and values [lanes, nkv, keys, D], hidden [lanes, keys].

    added [lanes, nkv, keys, group]: a mask, or None.
    """
    fp32 = s.math.fp32_dest
    lanes_, kv_heads, group, width = q.shape
    heads, chunks = lanes_ * kv_heads, keys.shape[2] // chunk
    by_chunk = (heads * chunks, 1, group, -1)
    each = q.view(heads, 1, group, width).expand(-1, chunks, -1, -1).reshape(by_chunk)
    scores = _buffer(grouped_matmul(each, keys.reshape(-1, chunk, width).transpose(1, 2), s.math), s)
    scores = scores.view(lanes_, kv_heads, chunks, group, chunk)
    if added is not None:
        mask = added.reshape(lanes_, kv_heads, chunks, chunk, group).transpose(3, 4)
        scores = _buffer(fpu.add(scores, mask, fp32_dest=fp32), s)
    scores.masked_fill_(hidden.view(lanes_, 1, chunks, 1, chunk), -torch.inf)
    largest = scores.amax(-1, keepdim=True).cummax(2).values
    below = fpu.subtract(scores, largest, fp32_dest=fp32)
    weights = _buffer(_weights(below, s), s).relu_()
    sums = _buffer(fpu.row_sum(weights, s.math), s)
    out = _buffer(grouped_matmul(weights.view(by_chunk), values.reshape(-1, chunk, width), s.math), s)
    # The sum is scaled and added to as if it were one more column of the output.
    parts = torch.cat([out.view(*sums.shape[:-1], width), sums], -1).unbind(2)
    fall = fpu.subtract(largest[:, :, :-1], largest[:, :, 1:], fp32_dest=fp32)
    alpha = _buffer(sfpu_steps.correction(fall, s.scale, approx=s.exp_approx, fp32_dest=fp32), s)
    total = parts[0]
    for part, factor in zip(parts[1:], alpha.unbind(2), strict=True):
        scaled = fpu.multiply(total, factor, s.math, dtype=torch.bfloat16)
        total = fpu.add(scaled, part, fp32_dest=fp32, dtype=torch.bfloat16)
    return _State(largest[:, :, -1], total[..., width:], total[..., :width])


def _buffer(dest: torch.Tensor, s: Setting) -> torch.Tensor:
    """Dest values in a bfloat16 buffer; those of a bfloat16 Dest need no rounding."""
    return bf16(dest) if s.math.fp32_dest else dest.bfloat16()


def _weights(below: torch.Tensor, s: Setting) -> torch.Tensor:
    fp32 = s.math.fp32_dest
    if s.weights_approx:
        return sfpu.exp(below if fp32 else below.bfloat16(), fp32_dest=fp32, approx=True, scale=s.scale)
    scaled = lanes.store(lanes.mul(below, s.scale), fp32_dest=fp32)
    return sfpu.exp(scaled if fp32 else scaled.bfloat16(), fp32_dest=fp32)


def _join(state: _State, plan: list[_Lane], s: Setting) -> None:
    """Round by round a core takes in what another of the same KV head has."""
    index = {(lane.user, lane.rank): at for at, lane in enumerate(plan)}
    for pairs in tree(s.cores):
        into = [
            (index[lane.user, parent], index[lane.user, child])
            for lane in plan
            for parent, child in pairs
            if lane.rank == parent and (lane.user, child) in index
        ]
        if into:
            parents, children = (torch.tensor(side) for side in zip(*into, strict=True))
            state.put(parents, _joined(state.take(parents), state.take(children), s))


def _joined(mine: _State, theirs: _State, s: Setting) -> _State:
    """Two partial softmaxes in one: both scaled to the larger maximum on the SFPU, whose stores cut."""
    fp32 = s.math.fp32_dest
    largest = torch.maximum(mine.largest, theirs.largest)
    factors, sums = [], []
    for part in (mine, theirs):
        fall = lanes.add(part.largest.float(), -largest.float())
        factor = sfpu_steps.register_correction(fall, s.scale, fp32_dest=fp32)
        factors.append(bf16(factor))
        sums.append(lanes.store(lanes.mul(factor, part.sums.float()), fp32_dest=fp32))
    total = bf16(lanes.store(lanes.add(sums[1], sums[0]), fp32_dest=fp32))
    mine_out, their_out = (
        bf16(fpu.multiply(part.out, factor, s.math))
        for part, factor in zip((mine, theirs), factors, strict=True)
    )
    return _State(largest, total, bf16(fpu.add(mine_out, their_out, fp32_dest=fp32)))


def tree(cores: int) -> list[list[tuple[int, int]]]:
    """Per round (parent, child) ranks. Counted from the last rank, a core receives while its low bits are ones, then sends to
    the next such core, or to rank 0 where there is none."""
    rounds: list[list[tuple[int, int]]] = [[] for _ in range((cores - 1).bit_length())]
    for rank in range(1, cores):
        place = cores - 1 - rank
        sends = (~place & (place + 1)).bit_length() - 1  # trailing ones
        parent = place + (1 << sends)
        rounds[sends].append((cores - 1 - parent if parent < cores else 0, rank))
    return rounds


def _shares(count: int, chunk: int, s: Setting) -> list[tuple[int, tuple[int, int]]]:
    """(rank, (first, end) chunk) of the cores with work: rank 0 has the last chunks; the first ones go to the last ranks."""
    skipped = max(0, count - s.window) // chunk if s.window else 0
    chunks = -(-count // chunk) - skipped
    if s.cores > chunks:
        return [(rank, (skipped + chunks - rank - 1, skipped + chunks - rank)) for rank in range(chunks)]
    each, rest = divmod(chunks, s.cores)
    shares = []
    for rank in range(s.cores):
        back = s.cores - rank - 1
        first = skipped + back * each + min(rest, back)
        shares.append((rank, (first, first + each + (back < rest))))
    return shares


def _dynamic_chunk(count: int, fp32_dest: bool) -> int:
    """A power of 2 of tiles that holds the keys, as many as the Dest has tiles at most."""
    tiles = -(-count // TILE_SIZE)
    return min((1 << (tiles - 1).bit_length()) * TILE_SIZE, largest_dynamic_chunk(fp32_dest))


def largest_dynamic_chunk(fp32_dest: bool) -> int:
    """As many keys as the Dest has tiles for."""
    return (4 if fp32_dest else 8) * TILE_SIZE


def _stretch(x: torch.Tensor, users: torch.Tensor, start: torch.Tensor, width: int) -> torch.Tensor:
    """[all users, nkv, S, D] -> [lanes, nkv, width, D]: each lane's keys from its own start; beyond S anything."""
    first = int(start[0])
    if bool((start == first).all()) and first + width <= x.shape[2]:
        part = x[:, :, first : first + width]
        return part if len(users) == len(x) else part[users]
    rows = (start[:, None] + torch.arange(width)).clamp_(max=x.shape[2] - 1)
    return x[users[:, None], :, rows].transpose(1, 2)
