"""What a bisection found, for a terminal and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.bisect.bisection import Bisection, growth
from harness.bisect.boundaries import SAME_PROGRAM
from harness.bisect.explained import MARGIN, ROW_MARGIN, limit, share
from harness.bisect.steps import Step
from harness.emulator.arithmetic.accumulate import FP32_DEST_ERRATUM
from harness.results.schema import write_text_atomically

SHOWN = 8  # rows of a table
SCHEMA = 1


def render(bisection: Bisection, console: Console) -> None:
    """The verdict, what it stands on, and the tables that go with it."""
    for line in verdict(bisection):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if bisection.divergent:
        console.print(
            _steps_table("Ops beyond what formats and multiplier explain", bisection.divergent[:SHOWN])
        )
    console.print(_steps_table("Where the accumulated error grows most", bisection.jumps))
    if bisection.gains:
        console.print(_gains_table(bisection))


def verdict(bisection: Bisection) -> list[str]:
    """Lines of plain text: what diverges first, or that nothing does; then coverage."""
    lines = []
    if bisection.divergent:
        first = bisection.divergent[0]
        assert first.local is not None
        lines += [
            f"DIVERGES: {first.op} in {first.place}, op {first.index + 1} of {len(bisection.steps)}: local error "
            f"{first.local.rel_l2:.2g} (worst row {first.local.worst_row:.2g}), explained are "
            f"{MARGIN * limit(first.op, first.facts):.2g} ({ROW_MARGIN * limit(first.op, first.facts):.2g})",
            f"  {first.place.line}: {first.place.code}",
        ]
    boundary = bisection.wrong_boundary
    if boundary is not None:
        lines.append(
            f"WRONG PROGRAM: after {boundary} the model's ops, all in fp32, are {boundary.error:.2g} from the reference "
            f"(the same program stays below {SAME_PROGRAM:g}): not an op's arithmetic, but what it is given"
        )
    if not lines:
        lines.append(
            f"NOTHING DIVERGES: {len(bisection.steps) - sum(bisection.missing.values())} ops within what formats and multiplier explain"
            + (
                f", {len(bisection.boundaries)} module outputs the reference's program"
                if bisection.boundaries
                else ""
            )
        )
    struck = [step for step in bisection.steps if step.struck]
    if struck:
        lines.append(
            f"struck: {sum(step.struck for step in struck)} times in {len(struck)} ops, first {struck[0].op} in "
            f"{struck[0].place}, by {FP32_DEST_ERRATUM.name}; as many of their worst rows are not held against them"
        )
    lines.append(f"{bisection.metric} to the reference: {bisection.figure:.4g}")
    compared = len(bisection.steps) - sum(bisection.missing.values())
    missing = "".join(f"; no golden: {name} ({count})" for name, count in bisection.missing.items())
    lines.append(f"coverage: {compared} of {len(bisection.steps)} ops compared{missing}")
    if bisection.gains:
        best = bisection.gains[0]
        lines.append(
            f"buys most in fp32: {best.what}, {bisection.metric} {best.before:.4g} -> {best.after:.4g}"
        )
    elif not bisection.healthy:
        lines.append("what precision would buy is not measured while something diverges")
    return lines


def write(path: Path, bisection: Bisection, about: dict[str, Any]) -> None:
    """The whole bisection as JSON, every op with its place and errors. Raises ResultsError."""
    data = {
        "schema": SCHEMA,
        **about,
        "verdict": verdict(bisection),
        "metric": bisection.metric,
        "figure": bisection.figure,
        "first_divergent": bisection.divergent[0].index if bisection.divergent else None,
        "ops": [_step(step) for step in bisection.steps],
        "doors": [asdict(boundary) for boundary in bisection.boundaries],
        "not_covered": bisection.missing,
        "gains": [asdict(gain) for gain in bisection.gains],
    }
    write_text_atomically(path, json.dumps(_spelled(data), indent=1, allow_nan=False) + "\n")


def _step(step: Step) -> dict[str, Any]:
    explained = None if step.local is None else share(step.local, step.op, step.facts)
    return {**asdict(step), "share_of_explained": explained}


def _spelled(value: Any) -> Any:
    # JSON has no infinity and no NaN: they are written as strings, as in results.json.
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list | tuple) else value


def _steps_table(title: str, steps: list[Step]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("op", "where"):
        table.add_column(name, overflow="fold")
    for name in ("local", "of limit", "chain", "grew"):
        table.add_column(name, justify="right")
    for step in steps:
        assert step.local is not None
        assert step.accumulated is not None
        table.add_row(
            f"{step.index + 1} {step.op.rpartition('.')[2]}",
            f"{step.place}, {step.place.line.rpartition('/')[2]}",
            f"{step.local.rel_l2:.2g}",
            f"{share(step.local, step.op, step.facts):.0%}",
            f"{step.accumulated.rel_l2:.2g}",
            f"{growth(step):.2g}",
        )
    return table


def _gains_table(bisection: Bisection) -> Table:
    table = Table(title=f"What fp32 buys: {bisection.metric} to the reference", title_justify="left")
    table.add_column("in fp32")
    for name in ("before", "after", "gained"):
        table.add_column(name, justify="right")
    for gain in bisection.gains[:SHOWN]:
        table.add_row(
            gain.what, f"{gain.before:.4g}", f"{gain.after:.4g}", f"{1 - gain.after / gain.before:.1%}"
        )
    return table
