"""The report as one self-contained HTML page: the terminal's rendering, exported."""

import io
from pathlib import Path

from rich.console import Console

from harness.records import Results, write_text_atomically
from harness.report.terminal import render

WIDTH = 120  # columns


def write_html(results: Results, path: Path) -> None:
    """Writes the page whole or not at all. Raises ResultsError, one line, when the disk or folder refuses."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    render(results, console)
    write_text_atomically(path, console.export_html())
