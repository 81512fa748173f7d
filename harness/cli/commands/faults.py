"""`tt-harness faults`: plants each known mistake, and shows which suite sees it and by what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT, UserError
from harness.run.options import DEFAULT_MODEL
from harness.targets.emulator import MODES


def faults(
    only: Annotated[str | None, typer.Option(help="faults by name, comma-separated (default: all)")] = None,
    suite: Annotated[
        str | None, typer.Option(help="suites, comma-separated (default: modules,model,metamorphic,accuracy)")
    ] = None,
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = DEFAULT_MODEL,
    layers: Annotated[int, typer.Option(help="decoder layers taken of the model; 0: all of them")] = 2,
    goldens: Annotated[str | None, typer.Option("--goldens", help="the golden store")] = None,
    emulator_mode: Annotated[str, typer.Option(help=", ".join(MODES))] = "fast",
    out: Annotated[Path, typer.Option(help="the matrix as JSON")] = Path("results/faults.json"),
) -> None:
    """Plant each fault of the catalogue in a process of its own, run the suites, and print the kill matrix.

    Exit 0: all are seen, each by its module's own tests where it lies in one; 1: some are not; 2: it cannot be said.
    """
    import torch
    from rich.console import Console

    # Before any work: a pool of threads would not survive the forks below, and they would wait for it.
    torch.set_num_threads(1)

    from harness.cli.suites import QUICK
    from harness.faults import CATALOGUE
    from harness.faults.matrix import Setup, prepared_model, run_matrix
    from harness.faults.report import render, write
    from harness.results.schema import ResultsError, check_writable

    try:
        names = list(CATALOGUE) if only is None else only.split(",")
        _check("fault", names, list(CATALOGUE))
        suites = QUICK if suite is None else tuple(suite.split(","))
        _check("suite", suites, QUICK)
        _check("emulator mode", [emulator_mode], MODES)
        if layers < 0:
            raise UserError(f"layers {layers}: give a number of decoder layers, or 0 for all of them")
        check_writable(out)
        setup = Setup(prepared_model(model, layers or None), goldens, emulator_mode, suites)
        matrix = run_matrix(
            [CATALOGUE[name] for name in names], setup, lambda line: typer.echo(line, err=True)
        )
        render(matrix, Console())
        write(out, matrix, {"model": setup.model, "emulator_mode": emulator_mode})
    except (UserError, ResultsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    typer.echo(str(out))
    raise typer.Exit(1 if matrix.holes else 0)


def _check(what: str, given: list[str] | tuple[str, ...], known: list[str] | tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"{what} {name!r}: choose from {', '.join(known)}")
