"""Where in the model it goes wrong: each module's worst PCC at each layer that was tested."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from harness.report.grid import Cell, Grid
from harness.report.tables.accuracy import ORDER
from harness.results.figures import figure, worse
from harness.results.schema import REFERENCE_TARGET, Record

METRIC = "worst_row_pcc"  # a whole tensor's is blind to one broken token


def by_layer(records: Sequence[Record]) -> Grid | None:
    """A row a precision, module and mesh, a column a layer; None where no module was tested at two layers."""
    ours = [r for r in records if r.metric == METRIC and r.layer is not None and r.target != REFERENCE_TARGET]
    layers = sorted({r.layer for r in ours if r.layer is not None})
    if len(layers) < 2:
        return None
    groups = sorted({(r.precision, _place(r.module), r.mesh) for r in ours})
    head = [Cell(text, "", False) for text in ("precision", "module", "mesh")]
    head += [Cell(f"layer {layer}", "", True) for layer in layers]
    rows = []
    for precision, place, mesh in groups:
        group = [r for r in ours if (r.precision, _place(r.module), r.mesh) == (precision, place, mesh)]
        cells = [_cell([r for r in group if r.layer == layer]) for layer in layers]
        rows.append([*(Cell(text, "", False) for text in (precision, place[1], mesh)), *cells])
    return Grid("Worst token's PCC by module and layer (worst of all tests)", head, rows)


def _place(module: str) -> tuple[int, str]:
    return (ORDER.index(module) if module in ORDER else len(ORDER), module)


def _cell(group: Sequence[Record]) -> Cell:
    if not group:
        return Cell("-", "", True)
    bad = any(r.verdict != "pass" and r.gate is not None for r in group)
    text = figure(METRIC, reduce(worse, group).value)
    return Cell(text + "!" * bad, "bad" if bad else "", True)
