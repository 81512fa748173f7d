"""`tt-harness gate`: results against a baseline and the policy, for a CI to call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT


def gate(
    results: Annotated[
        list[Path], typer.Argument(help="a results file, or several sessions of the same run")
    ],
    baseline: Annotated[Path, typer.Option(help="made by `tt-harness baseline update`")],
    policy: Annotated[Path | None, typer.Option(help="gates (default: ci/policy.yaml)")] = None,
) -> None:
    """Hold results against a baseline and the policy. Exit 0 pass, 1 regression, 2 cannot judge, and why.

    A test of the baseline that did not run is a regression. On GitHub it also annotates and writes the step's summary.
    """
    from harness.gates.baseline import read_baseline
    from harness.gates.gate import judge_run, lines
    from harness.gates.keys import ForeignError
    from harness.gates.policy import Policy, PolicyError
    from harness.report.github import tell_gate
    from harness.results.schema import ResultsError, read_figures

    try:
        base = read_baseline(baseline)
        judgement = judge_run([read_figures(path) for path in results], base, Policy.load(policy))
    except (ResultsError, ForeignError, PolicyError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    for line in lines(judgement, base):
        typer.echo(line)
    tell_gate(judgement, base, typer.echo)
    raise typer.Exit(judgement.status)
