"""The report as one self-contained HTML page, for a browser without a network: nothing in it is fetched or run."""

from pathlib import Path

from harness.results.schema import Results, write_text_atomically

__all__ = ["write_html"]


def write_html(results: Results, path: Path) -> None:
    """Writes the page whole or not at all. Raises ResultsError, one line, when the disk or folder refuses."""
    # Here, for the plotting library that comes with it: half a second that only a page should cost.
    from harness.report.html.page import page

    write_text_atomically(path, page(results))
