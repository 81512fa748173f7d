"""A pytest plugin that watches a run of the suites with a fault planted: which suite saw it first, and by what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Kill:
    """The first failure of a suite: the test, and the figure that missed its gate, or what an assertion said."""

    test: str
    metric: str  # "assertion" where no figure was filed
    value: float | None
    gate: float | None
    said: str


MODEL = {"generator", "tt_module"}  # the fixtures that run the model or a part of it


@dataclass(eq=False)  # pytest keeps its plugins in a set
class Probe:
    """`early`: a suite ends with its first failure. `leave_out`: tests that say nothing, because they are red anyway."""

    early: bool
    leave_out: frozenset[str] = frozenset()
    kills: dict[str, Kill] = field(default_factory=dict)
    red: list[str] = field(default_factory=list)  # node ids
    raised: list[str] = field(default_factory=list)  # what was no verdict: an exception that is no assertion
    tests: dict[str, int] = field(default_factory=dict)  # how many ran, by suite

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leaves what cannot see a fault: tests without the model, and those that are red without one."""
        useless = [item for item in items if not MODEL & {*_fixtures(item)} or item.nodeid in self.leave_out]
        if useless:
            config.hook.pytest_deselected(items=useless)
            items[:] = [item for item in items if item not in useless]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skips the rest of a suite that has seen the fault."""
        suite = _suite(item)
        if self.early and suite in self.kills:
            pytest.skip("its suite has seen the fault")
        self.tests[suite] = self.tests.get(suite, 0) + 1

    def pytest_exception_interact(self, node: pytest.Item, call: Any, report: Any) -> None:
        """Files a failure: a missed gate or an assertion is a kill, anything else is not."""
        if not isinstance(node, pytest.Item):
            self.raised.append(f"{node.nodeid}: {_first_line(call.excinfo.value)}")
            return
        self.red.append(node.nodeid)
        error = call.excinfo.value
        if not isinstance(error, AssertionError):
            self.raised.append(f"{node.nodeid}: {type(error).__name__}: {_first_line(error)}")
        elif _suite(node) not in self.kills:
            self.kills[_suite(node)] = _kill(node, error)


def _kill(item: pytest.Item, error: AssertionError) -> Kill:
    from harness.run.outcomes import RECORD_PROPERTY

    for name, record in item.user_properties:
        if name == RECORD_PROPERTY and isinstance(record, dict) and record["verdict"] == "regression":
            value = record["value"]
            metric = f"{record['module']} {record['metric']}".strip()
            number = float(value) if value is not None else None
            return Kill(item.nodeid, metric, number, record["gate"], _first_line(error))
    return Kill(item.nodeid, "assertion", None, None, _first_line(error))


def _suite(item: pytest.Item) -> str:
    return Path(item.path).parent.name


def _fixtures(item: pytest.Item) -> tuple[str, ...]:
    return tuple(getattr(item, "fixturenames", ()))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
