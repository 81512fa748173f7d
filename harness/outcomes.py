"""How results leave a test run: records out of test reports, and bad input as one line with exit status 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ci.policy import PolicyError
from goldens import GoldenError
from harness.emulator import OutOfMemoryError
from harness.errors import USAGE_EXIT, UserError
from harness.records import Record, record_from_json

RECORD_PROPERTY = "tt_record"
JUDGED_PROPERTY = "tt_judged"  # marks the tests that use the harness; others are none of its business


def input_errors() -> tuple[type[Exception], ...]:
    """The exceptions whose message is one line about something the user gave. Needs an active target."""
    from tt_llm import InputError

    return (InputError, GoldenError, PolicyError, UserError, OutOfMemoryError)


@contextmanager
def leave(*kinds: type[Exception]) -> Iterator[None]:
    """Ends the whole run, status 2, on an error that no further test can get past (default: any input error)."""
    caught = kinds or input_errors()
    try:
        yield
    except caught as error:
        pytest.exit(str(error), returncode=USAGE_EXIT)


def records_of(report: pytest.TestReport) -> list[Record]:
    """The records a finished test filed."""
    properties: list[tuple[str, Any]] = list(report.user_properties)
    return [record_from_json(value) for name, value in properties if name == RECORD_PROPERTY]


class Outcomes:
    """Collects the records of all tests, and adds one for each test that failed or was skipped without saying why."""

    def __init__(self, target: str, mesh: str) -> None:
        self.records: list[Record] = []
        self._target, self._mesh = target, mesh
        self._unexplained: dict[str, str] = {}

    def take(self, report: pytest.TestReport) -> None:
        """Reads one phase of a test; the last one, teardown, carries all of the test's records."""
        if not any(name == JUDGED_PROPERTY for name, _ in report.user_properties):
            return
        if report.failed or report.skipped:
            self._unexplained.setdefault(report.nodeid, _reason(report))
        if report.when != "teardown":
            return
        records = records_of(report)
        self.records += records
        reason = self._unexplained.pop(report.nodeid, None)
        if reason is not None and all(record.verdict == "pass" for record in records):
            self.records.append(
                Record(
                    test=report.nodeid,
                    module="none",
                    metric="none",
                    value=None,
                    verdict="not_compared",
                    target=self._target,
                    mesh=self._mesh,
                    precision=_precision(report.nodeid),
                    note=reason,
                )
            )


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return f"skipped: {report.longrepr[2]}"
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return f"{report.when} failed: {text.strip().splitlines()[0] if text.strip() else 'no message'}"


def _precision(nodeid: str) -> str:
    # The plugin gives every parametrised test its policy as the first id.
    return nodeid.partition("[")[2].rstrip("]").split("-")[0] or "none"
