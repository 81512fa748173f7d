"""`tt-harness merge`: the results of the jobs of a matrix as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT


def merge(
    files: Annotated[list[Path], typer.Argument(help="results files of the parts of one run")],
    out: Annotated[Path, typer.Option(help="the file to write")],
) -> None:
    """Join results files of one run. Exit 2 for mixed commits, models, goldens or modes, and for parts that contradict."""
    from harness.results.merging import merged
    from harness.results.schema import ResultsError, read_results, write_results

    try:
        whole = merged({str(file): read_results(file) for file in files})
        write_results(out, whole.environment, whole.records)
    except ResultsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    typer.echo(f"{out}: {len(whole.records)} records of {len(files)} files")
