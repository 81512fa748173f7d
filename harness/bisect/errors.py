"""How far an op's result is off its golden: as a whole, and in its worst row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from harness.bisect.shadows import Values

# A row (token, head, user) whose golden is nearly zero would make any rounding look large: its error is held against this
# part of the tensor's typical row instead.
FLOOR = 0.01


@dataclass(frozen=True)
class Error:
    """Relative L2 errors against a golden, over what the golden defines: of the whole tensor, and of its worst row."""

    rel_l2: float
    worst_row: float

    @property
    def finite(self) -> bool:
        """False where the device has NaN or Inf and the golden has not."""
        return math.isfinite(self.worst_row)


def worst(device: list[Values], golden: list[Values], without: int = 0) -> Error:
    """The largest errors over the results of an op, of all devices; `without` that many worst rows of each."""
    errors = [error(values, should, without) for values, should in zip(device, golden, strict=True)]
    return Error(max(e.rel_l2 for e in errors), max(e.worst_row for e in errors))


def error(device: Values, golden: Values, without: int = 0) -> Error:
    """Relative L2 over all devices and in the worst row, `without` that many rows that are worse.

    What the golden leaves undefined (NaN, Inf) is not compared.
    """
    offs, norms, rows = [], [], []
    for values, should in zip(device, golden, strict=True):
        if values.shape != should.shape:
            return Error(math.inf, math.inf)
        values, should = values.float(), should.float()
        defined = should.isfinite()
        if not bool(defined.all()):
            values, should = (torch.where(defined, tensor, 0) for tensor in (values, should))
        norm = torch.linalg.vector_norm(should, dim=-1, dtype=torch.float64).flatten()
        if torch.equal(values, should):
            off = torch.zeros_like(norm)
        else:
            off = torch.linalg.vector_norm(values - should, dim=-1, dtype=torch.float64).flatten()
            off = off.nan_to_num(nan=math.inf)  # the device has NaN where the golden has not
        typical = math.sqrt(float(norm @ norm) / max(1, int((norm > 0).sum())))
        offs.append(off)
        norms.append(norm)
        rows.append(off / norm.clamp(min=max(FLOOR * typical, 1e-30)))
    off, norm, row = torch.cat(offs), torch.cat(norms), torch.cat(rows)
    if without:
        judged = row.argsort(descending=True)[without:]
        off, norm, row = off[judged], norm[judged], row[judged]
    square, scale = float(off @ off), float(norm @ norm)
    return Error(math.sqrt(square / scale if scale else square), float(row.max()) if row.numel() else 0.0)
