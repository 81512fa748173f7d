"""`tt-harness baseline update`: makes accepted results the baseline, and keeps the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT

baseline_app = typer.Typer(
    no_args_is_help=True, help="The accepted figures that `tt-harness gate` compares with."
)


@baseline_app.callback()
def _group() -> None:
    """Makes `update` a command of its own, for a group of one would take its place."""


@baseline_app.command()
def update(
    results: Annotated[
        list[Path], typer.Argument(help="a results file, or several sessions of the same run")
    ],
    baseline: Annotated[Path, typer.Option(help="the file to make or to change")],
    reason: Annotated[str, typer.Option(help="why these figures are right; kept in the file")],
) -> None:
    """Make results the baseline. Refused, with exit 2, for results with a regression."""
    from datetime import datetime, timezone

    from harness.gates.baseline import RefusedError, read_baseline, text, updated
    from harness.gates.keys import ForeignError
    from harness.results.schema import ResultsError, read_figures, write_text_atomically

    try:
        old = read_baseline(baseline) if baseline.exists() else None
        sessions = [read_figures(path) for path in results]
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        new = updated(old, sessions, reason, now)
        write_text_atomically(baseline, text(new))
    except (ForeignError, RefusedError, ResultsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    typer.echo(f"{baseline}: {new.history[-1].changes}")
