"""`tt-harness policy`: what a figure is held to, and why that and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import USAGE_EXIT

if TYPE_CHECKING:
    from harness.gates.policy import Entry, Facts, Part, Policy
    from harness.results.schema import Record

TITLES: dict[Part, str] = {
    "gates": "gate",
    "relative": "gate beside a baseline",
    "guidelines": "guideline",
}
TESTED = ("p_value", "q_value", "detectable")  # of a paired test

policy_app = typer.Typer(no_args_is_help=True, help="The gates and guidelines of ci/policy.yaml.")


@policy_app.callback()
def _group() -> None:
    """The gates and guidelines of ci/policy.yaml."""


@policy_app.command()
def explain(
    results: Annotated[Path, typer.Argument(help="a results file")],
    test: Annotated[str, typer.Option(help="part of the test's id")] = "",
    metric: Annotated[str | None, typer.Option(help="the metric, such as pcc (default: every one)")] = None,
    policy: Annotated[Path | None, typer.Option(help="gates (default: ci/policy.yaml)")] = None,
) -> None:
    """Say of each figure which rule of which line holds, which rules it beats, and the verdict under this policy."""
    from harness.gates.policy import Policy, PolicyError
    from harness.results.schema import ResultsError, read_results

    try:
        rules = Policy.load(policy)
        written = read_results(results)
        selection = [
            record
            for record in written.records
            if record.value is not None
            and record.metric in rules.directions
            and test in record.test
            and metric in (None, record.metric)
        ]
        if not selection:
            subject = metric or "metric of this policy"
            where = f" in a test named like {test!r}" if test else ""
            raise ResultsError(f"{results}: no {subject}{where}")
        for record in selection:
            for line in explained(record, rules, written.environment.emulator_mode):
                typer.echo(line)
    except (PolicyError, ResultsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None


def explained(record: Record, policy: Policy, mode: str | None) -> Iterator[str]:
    """What holds for a figure, in words. Raises PolicyError where nothing does, or two rules contradict each other."""
    from harness.gates.policy import judge

    facts: Facts = {
        "module": record.module,
        "precision": record.precision,
        "target": record.target,
        "phase": record.phase,
        "layer": record.layer,
        "mode": mode,
    }
    facts_text = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    yield f"{record.metric} {record.value:.6g} [{record.test}]"
    yield f"  it is of {facts_text}"
    rule = policy.resolve(
        metric=record.metric,
        module=record.module,
        precision=record.precision,
        target=record.target,
        phase=record.phase,
        layer=record.layer,
        mode=mode,
    )
    for part, title in TITLES.items():
        yield from _rules(title, policy.matching(part, record.metric, facts))
    if record.gate is None:
        yield "  verdict: none, shown for comparison"
        return
    assert record.value is not None
    verdict = judge(record.value, rule, record.details)
    tested = [f"{name} {record.details[name]:.3g}" for name in TESTED if name in record.details]
    yield f"  verdict: {verdict}" + (f" ({', '.join(tested)})" if tested else "")


def _rules(title: str, matching: tuple[Entry, ...]) -> Iterator[str]:
    if not matching:
        return
    first, *rest = matching
    yield f"  {title}: {first.terms}, {first.source}: {_selectors(first)}"
    for other in rest:
        why = (
            "equal, and says the same"
            if len(other.selectors) == len(first.selectors)
            else f"{len(other.selectors)} selectors against {len(first.selectors)}"
        )
        yield f"    before {other.terms}, {other.source}: {_selectors(other)} ({why})"


def _selectors(entry: Entry) -> str:
    if not entry.selectors:
        return "holds for all"
    return "holds for " + ", ".join(
        f"{name} {' or '.join(map(str, values))}" for name, values in entry.selectors
    )
