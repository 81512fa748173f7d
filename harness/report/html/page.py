"""What the page shows: the terminal's verdict and tables, the plots, and every test with its figures and its command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2

from harness.report import pictures, terminal
from harness.report.grid import Cell, Grid, grid
from harness.report.html.by_layer import by_layer
from harness.report.reproduce import command
from harness.report.tables.accuracy import ORDER
from harness.report.tokens import shown_tokens
from harness.report.value_sources import finding_lines
from harness.results.figures import bound, figure, label
from harness.results.schema import REFERENCE_TARGET, Environment, Record, Results


@dataclass(frozen=True)
class Fault:
    """A line of what is wrong, and the command that shows it again."""

    text: str
    command: str


@dataclass(frozen=True)
class Measured:
    """A record of a test."""

    metric: str
    value: str
    gate: str
    guideline: str
    verdict: str
    note: str


@dataclass(frozen=True)
class Test:
    """A test with all it measured."""

    name: str
    ok: bool
    command: str
    records: list[Measured]


def page(results: Results) -> str:
    """The page's text."""
    environment = results.environment
    bad = terminal.faults(results)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report.html", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html.jinja").render(
        headline=_headline(results),
        faults=[Fault(terminal.fault(r).plain.strip(), command(r, environment)) for r in bad],
        notes=[line.plain.strip() for line in terminal.not_compared(results)],
        misses=[
            line.plain.strip()
            for line in (*terminal.guideline_misses(results), *finding_lines(results.sources))
        ],
        environment=_environment(environment, results.records),
        pictures=pictures.every(results.records),
        grids=[*_some(by_layer(results.records)), *(grid(table) for table in terminal.tables(results))],
        tokens=shown_tokens(results.records),
        generated=[line.plain for line in terminal.generated(results.records)],
        modules=_modules(results),
    )


def _some(table: Grid | None) -> list[Grid]:
    return [] if table is None else [table]


def _headline(results: Results) -> Cell:
    line = terminal.headline(results)
    return Cell(line.plain, {"bold green": "good", "bold red": "bad"}.get(str(line.style), "unsure"), False)


def _environment(environment: Environment, records: Sequence[Record]) -> dict[str, str]:
    mode = terminal.MODES.get(environment.emulator_mode or "", "")
    versions = {name: version or "absent" for name, version in environment.versions.items()}
    return {
        "model": environment.model,
        "target": environment.target + mode,
        "mesh": environment.mesh,
        "records": f"{len(records):,}",
        "commit": environment.commit or "unknown",
        "weights": environment.weights_digest or "none read",
        "goldens": environment.goldens or "none read",
        "machine": f"{environment.machine}, {environment.platform}",
        "Python": environment.python,
        **versions,
    }


def _modules(results: Results) -> dict[str, list[Test]]:
    """The tests by module, in the order data meets the modules; a test stands at the module its first record is of."""
    tests: dict[str, list[Record]] = {}
    for record in results.records:
        tests.setdefault(f"{record.test} {record.mesh}", []).append(record)
    modules: dict[str, list[Test]] = {}
    for records in tests.values():
        modules.setdefault(records[0].module, []).append(_test(records, results.environment))
    return {name: modules[name] for name in sorted(modules, key=_place)}


def _test(records: Sequence[Record], environment: Environment) -> Test:
    first = records[0]
    ok = all(r.verdict in ("pass", "not_compared") or r.target == REFERENCE_TARGET for r in records)
    return Test(
        name=f"{first.test.rpartition('/')[2]}, mesh {first.mesh}",
        ok=ok,
        command=command(first, environment),
        records=[_measured(r) for r in records],
    )


def _measured(r: Record) -> Measured:
    name = label(r.metric) if r.metric != "none" else "the test itself"
    clock = f" ({r.clock} clock)" if r.clock else ""
    gate = "none" if r.gate is None else f"{terminal.SIGNS[r.direction]} {bound(r.metric, r.gate, r.unit)}"
    guideline = bound(r.metric, r.guideline, r.unit)
    return Measured(name + clock, figure(r.metric, r.value, r.unit), gate, guideline, r.verdict, r.note)


def _place(module: str) -> tuple[int, str]:
    return (ORDER.index(module) if module in ORDER else len(ORDER), module)
