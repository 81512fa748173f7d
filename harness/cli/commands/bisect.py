"""`tt-harness bisect`: which op, or which module's program, makes the model wrong; and where precision would buy most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT
from harness.run.options import DEFAULT_MODEL, Options
from harness.targets import DEFAULT_TARGET
from harness.targets.emulator import DEFAULT_MODE, MODES

LONGEST = 512  # tokens of a prompt: every op's tensors are copied to the host


def bisect(
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = DEFAULT_MODEL,
    module: Annotated[str | None, typer.Option(help="one module alone: mlp, attention, decoder, ...")] = None,
    layer: Annotated[int | None, typer.Option(help="the module's layer, negative from the last")] = None,
    phase: Annotated[
        str, typer.Option(help="of one module: prefill or decode; a whole model runs both")
    ] = "prefill",
    seq_len: Annotated[int, typer.Option(help=f"tokens of the prompt, up to {LONGEST}")] = 100,
    target: Annotated[str, typer.Option(help="what answers `import ttnn`; it must compute")] = DEFAULT_TARGET,
    mesh: Annotated[str, typer.Option(help="mesh shape, rows x columns")] = "1x1",
    precision: Annotated[str, typer.Option(help="accuracy, performance or bfp4_mlp")] = "accuracy",
    emulator_mode: Annotated[
        str | None, typer.Option(help=f"{', '.join(MODES)} (default: {DEFAULT_MODE})", show_default=False)
    ] = None,
    goldens: Annotated[
        str | None, typer.Option("--goldens", help="the golden store, for a module's inputs")
    ] = None,
    corpus: Annotated[Path | None, typer.Option(help="text the prompts are taken from")] = None,
    out: Annotated[Path, typer.Option(help="JSON with every op")] = Path("results/bisect.json"),
) -> None:
    """Run the model with every op held against fp32 PyTorch, and name the first that diverges.

    Exit 0: nothing diverges, 1: something does, 2: it cannot be said.
    """
    from harness.targets import TARGETS, activate

    error: str | None = None
    if not 2 <= seq_len <= LONGEST:
        error = f"seq-len {seq_len}: give 2 to {LONGEST} tokens"
    elif layer is not None and module is None:
        error = f"layer {layer}: give the --module too"
    elif target in TARGETS and not TARGETS[target].computes:
        error = f"target {target!r}: it computes no numbers to compare"
    if error is not None:
        _refuse(error)
    from harness.errors import UserError

    try:
        activate(target, mesh=mesh, mode=emulator_mode)
    except UserError as fault:
        _refuse(str(fault))
    from rich.console import Console

    from harness.bisect.command import bisected
    from harness.bisect.report import render, write
    from harness.run.outcomes import input_errors

    options = Options(
        target=target,
        mesh=mesh,
        model=model,
        model_given=True,
        precisions=(precision,),
        results=out,
        goldens=goldens,
        corpus=corpus,
        emulator_mode=emulator_mode,
    )
    try:
        bisection, about = bisected(
            options, module, layer, phase, seq_len, lambda line: typer.echo(line, err=True)
        )
        render(bisection, Console())
        write(out, bisection, about)
    except input_errors() as fault:
        _refuse(str(fault))
    typer.echo(str(out))
    raise typer.Exit(0 if bisection.healthy else 1)


def _refuse(line: str) -> None:
    typer.echo(f"error: {line}", err=True)
    raise typer.Exit(USAGE_EXIT)
