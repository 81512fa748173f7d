"""PCC and the figures that must stand beside it, because PCC alone is blind to scale, offset and single rows.

A *row* is a vector along the last dimension: in an LLM, one token. Everything is computed in float64, block by block,
so a tensor is never copied whole. Moments are taken per row about the row's first element and pooled afterwards
(Chan, Golub and LeVeque 1983), which keeps full precision when the mean is far larger than the spread and makes the
test for a constant exact.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**20  # float64 blocks of 8 MiB; smaller ones pay for more thread barriers on a busy machine
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
    rel_l2: float  # |actual - golden| / |golden|; 0/0 is 0, x/0 is inf
    norm_ratio: float  # |actual| / |golden|; 0/0 is 1, x/0 is inf
    max_abs: float
    max_ulp: float  # largest |actual - golden| in bfloat16 ulps taken at the golden element's magnitude
    mean_ulp: float  # both over elements whose golden is not zero: zero has no magnitude to take an ulp at
    nonfinite_actual: int
    nonfinite_golden: int
    worst_row_pcc: float  # nan: that row is not finite, or is constant where the golden's varies
    worst_row_pcc_index: (
        tuple[int, ...] | None
    )  # index over all dimensions but the last; None: no row was judged
    worst_row_rel_l2: float
    worst_row_rel_l2_index: tuple[int, ...] | None
    rows: int
    rows_without_pcc: (
        int  # rows whose golden is constant: PCC is undefined there, relative L2 still judges them
    )
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
    if actual.shape != golden.shape:
        raise ShapeMismatch(tuple(actual.shape), tuple(golden.shape))
    shape = tuple(golden.shape) or (1,)
    rows = _row_figures(actual.detach().reshape(shape), golden.detach().reshape(shape))
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


def _row_figures(actual: Tensor, golden: Tensor) -> _Rows:
    width = golden.shape[-1]
    count = golden.numel() // width if width else 0
    out = _Rows(width, *torch.zeros(6, count, dtype=torch.float64))
    if golden.numel() == 0:
        return out
    flat_a, flat_g = actual.reshape(count, width), golden.reshape(count, width)
    for rows, columns in _blocks(count, width):
        _add_block(out, rows, columns.start, flat_a[rows, columns], flat_g[rows, columns])
    return out


def _blocks(count: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of whole rows; a row longer than a block comes in pieces, left to right."""
    height = max(1, BLOCK_ELEMENTS // width)
    for top in range(0, count, height):
        for left in range(0, width, BLOCK_ELEMENTS):
            yield slice(top, min(top + height, count)), slice(left, min(left + BLOCK_ELEMENTS, width))


def _add_block(out: _Rows, rows: slice, seen: int, a_block: Tensor, g_block: Tensor) -> None:
    # A copy even of float64: what follows works in place, and the tensors are the caller's.
    a, g = (block.to(torch.float64, copy=True) for block in (a_block, g_block))
    diff = (a - g).abs_()
    squared = torch.linalg.vecdot(diff, diff)
    if not bool(torch.isfinite(squared).all()):
        out.nonfinite_a += int((~torch.isfinite(a)).sum())
        out.nonfinite_g += int((~torch.isfinite(g)).sum())
    out.diff[rows] += squared
    out.max_abs = _nan_max(out.max_abs, float(diff.max()))
    ulps = (diff / _bf16_ulp(g_block)).masked_fill_(g == 0, 0.0)
    out.max_ulp = _nan_max(out.max_ulp, float(ulps.max()))
    out.sum_ulp += float(ulps.sum())
    out.nonzero += int((g != 0).sum())

    first_a, first_g = a[:, :1].clone(), g[:, :1].clone()
    a.sub_(first_a)
    g.sub_(first_g)
    mean_a, mean_g = a.mean(-1), g.mean(-1)
    a.sub_(mean_a[:, None])
    g.sub_(mean_g[:, None])
    mean_a += first_a[:, 0]
    mean_g += first_g[:, 0]
    new = a.shape[1]
    weight = seen * new / (seen + new)  # Chan's merge; 0 for a row's first piece
    share = new / (seen + new)
    step_a, step_g = mean_a - out.mean_a[rows], mean_g - out.mean_g[rows]
    out.var_a[rows] += torch.linalg.vecdot(a, a) + weight * step_a * step_a
    out.var_g[rows] += torch.linalg.vecdot(g, g) + weight * step_g * step_g
    out.cov[rows] += torch.linalg.vecdot(a, g) + weight * step_a * step_g
    out.mean_a[rows] = mean_a if seen == 0 else out.mean_a[rows] + share * step_a
    out.mean_g[rows] = mean_g if seen == 0 else out.mean_g[rows] + share * step_g


def _bf16_ulp(golden: Tensor) -> Tensor:
    """One bfloat16 ulp at each golden element's magnitude; at and below the smallest normal, that of the normal."""
    bits = golden.float().contiguous().view(torch.int32) & FLOAT32_EXPONENT_MASK
    return bits.view(torch.float32).clamp_(min=SMALLEST_NORMAL).mul_(2.0**-BF16_MANTISSA_BITS)


def _summarise(rows: _Rows, shape: tuple[int, ...]) -> TensorComparison:
    count, width = rows.diff.numel(), rows.width
    n = count * width
    if n == 0:
        nan = math.nan
        return TensorComparison(
            nan, nan, nan, nan, nan, nan, 0, 0, nan, None, nan, None, 0, 0, False, False, 0
        )
    norm_a = rows.var_a + width * rows.mean_a.square()  # sums of squares
    norm_g = rows.var_g + width * rows.mean_g.square()
    var_a, var_g, cov = _pool(rows)
    finite = not (rows.nonfinite_a or rows.nonfinite_g)

    row_pcc = rows.cov / (rows.var_a.sqrt() * rows.var_g.sqrt())
    judged = rows.var_g != 0  # a NaN variance is judged, and is the worst
    row_rel = _ratio(rows.diff, norm_g, 0.0)
    worst_pcc, worst_pcc_row = _worst(row_pcc.clamp(-1.0, 1.0), judged, lowest=True)
    worst_rel, worst_rel_row = _worst(row_rel, torch.ones_like(judged), lowest=False)
    return TensorComparison(
        pcc=max(-1.0, min(1.0, cov / math.sqrt(var_a) / math.sqrt(var_g)))
        if finite and var_a and var_g
        else math.nan,
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
