"""The report as one self-contained HTML page, for a browser without a network: nothing in it is fetched or run."""

from pathlib import Path

from harness.records import Results, write_text_atomically
from harness.report.html.page import page

__all__ = ["write_html"]


def write_html(results: Results, path: Path) -> None:
    """Writes the page whole or not at all. Raises ResultsError, one line, when the disk or folder refuses."""
    write_text_atomically(path, page(results))
