"""`tt-harness compare`: is one set of runs slower than another?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT

FILES = "results files, comma-separated: one for each session, a process of its own"


def compare(
    baseline: Annotated[str, typer.Argument(metavar="A.json[,A2.json...]", help=FILES)],
    candidate: Annotated[str, typer.Argument(metavar="B.json[,B2.json...]", help=FILES)],
) -> None:
    """Hold the times and counters of B against those of A. Exit 0 pass, 1 regression, 2 not to be told, and why.

    Measured times need three sessions an arm or more, run in turns. Faster is never a regression.
    """
    from harness.gates.keys import ForeignError, check_same
    from harness.results.schema import ResultsError, read_figures
    from harness.timing.compare import compared, status

    try:
        arms = [[read_figures(Path(path)) for path in arm.split(",")] for arm in (baseline, candidate)]
        for session in (*arms[0], *arms[1]):
            check_same(session.environment, arms[0][0].environment)
    except (ResultsError, ForeignError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    comparisons = list(compared(*arms))
    for state in ("regression", "vanished", "inconclusive", "missing baseline"):
        for one in (each for each in comparisons if each.state == state):
            typer.echo(f"{state}: {one.key} [{one.key.test.rpartition('::')[2]}]: {one.said}")
    passed = [one for one in comparisons if one.state == "pass"]
    best = [one for one in passed if one.best]
    for one in best:
        typer.echo(f"new best: {one.key}: {one.said}")
    if best:
        typer.echo(f"{len(best)} faster than the baseline: {candidate} can be the new one")
    typer.echo(f"{len(passed)} of {len(comparisons)} times and counters pass")
    raise typer.Exit(status(comparisons))
