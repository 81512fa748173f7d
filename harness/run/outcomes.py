"""How results leave a test run: records out of test reports, and bad input as one line with exit status 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from goldens import GoldenError, GoldenSpec
from harness.emulator import OutOfMemoryError
from harness.errors import USAGE_EXIT, UserError
from harness.gates.policy import PolicyError
from harness.results.catalogue import CONFLICTS
from harness.results.false_discovery import controlled, is_statistical
from harness.results.figures import bound, figure
from harness.results.schema import Record, ResultsError, Verdict, record_from_json
from harness.run.goldens import FIXTURE
from harness.run.journal import Journal
from harness.run.options import Options
from harness.run.time_shares import SPENT_PROPERTY
from harness.run.value_sources import SOURCES_PROPERTY
from harness.run.worker_groups import without_group
from harness.targets import TARGETS

RECORD_PROPERTY = "tt_record"
# What a test that uses the harness says before it has judged anything; others are none of the harness's business.
JUDGED_PROPERTY = "tt_judged"
END_PROPERTY = "tt_end"  # why the run ends with this test
TRIES_PROPERTY = "tt_tries"  # of a test that ran more than once: how often; its records are the last try's
PHASES = ("setup", "call", "teardown")
# A plugin that tries a test again reports another outcome before it does
ENDED = ("passed", "failed", "skipped")


def input_errors() -> tuple[type[Exception], ...]:
    """The exceptions whose message is one line about something the user gave. Needs an active target."""
    from tt_llm import InputError

    return (InputError, GoldenError, PolicyError, UserError, ResultsError, OutOfMemoryError)


# pytest.fail.Exception is set on a function, where mypy sees no class.
class EndOfRun(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """Fails the test it is raised in, and the plugin ends the run there with status 2."""


@contextmanager
def leave(*kinds: type[Exception]) -> Iterator[None]:
    """In a test: ends the whole run on an error that no further test can get past (default: any input error)."""
    caught = kinds or input_errors()
    try:
        yield
    except caught as error:
        raise EndOfRun(str(error), pytrace=False) from error


def unjudged(nodeid: str, options: Options, parameters: Mapping[str, object]) -> Record:
    """What all records of a test share, as the record that says that nothing was compared."""
    spec = parameters.get(FIXTURE)
    precision = str(parameters.get("tt_precision", "none"))
    base = Record(
        test=without_group(nodeid),
        module="none",
        metric="none",
        value=None,
        verdict="not_compared",
        target=options.target,
        mesh=options.mesh,
        precision=precision,
    )
    if not isinstance(spec, GoldenSpec):
        return base
    return replace(
        base,
        module=spec.module,
        layer=spec.layer,
        phase=spec.phase,
        batch=spec.batch,
        seq_len=spec.total_len,
        golden=spec.name,
    )


def begin_try(item: pytest.Item) -> None:
    """Before each setup of a test: forgets what an earlier try of it filed, and counts the tries."""
    tries = item.stash[_TRIES] = item.stash.get(_TRIES, 0) + 1
    if tries > 1:
        others = [one for one in item.user_properties if one[0] not in (RECORD_PROPERTY, TRIES_PROPERTY)]
        item.user_properties[:] = [*others, (TRIES_PROPERTY, tries)]


_TRIES = pytest.StashKey[int]()


def records_of(report: pytest.TestReport) -> list[Record]:
    """The records a finished test filed."""
    properties: list[tuple[str, Any]] = list(report.user_properties)
    return [record_from_json(value) for name, value in properties if name == RECORD_PROPERTY]


class Outcomes:
    """A plugin that collects the records of all tests.

    It adds one for each test that ended without saying why: a regression for a failed one, a pass for one that files no
    figure and passed, else not compared. Of a test that was tried several times, as by pytest-rerunfailures, the last try
    counts, and its records say how many there were.
    """

    def __init__(self, options: Options, journal: Journal | None = None) -> None:
        self._filed: dict[str, list[Record]] = dict(journal.finished) if journal else {}
        self._controlled: list[Record] | None = None
        self._earlier_failed = any(_failed(r) and not is_statistical(r) for r in self.records)
        self._journal = journal
        self._options = options
        self._unexplained: dict[str, tuple[Verdict, str]] = {}
        self._tried_again: set[str] = set()  # of which a report of the try that failed may still come
        self._deaths: Counter[str] = Counter()  # tries in which a worker died

    @property
    def records(self) -> list[Record]:
        """All of them; with the verdicts of statistical gates once `control_false_discoveries` was called."""
        if self._controlled is not None:
            return self._controlled
        return [record for records in self._filed.values() for record in records]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes the report, and ends the run where a test found that it must."""
        self.take(report)
        properties = report.user_properties
        if report.outcome in ENDED:  # else pytest-retry will report the next try with this same object
            report.user_properties = _readable(properties)
        # Here and not in the test: an xdist worker that exits looks like one that crashed, and its message is lost.
        for line in (value for name, value in properties if name == END_PROPERTY):
            pytest.exit(str(line), returncode=USAGE_EXIT)

    def take(self, report: pytest.TestReport) -> None:
        """Reads one phase of a test; the last one, teardown, carries all of the test's records."""
        if self._is_of_a_lost_try(report):
            return
        if report.when not in PHASES and (self._filed or self._options.results):
            # A worker of pytest-xdist died in this test, and with it what the test had filed.
            base = unjudged(report.nodeid, self._options, {})
            note = str(report.longrepr).partition("\n")[0]
            self._keep(report.nodeid, [replace(base, verdict="regression", note=note)])
        judged: list[Any] = [value for name, value in report.user_properties if name == JUDGED_PROPERTY]
        if not judged:
            return
        if report.failed or report.skipped:
            verdict: Verdict = "regression" if report.failed else "not_compared"
            self._unexplained.setdefault(report.nodeid, (verdict, _reason(report)))
        if report.when != "teardown":
            return
        records = records_of(report)
        unjudged_test = record_from_json(judged[0])
        ended = self._unexplained.pop(report.nodeid, None)
        if ended is None and not records:
            ended = self._without_records(unjudged_test)
        explained = any(_failed(record) and record.metric != CONFLICTS for record in records)
        if ended is not None and not explained:
            records.append(replace(unjudged_test, verdict=ended[0], note=ended[1]))
        tries = next((value for name, value in report.user_properties if name == TRIES_PROPERTY), 1)
        assert isinstance(tries, int)
        self._keep(report.nodeid, records, tries)

    def _is_of_a_lost_try(self, report: pytest.TestReport) -> bool:
        """Whether the test is tried again after this, so that nothing of it counts."""
        test = report.nodeid
        if report.outcome not in ENDED:
            self._tried_again.add(test)
            self._deaths[test] += report.when not in PHASES
            return True
        if report.when == "teardown" and test in self._tried_again:
            self._tried_again.remove(test)
            self._unexplained.pop(test, None)
            return True
        self._tried_again.discard(test)
        return False

    def _keep(self, nodeid: str, records: list[Record], tries: int = 1) -> None:
        test = without_group(nodeid)
        tries += self._deaths[nodeid]
        if tries > 1:
            records = [replace(record, tries=tries) for record in records]
        self._filed[test] = records
        if self._journal is not None:
            self._journal.add(test, records)

    def control_false_discoveries(self) -> bool:
        """Gives the statistical gates their verdicts, which need all of the run's.

        Whether what pytest has not counted as a failed test fails the run: such a verdict, a result unlike the real ttnn's, or
        a test of an earlier run that this one goes on with.
        """
        self._controlled = controlled(self.records)
        statistical = any(is_statistical(r) and r.verdict != "pass" for r in self.records)
        conflict = any(r.metric == CONFLICTS and _failed(r) for r in self.records)
        return statistical or conflict or self._earlier_failed

    def _without_records(self, test: Record) -> tuple[Verdict, str]:
        """What a test that passed has shown that filed nothing: its own assertions hold, if there were numbers to judge."""
        if test.golden is not None:
            return "not_compared", "passed, but compared nothing with its golden"
        if not TARGETS[self._options.target].computes:
            return "not_compared", f"passed, on zeros: {self._options.target} computes nothing"
        return "pass", "its own assertions hold; it files no figure"


def _failed(record: Record) -> bool:
    return record.verdict not in ("pass", "not_compared")


def _readable(properties: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Records as people read them, for whoever shows a report's properties, such as --junitxml."""
    sections: list[tuple[str, object]] = []
    for name, value in properties:
        if name == JUDGED_PROPERTY and isinstance(value, dict):
            sections += [(key, value[key]) for key in ("target", "mesh", "precision")]
        elif name == RECORD_PROPERTY and isinstance(value, dict):
            record = record_from_json(value)
            layer = "" if record.layer is None else f" layer {record.layer}"
            gate = "" if record.gate is None else f", gate {bound(record.metric, record.gate, record.unit)}"
            text = f"{figure(record.metric, record.value, record.unit)}{gate}: {record.verdict} {record.note}"
            sections.append((f"{record.module}{layer} {record.metric}", text.strip()))
        elif name in (SPENT_PROPERTY, SOURCES_PROPERTY):
            continue
        elif name == TRIES_PROPERTY:
            sections.append(("tries", value))
        else:
            sections.append((name, value))
    return sections


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return f"{report.when} failed: {text.strip().splitlines()[0] if text.strip() else 'no message'}"
