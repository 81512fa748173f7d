"""Where the values of a run came from, as target shadow counts it: a test's share travels home with its report, as its records do."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from harness.gates.policy import Policy, judge
from harness.results.catalogue import CONFLICTS
from harness.results.schema import Record
from harness.results.sources import OpSource, Sources, joined
from harness.targets import shadow

SOURCES_PROPERTY = "tt_sources"  # in the report of a test's last phase


def taken() -> dict[str, Any]:
    """What this process counted since it was last asked, as plain JSON values; empty on any other target."""
    coverage = shadow.take_coverage()
    if not coverage.counts and not coverage.findings:
        return {}
    ops = [
        OpSource(
            op=op,
            source=source.word,
            calls=count.calls,
            in_ttnn=count.in_ttnn,
            in_values=count.in_values,
            reason=coverage.reasons.get((op, source), ""),
        )
        for (op, source), count in coverage.counts.items()
    ]
    unseen = coverage.reasons.get((shadow.UNSEEN, shadow.Source.NONE))
    if unseen is not None:
        ops.append(
            OpSource(
                op=shadow.UNSEEN,
                source=shadow.Source.NONE.word,
                calls=0,
                in_ttnn=0.0,
                in_values=0.0,
                reason=unseen,
            )
        )
    return asdict(Sources(ops=tuple(ops), findings=tuple(coverage.findings)))


def conflicts(base: Record, policy: Policy) -> list[Record]:
    """A record for each op whose results the emulator and the real ttnn did not have alike since `taken`; none on other targets."""
    records = []
    for op, (what, calls) in shadow.coverage().conflicts.items():
        rule = policy.resolve(metric=CONFLICTS, module=op, precision=base.precision, target=base.target)
        records.append(
            replace(
                base,
                module=op,
                metric=CONFLICTS,
                value=float(calls),
                gate=rule.gate,
                guideline=rule.guideline,
                direction=rule.direction,
                verdict=judge(float(calls), rule),
                note=f"{op}: {what}",
            )
        )
    return records


def of_what_was_read() -> str | None:
    """The weakest source among the values that this process read back since `taken`; None on any other target."""
    weakest = shadow.coverage().weakest_read
    return None if weakest is None else weakest.word


class Gathered:
    """A plugin that adds them up, in the process that the reports of all workers reach."""

    def __init__(self) -> None:
        self._parts: list[Sources] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes a test's share."""
        if report.when == "teardown":
            shares: list[Any] = [value for name, value in report.user_properties if name == SOURCES_PROPERTY]
            self._parts += [Sources(**share) for share in shares[-1:]]

    @property
    def sources(self) -> Sources | None:
        """Of the whole run; None where no op was counted."""
        return joined(self._parts) if self._parts else None
