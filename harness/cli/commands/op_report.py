"""`tt-harness op-report` and `op-diff`: the profiler's table of ops without a card, and what changed between two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import USAGE_EXIT, UserError
from harness.results.schema import Phase
from harness.run.options import DEFAULT_MODEL


def op_report(
    out: Annotated[Path, typer.Argument(help="the CSV to write, which tt-perf-report reads")],
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = DEFAULT_MODEL,
    mesh: Annotated[str, typer.Option(help="mesh shape, rows x columns")] = "1x1",
    precision: Annotated[str, typer.Option(help="accuracy, performance or bfp4_mlp")] = "performance",
    phase: Annotated[str, typer.Option(help="prefill, decode")] = "decode",
    batch: Annotated[int, typer.Option(help="users of a decode step")] = 32,
    seq_len: Annotated[int, typer.Option(help="prompt, or the position of a decode step")] = 128,
    trace: Annotated[bool, typer.Option(help="whether a decode step runs as a trace")] = True,
) -> None:
    """Write the ops of a pass with their modelled times, as the profiler would on a card."""
    from harness.targets import activate

    activate("emulator", mesh=mesh)
    from harness.run.outcomes import input_errors
    from harness.timing.device_model.architectures import WORMHOLE
    from harness.timing.device_model.pass_time import pass_time
    from harness.timing.device_model.roofline import Setting
    from harness.timing.profiler import op_report as report
    from harness.timing.profiler.profiler_file import read, seconds_of
    from harness.timing.shapes import model_pass
    from tt_llm import InputError
    from tt_llm.checkpoint import locate
    from tt_llm.config import ModelConfig
    from tt_llm.mesh import open_mesh, parse_mesh_shape

    try:
        if phase not in ("prefill", "decode"):
            raise InputError(f"phase {phase!r}: choose prefill or decode")
        kind: Phase = "prefill" if phase == "prefill" else "decode"
        shape = parse_mesh_shape(mesh)
        config = ModelConfig.from_folder(locate(model))
        if not 1 <= seq_len < config.max_position:
            raise InputError(f"seq-len {seq_len}: the model takes 1 to {config.max_position - 1}")
        logged = model_pass(config, open_mesh(shape), precision, kind, batch=batch, seq_len=seq_len)
        traced = trace and kind == "decode"
        time = pass_time(logged.ops, Setting(batch, seq_len, shape, traced), WORMHOLE)
        title = f"{config.name} {phase} batch {batch if kind == 'decode' else 1} S {seq_len} mesh {mesh} {precision}"
        report.write(out, logged, time, WORMHOLE, title)
        total = seconds_of(read(out).ops)  # as op-diff will have it: without the gap before the first op
    except input_errors() as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    bounds = ", ".join(
        f"{name} {seconds / time.seconds:.0%}" for name, seconds in sorted(time.by_bound().items())
    )
    typer.echo(
        f"{out}: {len(time.ops)} ops, {total * 1e3:.3f} ms modelled, not measured; waiting for {bounds}"
    )
    typer.echo(f"tt-perf-report {out}")


def op_diff(
    before: Annotated[Path, typer.Argument(help="a profiler's CSV, a card's or of `op-report`")],
    after: Annotated[Path, typer.Argument(help="another one of the same pass")],
    start_signpost: Annotated[str | None, typer.Option(help="the region begins behind its first one")] = None,
    end_signpost: Annotated[
        str | None,
        typer.Option(help="the region ends before its first one, its second where it begins behind it"),
    ] = None,
    ignore_signposts: Annotated[bool, typer.Option("--ignore-signposts", help="take the whole file")] = False,
    id_range: Annotated[str | None, typer.Option(help="lines of the file: 5-10, 31- or -12")] = None,
    tracing_mode: Annotated[
        bool, typer.Option("--tracing-mode", help="take rows in the file's order, not by HOST START TS")
    ] = False,
    no_merge_devices: Annotated[
        bool, typer.Option("--no-merge-devices", help="take each device's rows by themselves")
    ] = False,
) -> None:
    """Say which op was added, got slower, lost its sharding or changed fidelity. Exit 1 if the whole got slower.

    The region of both files is chosen as tt-perf-report chooses it, by its options; without any it is what follows the last
    signpost. Exit 2 where there is nothing to compare, or a time is missing.
    """
    from harness.timing.profiler.op_diff import SLOWER, changes, comparable
    from harness.timing.profiler.profiler_file import Region, ReportError, read, seconds_of

    region = Region(
        start_signpost, end_signpost, ignore_signposts, id_range, tracing_mode, not no_merge_devices
    )
    try:
        then, now = read(before, region), read(after, region)
        old_ops, new_ops, shared = comparable(then.ops, now.ops)
        old, new = seconds_of(old_ops), seconds_of(new_ops)
        if not shared:
            raise ReportError(f"{before} and {after} have no op in common: they are not of the same pass")
        if not old or not new:
            raise ReportError(
                f"{before if not old else after}: its ops took no time, so nothing can be compared"
            )
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
    for path, ops in ((before, then), (after, now)):
        for line in ops.warnings:
            typer.echo(f"warning: {path}: {line}", err=True)
    for change in changes(old_ops, new_ops):
        typer.echo(str(change))
    clocks = then.clock if then.clock == now.clock else f"{then.clock} and {now.clock}"
    typer.echo(f"{old * 1e3:.3f} -> {new * 1e3:.3f} ms, {new / old - 1:+.1%}, clock: {clocks}")
    raise typer.Exit(1 if new > SLOWER * old else 0)
