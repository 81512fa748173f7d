"""The kill matrix for a terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.faults.matrix import MESH_SUITE, MODULE_SUITE, Matrix, Row
from harness.results.schema import write_text_atomically

SCHEMA = 1


def render(matrix: Matrix, console: Console) -> None:
    """The verdict, then a row for each fault: by what each suite saw it first."""
    for line in verdict(matrix):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    suites = list(dict.fromkeys(suite for row in matrix.rows for suite in row.suites))
    table = Table(title="What each suite saw first", title_justify="left")
    for name in ("fault", "lies in", *suites):
        table.add_column(name, overflow="fold")
    for row in matrix.rows:
        cells = [_cell(row, suite) for suite in suites]
        table.add_row(row.fault.name, row.fault.module, *cells)
    console.print(table)


def verdict(matrix: Matrix) -> list[str]:
    """How many are seen, and every hole: a fault that no suite sees, or not its module's tests."""
    killed = sum(row.killed for row in matrix.rows)
    in_modules = [row for row in matrix.rows if MODULE_SUITE in row.kills]
    lines = [
        f"FAULTS: {killed} of {len(matrix.rows)} killed, {len(in_modules)} of them by a module's own tests"
    ]
    for row in matrix.holes:
        if not row.killed:
            note = f"; raised {row.raised[0]}" if row.raised else ""
            lines.append(f"  SURVIVES: {row.fault.name}: {row.fault.what}{note}")
        else:
            lines.append(f"  not seen by {row.fault.module}'s own tests: {row.fault.name}: {row.fault.what}")
    if matrix.left_out:
        lines.append(f"  red without a fault, so not counted: {', '.join(matrix.left_out)}")
    return lines


def write(path: Path, matrix: Matrix, about: dict[str, str]) -> None:
    """All of it as JSON. Raises ResultsError."""
    rows = [
        {
            "fault": row.fault.name,
            "module": row.fault.module,
            "what": row.fault.what,
            "mesh": row.fault.mesh,
            "precision": row.fault.precision,
            "killed": row.killed,
            "kills": {suite: _finite(vars(kill)) for suite, kill in row.kills.items()},
            "suites": list(row.suites),
            "raised": list(row.raised),
            "seconds": round(row.seconds, 1),
        }
        for row in matrix.rows
    ]
    data = {"schema": SCHEMA, **about, "left_out": list(matrix.left_out), "faults": rows}
    write_text_atomically(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def _cell(row: Row, suite: str) -> str:
    if suite not in row.suites:
        return "" if suite == MESH_SUITE else "not run"
    kill = row.kills.get(suite)
    return kill.metric if kill else "-"


def _finite(kill: dict[str, object]) -> dict[str, object]:
    return {
        name: str(value) if isinstance(value, float) and not abs(value) < float("inf") else value
        for name, value in kill.items()
    }
