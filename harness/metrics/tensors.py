"""PCC and the figures that must stand beside it, because PCC alone is blind to scale, offset and single rows.

A *row* is a vector along the last dimension: in an LLM, one token. Everything is computed in float64, block by block,
so a tensor is never copied whole. Moments are taken per row and pooled afterwards (Chan, Golub and LeVeque 1983); where
a row's mean is large beside its spread, about the row's first element, which keeps full precision and makes the test for a
constant exact. Errors in ulp are float32 quotients, summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# In float64, blocks of 2 MiB: large beside the cost of a call, small beside a shared cache
BLOCK_ELEMENTS = 2**18
_SUMS = 5  # a row: see _add_block
LOST = 64.0  # how often larger a sum of squares may be than that of the deviations it is turned into
BF16_MANTISSA_BITS = 7  # stored bits; one ulp is 2^(exponent - 7)
FLOAT32_EXPONENT_MASK = 0x7F800000
SMALLEST_NORMAL = 2.0**-126  # of float32 and of bfloat16

State = Literal["ok", "nonfinite", "constant", "empty"]


class ShapeMismatch(ValueError):
    """The two tensors do not have the same shape; nothing was compared."""

    def __init__(self, actual: tuple[int, ...], golden: tuple[int, ...]) -> None:
        super().__init__(f"shape mismatch: actual {list(actual)}, golden {list(golden)}")
        self.actual = actual
        self.golden = golden


@dataclass(frozen=True)
class TensorComparison:
    """How an actual tensor differs from its golden. NaN in a figure means it is undefined, never that it is good."""

    pcc: float  # Pearson correlation over all elements; nan unless state is "ok"
    cosine: float  # of the angle between the two as vectors: PCC without taking the means off; nan for a zero vector
    rel_l2: float  # |actual - golden| / |golden|; 0/0 is 0, x/0 is inf
    norm_ratio: float  # |actual| / |golden|; 0/0 is 1, x/0 is inf
    max_abs: float
    max_ulp: float  # largest |actual - golden| in bfloat16 ulps taken at the golden element's magnitude
    mean_ulp: float  # both over elements whose golden is not zero: zero has no magnitude to take an ulp at
    nonfinite_actual: int
    nonfinite_golden: int
    worst_row_pcc: float  # nan: that row is not finite, or is constant where the golden's varies
    # Index over all dimensions but the last; None: no row was judged
    worst_row_pcc_index: tuple[int, ...] | None
    worst_row_rel_l2: float
    worst_row_rel_l2_index: tuple[int, ...] | None
    # Of each leading dimension longer than 1, the index whose slice has the largest relative L2, and that: such as the worst
    # user, head and position of [users, heads, positions, head_dim].
    worst_slices: dict[int, tuple[int, float]]
    rows: int
    # Rows whose golden is constant: PCC is undefined there, relative L2 still judges them
    rows_without_pcc: int
    actual_constant: bool
    golden_constant: bool
    n: int  # elements

    @property
    def state(self) -> State:
        """ "ok"; "empty" (no elements); "nonfinite" (NaN or Inf on either side); "constant" (either side)."""
        if self.n == 0:
            return "empty"
        if self.nonfinite_actual or self.nonfinite_golden:
            return "nonfinite"
        if self.actual_constant or self.golden_constant:
            return "constant"
        return "ok"

    @property
    def norm_error(self) -> float:
        """|norm_ratio - 1|: the error of scale, which PCC does not see."""
        return abs(self.norm_ratio - 1.0)

    @property
    def nonfinite(self) -> int:
        """NaN and Inf elements on both sides together."""
        return self.nonfinite_actual + self.nonfinite_golden


def pcc(actual: Tensor, golden: Tensor) -> float:
    """Pearson correlation of all elements, in [-1, 1], exact to float64.

    nan when either tensor holds a NaN or Inf, is constant, or is empty: never 1.0 by default.
    Raises ShapeMismatch when the shapes differ.
    """
    return compare_tensors(actual, golden).pcc


def compare_tensors(actual: Tensor, golden: Tensor) -> TensorComparison:
    """Compares two tensors of one shape (any real dtypes). Raises ShapeMismatch when the shapes differ."""
    return compare_chunks([(actual, golden)])


def compare_chunks(chunks: Iterable[tuple[Tensor, Tensor]]) -> TensorComparison:
    """The same of two tensors that come in (actual, golden) chunks along the first dimension, one in memory at a time.

    What is pooled are sums, so the result is that of the whole tensors. Raises ShapeMismatch when a pair's shapes differ,
    ValueError when two chunks cannot be of one tensor or there is none.
    """
    rows: _Rows | None = None
    shape: tuple[int, ...] = ()
    for actual, golden in chunks:
        if actual.shape != golden.shape:
            raise ShapeMismatch(tuple(actual.shape), tuple(golden.shape))
        new = tuple(golden.shape) or (1,)
        figures = _row_figures(actual.detach().reshape(new), golden.detach().reshape(new))
        if rows is None:
            rows, shape = figures, new
        elif len(new) == 1 or new[1:] != shape[1:]:
            raise ValueError(f"chunks of one tensor differ in shape: {list(shape)}, then {list(new)}")
        else:
            rows, shape = rows.followed_by(figures), (shape[0] + new[0], *new[1:])
    if rows is None:
        raise ValueError("no chunk to compare")
    return _summarise(rows, shape)


@dataclass
class _Rows:
    """Per-row sums, all float64 [rows], and the whole tensor's extremes."""

    width: int
    mean_a: Tensor
    mean_g: Tensor
    var_a: Tensor  # sums of squared deviations from the row's mean, not divided
    var_g: Tensor
    cov: Tensor
    diff: Tensor  # sum of (actual - golden)^2
    max_abs: float = 0.0
    max_ulp: float = 0.0
    sum_ulp: float = 0.0
    nonzero: int = 0  # golden elements that are not zero
    nonfinite_a: int = 0
    nonfinite_g: int = 0

    def followed_by(self, other: _Rows) -> _Rows:
        """The rows of both, these first."""
        return _Rows(
            self.width,
            mean_a=torch.cat([self.mean_a, other.mean_a]),
            mean_g=torch.cat([self.mean_g, other.mean_g]),
            var_a=torch.cat([self.var_a, other.var_a]),
            var_g=torch.cat([self.var_g, other.var_g]),
            cov=torch.cat([self.cov, other.cov]),
            diff=torch.cat([self.diff, other.diff]),
            max_abs=_nan_max(self.max_abs, other.max_abs),
            max_ulp=_nan_max(self.max_ulp, other.max_ulp),
            sum_ulp=self.sum_ulp + other.sum_ulp,
            nonzero=self.nonzero + other.nonzero,
            nonfinite_a=self.nonfinite_a + other.nonfinite_a,
            nonfinite_g=self.nonfinite_g + other.nonfinite_g,
        )


def _row_figures(actual: Tensor, golden: Tensor) -> _Rows:
    width = golden.shape[-1]
    count = golden.numel() // width if width else 0
    out = _Rows(width, *torch.zeros(6, count, dtype=torch.float64))
    if golden.numel() == 0:
        return out
    flat_a, flat_g = actual.reshape(count, width), golden.reshape(count, width)
    scratch = _Scratch(min(golden.numel(), max(BLOCK_ELEMENTS, 1)))
    sums = torch.zeros(_SUMS, count, dtype=torch.float64)
    for rows, columns in _blocks(count, width):
        _add_block(out, sums[:, rows], flat_a[rows, columns], flat_g[rows, columns], scratch)
    near = _take_moments(out, sums)
    finite = out.diff.isfinite()
    if not bool((near & finite).all()):
        for rows, columns in _blocks(count, width):
            a_block, g_block = flat_a[rows, columns], flat_g[rows, columns]
            if not bool(finite[rows].all()):
                out.nonfinite_a += int((~torch.isfinite(a_block)).sum())
                out.nonfinite_g += int((~torch.isfinite(g_block)).sum())
            if not bool(near[rows].all()):
                _take_centred(out, rows, columns.start, a_block, g_block)
    return out


class _Scratch:
    """Memory that all blocks use in turn: new memory for each would cost more than the arithmetic."""

    def __init__(self, elements: int) -> None:
        self._golden, self._diff = torch.empty(2, elements, dtype=torch.float64)
        self._error = torch.empty(elements)
        self._bits = torch.empty(elements, dtype=torch.int32)

    def shaped(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Golden and difference in float64, error in float32, exponent bits in int32."""
        n = like.numel()
        golden, diff, error, bits = (
            t[:n].view(like.shape) for t in (self._golden, self._diff, self._error, self._bits)
        )
        return golden, diff, error, bits


def _blocks(count: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of whole rows; a row longer than a block comes in pieces, left to right."""
    height = max(1, BLOCK_ELEMENTS // width)
    for top in range(0, count, height):
        for left in range(0, width, BLOCK_ELEMENTS):
            yield slice(top, min(top + height, count)), slice(left, min(left + BLOCK_ELEMENTS, width))


def _add_block(out: _Rows, sums: Tensor, a_block: Tensor, g_block: Tensor, scratch: _Scratch) -> None:
    """Adds a block to the extremes, and to `sums` [_SUMS, its rows]: of golden and difference, of their squares and product."""
    g, diff, error, bits = scratch.shaped(g_block)
    g.copy_(g_block)
    diff.copy_(a_block).sub_(g)
    sum_g, sum_diff, square_g, square_diff, product = sums.unbind()
    sum_g += g.sum(-1)
    sum_diff += diff.sum(-1)
    square_g += torch.linalg.vector_norm(g, dim=-1).square_()
    square_diff += torch.linalg.vector_norm(diff, dim=-1).square_()
    product += torch.linalg.vecdot(g, diff)
    lowest, highest = diff.aminmax()
    out.max_abs = _nan_max(out.max_abs, max(-float(lowest), float(highest)))
    _add_ulps(out, error.copy_(diff), g_block, bits)


def _take_moments(out: _Rows, sums: Tensor) -> Tensor:
    """Means, sums of squared deviations and of products of each row, from its sums. Returns where they may be taken, [rows].

    Where a row's mean lies far from 0, or one side far below the other, these sums cost more than the last two digits: there
    the deviations themselves must be summed.
    """
    width = out.width
    sum_g, sum_diff, square_g, square_diff, product = sums
    sum_a = sum_g + sum_diff
    square_a = square_g + 2 * product + square_diff
    out.diff = square_diff
    out.mean_a, out.mean_g = sum_a / width, sum_g / width
    out.var_a, out.var_g = square_a - sum_a * sum_a / width, square_g - sum_g * sum_g / width
    out.cov = square_g + product - sum_a * sum_g / width
    largest = torch.maximum(square_a, square_g)
    return (out.var_a * LOST >= largest) & (out.var_g * LOST >= largest)


def _take_centred(out: _Rows, rows: slice, count: int, a_block: Tensor, g_block: Tensor) -> None:
    """The same from the deviations; `seen` columns of these rows were taken before, 0 for a row's first piece."""
    mean_a, mean_g, var_a, var_g, cov = _centred_moments(a_block, g_block)
    if count == 0:
        out.mean_a[rows], out.mean_g[rows] = mean_a, mean_g
        out.var_a[rows], out.var_g[rows], out.cov[rows] = var_a, var_g, cov
        return
    new = a_block.shape[1]
    weight, share = count * new / (count + new), new / (count + new)  # Chan's merge
    step_a, step_g = mean_a - out.mean_a[rows], mean_g - out.mean_g[rows]
    out.var_a[rows] += var_a + weight * step_a * step_a
    out.var_g[rows] += var_g + weight * step_g * step_g
    out.cov[rows] += cov + weight * step_a * step_g
    out.mean_a[rows] += share * step_a
    out.mean_g[rows] += share * step_g


def _centred_moments(a_block: Tensor, g_block: Tensor) -> tuple[Tensor, ...]:
    """Means, sums of squared deviations and of products, about the row's first element and then its mean."""
    # A copy even of float64: what follows works in place, and the tensors are the caller's.
    a, g = (block.to(torch.float64, copy=True) for block in (a_block, g_block))
    first_a, first_g = a[:, :1].clone(), g[:, :1].clone()
    a.sub_(first_a)
    g.sub_(first_g)
    mean_a, mean_g = a.mean(-1), g.mean(-1)
    a.sub_(mean_a[:, None])
    g.sub_(mean_g[:, None])
    mean_a += first_a[:, 0]
    mean_g += first_g[:, 0]
    var_a, var_g = torch.linalg.vecdot(a, a), torch.linalg.vecdot(g, g)
    return mean_a, mean_g, var_a, var_g, torch.linalg.vecdot(a, g)


def _add_ulps(out: _Rows, error: Tensor, g_block: Tensor, bits: Tensor) -> None:
    """Adds |error| in bfloat16 ulps at each golden element's magnitude; at and below the smallest normal, that of the normal."""
    golden = g_block.float().contiguous()
    torch.bitwise_and(golden.view(torch.int32), FLOAT32_EXPONENT_MASK, out=bits)
    scale = bits.view(torch.float32)
    zeros = 0
    if int(bits.amin()) == 0:  # a golden 0, or a number below the smallest normal
        zero = golden == 0
        zeros = int(zero.sum())
        error.masked_fill_(zero, 0.0)
        scale.clamp_(min=SMALLEST_NORMAL)
    error.abs_().div_(scale)
    out.max_ulp = _nan_max(out.max_ulp, float(error.amax()) * 2.0**BF16_MANTISSA_BITS)
    out.sum_ulp += float(error.sum(dtype=torch.float64)) * 2.0**BF16_MANTISSA_BITS
    out.nonzero += golden.numel() - zeros


def _summarise(rows: _Rows, shape: tuple[int, ...]) -> TensorComparison:
    count, width = rows.diff.numel(), rows.width
    n = count * width
    if n == 0:
        nan = math.nan
        return TensorComparison(
            nan, nan, nan, nan, nan, nan, nan, 0, 0, nan, None, nan, None, {}, 0, 0, False, False, 0
        )
    norm_a = rows.var_a + width * rows.mean_a.square()  # sums of squares
    norm_g = rows.var_g + width * rows.mean_g.square()
    var_a, var_g, cov = _pool(rows)
    finite = not (rows.nonfinite_a or rows.nonfinite_g)
    lengths = math.sqrt(float(norm_a.sum())) * math.sqrt(float(norm_g.sum()))

    row_pcc = rows.cov / (rows.var_a.sqrt() * rows.var_g.sqrt())
    judged = rows.var_g != 0  # a NaN variance is judged, and is the worst
    row_rel = _ratio(rows.diff, norm_g, 0.0)
    worst_pcc, worst_pcc_row = _worst(row_pcc.clamp(-1.0, 1.0), judged, lowest=True)
    worst_rel, worst_rel_row = _worst(row_rel, torch.ones_like(judged), lowest=False)
    return TensorComparison(
        pcc=max(-1.0, min(1.0, cov / math.sqrt(var_a) / math.sqrt(var_g)))
        if finite and var_a and var_g
        else math.nan,
        cosine=float((rows.cov + width * rows.mean_a * rows.mean_g).sum()) / lengths if lengths else math.nan,
        rel_l2=float(_ratio(rows.diff.sum(), norm_g.sum(), 0.0)),
        norm_ratio=float(_ratio(norm_a.sum(), norm_g.sum(), 1.0)),
        max_abs=rows.max_abs,
        max_ulp=rows.max_ulp,
        mean_ulp=rows.sum_ulp / max(1, rows.nonzero),
        nonfinite_actual=rows.nonfinite_a,
        nonfinite_golden=rows.nonfinite_g,
        worst_row_pcc=worst_pcc,
        worst_row_pcc_index=_unravel(worst_pcc_row, shape[:-1]),
        worst_row_rel_l2=worst_rel,
        worst_row_rel_l2_index=_unravel(worst_rel_row, shape[:-1]),
        worst_slices=_worst_slices(rows.diff, norm_g, shape[:-1]),
        rows=count,
        rows_without_pcc=int((~judged).sum()),
        actual_constant=finite and var_a == 0,
        golden_constant=finite and var_g == 0,
        n=n,
    )


def _pool(rows: _Rows) -> tuple[float, float, float]:
    """Whole-tensor sums of squared deviations and products, from the rows'; about the first row's mean."""
    a, g = rows.mean_a - rows.mean_a[0], rows.mean_g - rows.mean_g[0]
    a, g = a - a.mean(), g - g.mean()
    return (
        float(rows.var_a.sum() + rows.width * (a * a).sum()),
        float(rows.var_g.sum() + rows.width * (g * g).sum()),
        float(rows.cov.sum() + rows.width * (a * g).sum()),
    )


def _ratio(squares: Tensor, reference: Tensor, both_zero: float) -> Tensor:
    """sqrt(squares / reference), with 0/0 as given and x/0 as inf."""
    ratio = (squares / reference).sqrt()
    return torch.where((squares == 0) & (reference == 0), torch.full_like(ratio, both_zero), ratio)


def _worst(values: Tensor, judged: Tensor, *, lowest: bool) -> tuple[float, int | None]:
    """The worst judged value and its row; NaN is worse than anything."""
    if not bool(judged.any()):
        return math.nan, None
    key = (
        (-values if lowest else values).masked_fill(values.isnan(), math.inf).masked_fill(~judged, -math.inf)
    )
    row = (
        int((values.isnan() & judged).int().argmax())
        if bool((values.isnan() & judged).any())
        else int(key.argmax())
    )
    return float(values[row]), row


def _worst_slices(diff: Tensor, norm: Tensor, lead: tuple[int, ...]) -> dict[int, tuple[int, float]]:
    """Of each leading dimension longer than 1: the index of the largest relative L2, and that; NaN is the largest."""
    worst: dict[int, tuple[int, float]] = {}
    for dim, size in enumerate(lead):
        if size > 1:
            errors, norms = (t.reshape(lead).movedim(dim, 0).reshape(size, -1).sum(1) for t in (diff, norm))
            value, index = _worst(
                _ratio(errors, norms, 0.0), torch.ones(size, dtype=torch.bool), lowest=False
            )
            worst[dim] = (index or 0, value)
    return worst


def _unravel(row: int | None, lead: tuple[int, ...]) -> tuple[int, ...] | None:
    if row is None:
        return None
    index: list[int] = []
    for size in reversed(lead):
        row, position = divmod(row, size)
        index.append(position)
    return tuple(reversed(index))


def _nan_max(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)
