"""The command line, `tt-harness`: run the suites, look after the goldens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from rich.console import Console
from typer.core import TyperGroup

from harness import project_folder
from harness.cli.commands.baseline import baseline_app
from harness.cli.commands.bisect import bisect
from harness.cli.commands.compare import compare
from harness.cli.commands.faults import faults
from harness.cli.commands.gate import gate
from harness.cli.commands.goldens import goldens_app
from harness.cli.commands.history import history
from harness.cli.commands.lm_eval import lm_eval
from harness.cli.commands.merge import merge
from harness.cli.commands.op_report import op_diff, op_report
from harness.cli.commands.policy import policy_app
from harness.cli.meshes import run_each
from harness.errors import USAGE_EXIT, ending
from harness.results.schema import ResultsError, read_results
from harness.run.options import DEFAULT_MODEL
from harness.targets import TARGETS
from harness.targets.emulator import DEFAULT_MODE, MODES


class Commands(TyperGroup):
    """A group of commands none of which ends with 1 by an exception."""

    def invoke(self, ctx: Any) -> Any:
        with ending():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help="Is the TT-NN LLM still right?"
)
app.add_typer(goldens_app, name="goldens")
app.add_typer(baseline_app, name="baseline")
app.add_typer(policy_app, name="policy")
app.command()(bisect)
app.command()(compare)
app.command()(faults)
app.command()(gate)
app.command()(history)
app.command("lm-eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(lm_eval)
app.command()(merge)
app.command("op-diff")(op_diff)
app.command("op-report")(op_report)

# Suite name -> folders of suites/. "quick", which the demo runs, leaves out the tests marked slow.
SUITES = {
    "modules": ("modules",),
    "metamorphic": ("metamorphic",),
    "model": ("model",),
    "accuracy": ("accuracy",),
    "quick": ("modules", "model", "metamorphic", "accuracy"),
    "conformance": ("conformance",),
    "counters": ("counters",),
    "devices": ("devices",),
    "features": ("features",),
    "latency": ("latency",),
    "numerics": ("numerics",),
    "all": (
        "modules",
        "model",
        "metamorphic",
        "accuracy",
        "conformance",
        "counters",
        "devices",
        "features",
        "latency",
        "numerics",
    ),
}

Model = Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")]
Store = Annotated[str | None, typer.Option("--goldens", help="the golden store: a folder or any fsspec URL")]
Corpus = Annotated[Path | None, typer.Option(help="reference text (default: CPython's language reference)")]


@app.command()
def run(
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- PYTEST ARGUMENTS]", help="for pytest, such as --junitxml=FILE or -k mlp"),
    ] = None,
    model: Model = DEFAULT_MODEL,
    target: Annotated[
        str, typer.Option(help=f"what answers `import ttnn`: {', '.join(TARGETS)}")
    ] = "emulator",
    mesh: Annotated[str, typer.Option(help="mesh shapes, rows x columns, comma-separated")] = "1x1",
    precision: Annotated[str, typer.Option(help="precisions, comma-separated")] = "accuracy",
    suite: Annotated[str, typer.Option(help=", ".join(SUITES))] = "quick",
    out: Annotated[Path, typer.Option(help="folder for results.json and report.html")] = Path("results"),
    goldens: Store = None,
    corpus: Corpus = None,
    emulator_mode: Annotated[
        str | None, typer.Option(help=f"{', '.join(MODES)} (default: {DEFAULT_MODE})", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the same run, cut short")] = False,
) -> None:
    """Run a suite, print the verdict, and write results.json and report.html. Missing goldens are made first."""
    if suite not in SUITES:
        _refuse(f"suite {suite!r}: choose one of {', '.join(SUITES)}")
    root = project_folder("suites")
    results = out / "results.json"
    arguments = [
        *(str(root / folder) for folder in SUITES[suite]),
        f"--rootdir={root.parent}",  # so that a test has one name, wherever this runs
        f"--tt-model={model}",
        f"--tt-target={target}",
        f"--tt-precision={precision}",
        "--tt-update-goldens",
        *([f"--tt-goldens={goldens}"] if goldens else []),
        *([f"--tt-corpus={corpus}"] if corpus else []),
        *([f"--tt-emulator-mode={emulator_mode}"] if emulator_mode else []),
        *(["--tt-resume"] if resume else []),
        # The report says what failed, a line each; tracebacks are for `pytest suites`.
        *(("-m", "not slow") if suite == "quick" else ()),
        *("-q", "--tb=no", "--no-header", "-rN", "-p", "no:cacheprovider"),
        # pytest warns that this process has imported the harness already; no test in it needs rewritten assertions.
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
        *(more or []),
    ]
    meshes = mesh.split(",")
    if len(set(meshes)) != len(meshes):
        _refuse(f"mesh {mesh!r}: names a shape twice")
    try:
        if len(meshes) > 1:
            status = run_each(meshes, arguments, out, typer.echo)
        else:
            status = int(pytest.main([*arguments, f"--tt-mesh={mesh}", f"--tt-results={results}"]))
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise typer.Exit(USAGE_EXIT)
        from harness.report import render, write_html
        from harness.report.github import tell_run
        from harness.run.journal import beside

        found = read_results(results)
        if len(meshes) > 1:
            render(found, Console())
            tell_run(found, typer.echo)
        write_html(found, out / "report.html")
        for file in (results, *(out / each / results.name for each in meshes)):
            beside(file).unlink(missing_ok=True)  # nothing is left to resume
    except ResultsError as error:
        _refuse(str(error))
    typer.echo(f"{results}\n{out / 'report.html'}")
    raise typer.Exit(status)


@app.command()
def doctor() -> None:
    """Say what is installed, which targets work here, and what mends what does not.

    Exit 1 if anything does not, but for what no package can bring and nothing here points to: a simulator, a card.
    """
    from harness.cli.doctor import findings

    healthy = True
    for finding in findings():
        healthy &= finding.ok or not finding.expected
        sign = "ok" if finding.ok else "NO" if finding.expected else "--"
        typer.echo(f"{sign}  {finding.what:22s} {finding.said}")
        if finding.mend:
            typer.echo(f"{'':26s} mend: {finding.mend}")
    raise typer.Exit(0 if healthy else 1)


def _refuse(line: str) -> None:
    typer.echo(f"error: {line}", err=True)
    raise typer.Exit(USAGE_EXIT)


if __name__ == "__main__":
    app()
