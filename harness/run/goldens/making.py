"""Making the goldens a run lacks, with a progress bar that says which."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from goldens import GoldenSpec
from harness.run.session import Session
from harness.run.time_shares import clocked


def make_missing(session: Session, specs: Sequence[GoldenSpec], remake: bool = False) -> int:
    """Makes those of the goldens that the store lacks or holds for other weights or text, or all; returns how many."""
    with clocked("goldens"):
        lacking = list(dict.fromkeys(specs)) if remake else session.missing(specs)
    if not lacking:
        return 0
    console = Console(stderr=True)
    asked = "asked for anew" if remake else "missing or stale"
    console.print(
        f"{len(lacking)} of {len(set(specs))} goldens are {asked} in {session.store.url}: "
        "making them from the fp32 PyTorch model, once",
        highlight=False,
        soft_wrap=True,
    )
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with clocked("goldens"), Progress(*columns, console=console) as progress:
        task = progress.add_task("goldens", total=len(lacking))
        session.make(
            lacking,
            lambda done, total, name: progress.update(task, completed=done, description=name or "goldens"),
            remake,
        )
    return len(lacking)
