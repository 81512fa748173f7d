"""How true a run on target shadow is: which ops' values are a Wormhole's, which a golden's, and which nobody knows."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from harness.results.sources import WORDS, OpSource, Sources

_SAID = {
    "exact": "exact: the emulator's op",
    "golden": "golden: fp32, rounded once",
    "none": "none: NaN from here on",
}
_EXACT = "exact"


def sources_table(sources: Sources | None) -> Table | None:
    """A row an op that is not exact, the weakest first, and one for all that are; None where nothing was counted."""
    if sources is None or not sources.ops:
        return None
    whole = sum(map(_seconds, sources.ops)) or 1.0
    title = "How true this run is: where the values of its ops come from"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("values")
    table.add_column("op", overflow="fold")
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("share of\ntime", justify="right", no_wrap=True)
    table.add_column("why none better", overflow="fold")
    weak = sorted(
        (one for one in sources.ops if one.source != _EXACT), key=lambda o: (WORDS.index(o.source), -o.calls)
    )
    for one in weak:
        share = f"{_seconds(one) / whole:.0%}"
        table.add_row(_SAID[one.source], Text(one.op), f"{one.calls:,}", share, Text(one.reason))
    exact = [one for one in sources.ops if one.source == _EXACT]
    if exact:
        share = f"{sum(map(_seconds, exact)) / whole:.0%}"
        calls = sum(one.calls for one in exact)
        table.add_row(_SAID[_EXACT], f"{len(exact)} ops", f"{calls:,}", share, "")
    return table


def finding_lines(sources: Sources | None) -> Iterator[Text]:
    """Where the emulator and the real ttnn disagree, a line each."""
    for line in sources.findings if sources is not None else ():
        yield Text(f"  emulator and ttnn disagree: {line}", style="yellow")


def _seconds(one: OpSource) -> float:
    return one.in_ttnn + one.in_values
