"""`tt-harness lm-eval`: lm-eval's command line on golden and device, and what the device lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT
from harness.run.options import DEFAULT_MODEL
from harness.targets import DEFAULT_TARGET
from harness.targets.emulator import DEFAULT_MODE, MODES


def lm_eval(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = DEFAULT_MODEL,
    target: Annotated[str, typer.Option(help="what answers `import ttnn`")] = DEFAULT_TARGET,
    mesh: Annotated[str, typer.Option(help="mesh shape, rows x columns")] = "1x1",
    precision: Annotated[str, typer.Option(help="precisions, comma-separated")] = "accuracy",
    out: Annotated[Path, typer.Option(help="folder for results.json and report.html")] = Path("results"),
    emulator_mode: Annotated[
        str | None, typer.Option(help=f"{', '.join(MODES)} (default: {DEFAULT_MODE})", show_default=False)
    ] = None,
) -> None:
    """Evaluate golden and device on the same samples with lm-eval, and judge the difference by paired tests.

    All other arguments are lm-eval's: --tasks, --limit, --num_fewshot, --apply_chat_template, --include_path, --model_args,
    --output_path ... (see `lm-eval run --help`). The tasks tt_choice, tt_completion, tt_exact and tt_text, together
    tt_offline, need no network. Exit 0 if nothing was lost, 1 if something was, 2 if the samples cannot tell.
    """
    from harness.targets import TargetError, activate

    try:
        activate(target, mesh=mesh, mode=emulator_mode)
    except TargetError as error:
        _refuse(str(error))
    from rich.console import Console

    from harness.evaluation.comparison import compare
    from harness.report import render, write_html
    from harness.results.schema import check_writable, write_results
    from harness.run.outcomes import input_errors

    try:
        check_writable(out / "results.json")
        results = compare(context.args, model, precision.split(","))
        write_results(out / "results.json", results.environment, results.records)
        write_html(results, out / "report.html")
    except input_errors() as error:
        _refuse(str(error))
    render(results, Console())
    typer.echo(f"{out / 'results.json'}\n{out / 'report.html'}")
    verdicts = {record.verdict for record in results.records}
    raise typer.Exit(1 if "regression" in verdicts else USAGE_EXIT if verdicts - {"pass"} else 0)


def _refuse(line: str) -> None:
    typer.echo(f"error: {line}", err=True)
    raise typer.Exit(USAGE_EXIT)
