"""`tt-harness goldens`: what the store holds, and making, checking and pruning it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import Corpus, Model, Store
from harness.errors import USAGE_EXIT
from harness.run.options import DEFAULT_MODEL, Options

if TYPE_CHECKING:
    from harness.run.session import Session

goldens_app = typer.Typer(
    no_args_is_help=True, help="The golden PyTorch outputs the device is compared with."
)


@goldens_app.command("list")
def list_goldens(model: Model = DEFAULT_MODEL, goldens: Store = None, corpus: Corpus = None) -> None:
    """Every stored golden: key, whether the suites need it, size and name."""
    from harness.run.goldens import suites_goldens, uses

    with _session(Options(model=model, model_given=True, goldens=goldens, corpus=corpus)) as session:
        for name, key, use in uses(session, suites_goldens(model)):
            typer.echo(f"{key[:12]}  {use:6s} {session.store.size(name, key) / 2**20:8.1f} MiB  {name}")


@goldens_app.command()
def make(
    model: Model = DEFAULT_MODEL,
    goldens: Store = None,
    corpus: Corpus = None,
    everything: Annotated[bool, typer.Option("--all", help="make anew what is there and right, too")] = False,
    device_map: Annotated[
        str | None, typer.Option(help="accelerate's, such as auto: for a model that needs several devices")
    ] = None,
) -> None:
    """Make every golden the suites need that is missing, stale or corrupt."""
    options = Options(model=model, model_given=True, goldens=goldens, corpus=corpus, device_map=device_map)
    with _session(options) as session:
        from harness.run.goldens import make_missing, suites_goldens

        for problem in session.store.verify(remove=True):
            typer.echo(f"removed: {problem}", err=True)
        specs = suites_goldens(model)
        names = make_missing(session, specs, everything)
        typer.echo(f"{len(specs)} goldens in {session.store.url}, {names} of them made now")


@goldens_app.command()
def verify(model: Model = DEFAULT_MODEL, goldens: Store = None) -> None:
    """Check every stored golden against its digests; exit 1 if any is corrupt."""
    with _session(Options(model=model, model_given=True, goldens=goldens)) as session:
        problems = session.store.verify()
        for problem in problems:
            typer.echo(str(problem), err=True)
        typer.echo(f"{len(session.store.list())} goldens in {session.store.url}, {len(problems)} corrupt")
    raise typer.Exit(1 if problems else 0)


@goldens_app.command()
def prune(
    model: Model = DEFAULT_MODEL,
    goldens: Store = None,
    corpus: Corpus = None,
    yes: Annotated[bool, typer.Option("--yes", help="delete them; without it they are only shown")] = False,
) -> None:
    """Delete the goldens that no suite names, those of other weights or texts, and what broken writes left behind."""
    from harness.run.goldens import suites_goldens, uses

    with _session(Options(model=model, model_given=True, goldens=goldens, corpus=corpus)) as session:
        unneeded = [entry for entry in uses(session, suites_goldens(model)) if entry[2] != "needed"]
        left = session.store.leftovers()
        freed = sum(session.store.size(name, key) for name, key, _ in unneeded) + sum(left.values())
        for name, key, use in unneeded:
            typer.echo(f"{key[:12]}  {use:6s}  {name}")
            if yes:
                session.store.remove(name, key)
        for path in left:
            typer.echo(f"left behind: {path}")
        if yes:
            session.store.remove_leftovers()
        outcome = "deleted" if yes else "would be deleted; --yes does it"
        typer.echo(
            f"{len(unneeded)} goldens and {len(left)} files left behind, {freed / 2**20:.1f} MiB in {session.store.url}: {outcome}"
        )


@contextmanager
def _session(options: Options) -> Iterator[Session]:
    from harness.targets import activate

    activate("emulator")
    from harness.run.outcomes import input_errors
    from harness.run.session import Session

    try:
        session = Session(options)
        session.check()
        yield session
    except input_errors() as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None
