"""Figures of the residual stream after each layer of one pass, in order of the layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.results.schema import Record

# The note of a layer's records from a pass through the whole model
CHAINED = "with the error of all layers before"


def chained(records: Sequence[Record]) -> list[Record]:
    """The records of tests that look at a stream with the error of all layers before."""
    tests = {(r.test, r.mesh) for r in records if r.note == CHAINED}
    return [r for r in records if (r.test, r.mesh) in tests and r.layer is not None]


def by_layer(records: Sequence[Record], metric: str) -> dict[str, list[tuple[int, float]]]:
    """Of each precision (and mesh, of several devices) that has two layers or more: (layer, value)."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for record in chained(records):
        if record.metric == metric and record.value is not None and math.isfinite(record.value):
            name = record.precision if record.mesh == "1x1" else f"{record.precision} {record.mesh}"
            lines.setdefault(name, []).append((record.layer or 0, record.value))
    return {name: sorted(points) for name, points in lines.items() if len(points) > 1}


def growth(records: Sequence[Record]) -> Iterable[str]:
    """A line a precision: KL after the first and the last layer, and after the worst."""
    for name, points in by_layer(records, "kl").items():
        (first, early), (last, late) = points[0], points[-1]
        worst, most = max(points, key=lambda point: point[1])
        yield (
            f"KL by layer, {name}: {early:.2g} after layer {first}, {late:.2g} after layer {last}, "
            f"most after layer {worst}: {most:.2g}"
        )
