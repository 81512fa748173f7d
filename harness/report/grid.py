"""A rich table as plain cells, for pages that draw tables themselves."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

BAD_STYLES, FAINT_STYLES = ("red", "bold red"), ("dim",)


@dataclass(frozen=True)
class Cell:
    """A cell. `kind`: "bad", "faint" or ""; `number`: whether it stands on the right."""

    text: str
    kind: str
    number: bool


@dataclass(frozen=True)
class Grid:
    """A table."""

    title: str
    head: list[Cell]
    rows: list[list[Cell]]


def grid(table: Table) -> Grid:
    """The table's cells, row by row."""
    columns = [list(column.cells) for column in table.columns]
    numbers = [column.justify == "right" for column in table.columns]
    rows = [
        [_cell(cell, number) for cell, number in zip(row, numbers, strict=True)]
        for row in zip(*columns, strict=True)
    ]
    head = [_cell(column.header, number) for column, number in zip(table.columns, numbers, strict=True)]
    return Grid(str(table.title), head, rows)


def _cell(cell: object, number: bool) -> Cell:
    style = str(cell.style) if isinstance(cell, Text) else ""
    kind = "bad" if style in BAD_STYLES else "faint" if style in FAINT_STYLES else ""
    return Cell(str(cell), kind, number)
