"""The goldens of a run: which ones tests name, making those that the store lacks, and which of a store's nobody needs.

`@pytest.mark.tt_golden(...)` names them: a test runs once for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from goldens import FIRST_PROMPTS, N_WINDOWS, GoldenError, GoldenSpec, make
from harness import project_folder
from harness.errors import UserError
from harness.run.time_shares import clocked

if TYPE_CHECKING:
    from harness.run.session import Session  # at run time only after a target is in place

MARKER = (
    "tt_golden(module, *, layer=None, phase='prefill', seq_len=0, batch=1, ...): run the test once per golden; "
    "any argument may be a list, a negative layer counts from the last"
)
FIXTURE = "tt_golden_spec"
BATCHES = {"generate": FIRST_PROMPTS, "text": N_WINDOWS}  # where a marker gives none

Use = Literal["needed", "stale", "unused"]


def specs_of(markers: Iterable[pytest.Mark], n_layers: int) -> list[GoldenSpec]:
    """The goldens a test's markers name, each once. Raises GoldenError for one that cannot be."""
    return list(dict.fromkeys(spec for marker in markers for spec in _combinations(marker, n_layers)))


def _combinations(marker: pytest.Mark, n_layers: int) -> list[GoldenSpec]:
    arguments: dict[str, Any] = dict(marker.kwargs)
    if len(marker.args) != 1:
        raise GoldenError(f"tt_golden{marker.args}: give the module first and alone, the rest by name")
    unknown = set(arguments) - {field.name for field in dataclasses.fields(GoldenSpec)}
    if unknown:
        raise GoldenError(f"tt_golden: no argument {', '.join(sorted(unknown))}; {MARKER}")
    arguments["module"] = marker.args[0]
    choices = [[(name, value) for value in _listed(values)] for name, values in arguments.items()]
    specs = []
    for combination in itertools.product(*choices):
        fields = dict(combination)
        if fields["module"] in BATCHES:
            fields.setdefault("batch", BATCHES[fields["module"]])
        layer = fields.get("layer")
        if layer is not None and not -n_layers <= layer < n_layers:
            continue  # a test of layer 14 has nothing to say of a model with 2
        if layer is not None:
            fields["layer"] = layer % n_layers
        specs.append(GoldenSpec(**fields))
    return specs


def _listed(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list | tuple) else [values]


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
        make(
            lacking,
            session.reference,
            session.text,
            session.store,
            remake=remake,
            progress=lambda done, _, name: progress.update(
                task, completed=done, description=name or "goldens"
            ),
        )
    session.reference.cache_clear()  # the fp32 weights are not needed again
    return len(lacking)


class _Collector:
    """A plugin that keeps the goldens of the tests collected."""

    def __init__(self) -> None:
        self.specs: list[GoldenSpec] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            callspec = getattr(item, "callspec", None)
            if callspec is not None and FIXTURE in callspec.params:
                self.specs.append(callspec.params[FIXTURE])


def suites_goldens(model: str) -> list[GoldenSpec]:
    """The goldens that the tests of `suites` name, each once, slow tests included. Raises UserError if they do not load."""
    collector = _Collector()
    output = io.StringIO()
    arguments = [str(project_folder("suites")), "--collect-only", "-q", f"--tt-model={model}"]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main([*arguments, "-p", "no:cacheprovider"], plugins=[collector])
    if status != pytest.ExitCode.OK:
        lines = [line for line in output.getvalue().splitlines() if line.strip()]
        raise UserError(f"the suites cannot be collected: {lines[-1] if lines else f'status {status}'}")
    return list(dict.fromkeys(collector.specs))


def uses(session: Session, specs: Iterable[GoldenSpec]) -> Sequence[tuple[str, str, Use]]:
    """Name, key and use of every stored golden: "stale" is one that `specs` name, made for other weights or another text."""
    keys = {spec.name: session.golden_key(spec) for spec in specs}
    entries: list[tuple[str, str, Use]] = []
    for name, key in session.store.list():
        use: Use = "unused" if name not in keys else "needed" if keys[name] == key else "stale"
        entries.append((name, key, use))
    return entries
