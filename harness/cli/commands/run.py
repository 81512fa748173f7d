"""`tt-harness run`: a suite on a target, its verdict, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console

from harness import project_folder
from harness.cli.arguments import Corpus, Model, Store
from harness.cli.meshes import run_each
from harness.cli.suites import suites
from harness.errors import USAGE_EXIT
from harness.results.schema import ResultsError, read_results
from harness.run.options import DEFAULT_MODEL
from harness.targets import DEFAULT_TARGET, TARGETS
from harness.targets.emulator import DEFAULT_MODE, MODES

SUITES = suites()


def run(
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- PYTEST ARGUMENTS]", help="for pytest, such as --junitxml=FILE or -k mlp"),
    ] = None,
    model: Model = DEFAULT_MODEL,
    target: Annotated[
        str, typer.Option(help=f"what answers `import ttnn`: {', '.join(TARGETS)}")
    ] = DEFAULT_TARGET,
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

        written = read_results(results)
        if len(meshes) > 1:
            render(written, Console())
            tell_run(written, typer.echo)
        write_html(written, out / "report.html")
        for file in (results, *(out / each / results.name for each in meshes)):
            beside(file).unlink(missing_ok=True)  # nothing is left to resume
    except ResultsError as error:
        _refuse(str(error))
    typer.echo(f"{results}\n{out / 'report.html'}")
    raise typer.Exit(status)


def _refuse(line: str) -> None:
    typer.echo(f"error: {line}", err=True)
    raise typer.Exit(USAGE_EXIT)
