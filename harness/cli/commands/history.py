"""`tt-harness history`: keep a run's times, and say where a figure's level changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT


def history(
    store: Annotated[Path, typer.Argument(help="a folder of JSON lines, one file a run")],
    add: Annotated[
        str | None, typer.Option(help="results files of this run's sessions, comma-separated")
    ] = None,
    run: Annotated[str | None, typer.Option(help="its name, which orders it: a date and a commit")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw every figure that has a step, as SVG")] = None,
) -> None:
    """Add a run to the history with --add and --run; show the steps in every figure, the latest last."""
    from harness.gates import history as kept
    from harness.results.schema import ResultsError, read_figures

    if (add is None) != (run is None) or (run is not None and ("/" in run or run.startswith("."))):
        typer.echo("error: give --add and --run together, and a run's name without a /", err=True)
        raise typer.Exit(USAGE_EXIT)
    try:
        if add is not None and run is not None:
            typer.echo(str(kept.add(store, run, [read_figures(Path(path)) for path in add.split(",")])))
        figures = kept.read(store)
    except ResultsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    stepped = {}
    for name, points in figures.items():
        steps = kept.steps([point.seconds for point in points])
        for step in steps:
            slower = "slower" if step.ratio > 1 else "faster"
            typer.echo(f"{points[step.index].run}: {name}: {abs(step.ratio - 1):.1%} {slower}")
        if steps:
            stepped[name] = points, steps
    runs = {point.run for points in figures.values() for point in points}
    typer.echo(f"{len(figures)} figures over {len(runs)} runs, {len(stepped)} with a step")
    if plot is not None and stepped:
        from harness.report.pictures.latency import history_picture
        from harness.results.schema import write_text_atomically

        write_text_atomically(plot, history_picture(stepped).svg)
        typer.echo(str(plot))
