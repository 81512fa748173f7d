"""Where the time of a run goes: start-up, goldens, metrics, and the model on its target, which is what is left of the tests.

A process clocks what it spends on goldens and metrics; a test's share travels home with its report, as its records do.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import pytest

from harness.run.worker_groups import without_group

Part = Literal["goldens", "metrics"]
SPENT_PROPERTY = "tt_spent"  # in the report of a test's last phase: the seconds of each part
SLOWEST = 4  # tests that are named

_START = time.monotonic()  # when pytest loads the plugin
_spent: dict[Part, float] = {}


@contextmanager
def clocked(part: Part) -> Iterator[None]:
    """What happens inside is time of this part."""
    start = time.monotonic()
    try:
        yield
    finally:
        _spent[part] = _spent.get(part, 0) + time.monotonic() - start


def taken() -> dict[Part, float]:
    """The seconds of each part that this process has spent since it was last asked."""
    seconds = dict(_spent)
    _spent.clear()
    return seconds


class Spent:
    """A plugin that adds them up, in the process that the reports of all workers reach."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._start_up: float | None = None  # None: no test has started
        self._parts: dict[Part, float] = {"goldens": 0, "metrics": 0}
        self._outside = 0.0  # of the parts, the seconds before the first test
        self._tests: defaultdict[str, float] = defaultdict(float)
        self._processes: set[str] = set()

    def pytest_runtest_logstart(self) -> None:
        """The first test ends the start-up, of which the making of goldens is no part."""
        if self._start_up is None:
            self._outside = self._add(taken())
            self._start_up = time.monotonic() - _START - self._outside

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds a phase of a test; the last one says what the whole test spent."""
        self._tests[without_group(report.nodeid)] += report.duration
        self._processes.add(getattr(report, "worker_id", ""))
        if report.when == "teardown":
            # Of a test that was tried several times, earlier tries' come first.
            spent = [value for name, value in report.user_properties if name == SPENT_PROPERTY]
            self._add(spent[-1] if spent else {})  # type: ignore[arg-type]

    def lines(self) -> Sequence[str]:
        """A line on the shares of each part, and one on the slowest tests of this run; none where no test has run."""
        if self._start_up is None:
            return []
        tests = sum(self._tests.values())
        model = tests + self._outside - sum(self._parts.values())
        parts = [("start-up", self._start_up), *self._parts.items(), (f"the model on {self._target}", model)]
        whole = sum(seconds for _, seconds in parts)
        shares = ", ".join(f"{name} {s:.1f} s ({s / whole:.0%})" for name, s in parts)
        workers = f", {len(self._processes)} workers" if len(self._processes) > 1 else ""
        slowest = sorted(self._tests, key=self._tests.__getitem__, reverse=True)[:SLOWEST]
        names = ", ".join(f"{test.rpartition('/')[2]} {self._tests[test]:.1f} s" for test in slowest)
        return [
            f"time: {time.monotonic() - _START:.1f} s{workers}: {shares}",
            f"slowest of {len(self._tests)} tests: {names}",
        ]

    def _add(self, spent: dict[Part, float]) -> float:
        for part, seconds in spent.items():
            self._parts[part] += seconds
        return sum(spent.values())
