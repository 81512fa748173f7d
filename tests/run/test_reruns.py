"""Tests that another plugin runs again after a failure: the last try counts, and the records say how many there were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

# A test whose first tries miss the gate, and one that fails before it compares anything.
WAVERING = """
import pathlib

import pytest

def nth(name):
    file = pathlib.Path(name)
    tries = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(tries))
    return tries

@pytest.mark.tt_golden("mlp", layer=0, phase="prefill", seq_len=[32])
def test_wavers(tt_module, golden, compare):
    factor = 1.0 if nth("wavers") > {wrong} else 2.0
    compare(tt_module(golden.inputs) * factor, golden.output)

@pytest.mark.tt_golden("mlp", layer=0, phase="prefill", seq_len=[64])
def test_crashes(tt_module, golden, compare):
    if nth("crashes") <= {wrong}:
        raise RuntimeError("no answer")
    compare(tt_module(golden.inputs), golden.output)

@pytest.mark.tt_golden("mlp", layer=0, phase="prefill", seq_len=[32])
def test_steady(tt_module, golden, compare):
    compare(tt_module(golden.inputs), golden.output)
"""
# What pytest-rerunfailures does: the whole protocol again, each phase of a failed try reported, the failed one as "rerun".
WHOLE = """
import pytest
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for number in range(2):
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        again = number == 0 and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            return True
        item._initrequest()

def pytest_report_teststatus(report):
    return ("rerun", "R", "RERUN") if report.outcome == "rerun" else None
"""
# What flaky does: the whole protocol again, the report of the phase that failed held back.
SILENT = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for number in range(2):
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        again = number == 0 and any(report.failed for report in reports)
        for report in reports:
            if not (again and report.failed):
                item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            return True
        item._initrequest()
"""
# What pytest-retry does: set-up and call again while the call's report is made, one teardown at the end.
WITHIN = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when != "call" or not report.failed:
        return report
    item.ihook.pytest_runtest_teardown(item=item, nextitem=None)
    report.outcome = "retried"
    item.ihook.pytest_runtest_logreport(report=report)
    item._initrequest()
    item.ihook.pytest_runtest_setup(item=item)
    again = pytest.CallInfo.from_call(lambda: item.ihook.pytest_runtest_call(item=item), when="call")
    second = pytest.TestReport.from_item_and_call(item, again)
    report.outcome, report.longrepr = second.outcome, second.longrepr
    return report

def pytest_report_teststatus(report):
    return ("retried", "R", "RETRIED") if report.outcome == "retried" else None
"""
PLUGINS = {"whole": WHOLE, "silent": SILENT, "within": WITHIN}


def verdicts(records: list[dict[str, Any]], test: str) -> set[tuple[str, int]]:
    return {(record["verdict"], record["tries"]) for record in records if f"::{test}[" in record["test"]}


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_second_try_counts(judge, tmp_path: Path, plugin: str, workers: tuple[str, ...]) -> None:
    """Red, then green: as many records as a test that is green at once, all of them pass, and each says two tries."""
    (tmp_path / "conftest.py").write_text(PLUGINS[plugin])
    result = judge(WAVERING.format(wrong=1), *workers)
    assert result.status == 0, result
    wavers, steady = (
        [r for r in result.records if f"::{name}[" in r["test"]] for name in ("test_wavers", "test_steady")
    )
    assert [r["metric"] for r in wavers] == [r["metric"] for r in steady]
    assert verdicts(result.records, "test_wavers") == {("pass", 2)}
    assert verdicts(result.records, "test_crashes") == {("pass", 2)}
    assert verdicts(result.records, "test_steady") == {("pass", 1)}
    assert "2 tries, of which the last counts: test_mine.py::test_wavers" in result.out
    assert f"VERDICT: pass, all {len(result.records)} checks" in result.out


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_test_that_stays_red_is_red_once(judge, tmp_path: Path, plugin: str) -> None:
    """Its records are those of the last try, and the status is 1."""
    (tmp_path / "conftest.py").write_text(PLUGINS[plugin])
    result = judge(WAVERING.format(wrong=9))
    assert result.status == 1, result
    assert verdicts(result.records, "test_wavers") == {("regression", 2), ("pass", 2)}
    (crash,) = (record for record in result.records if "::test_crashes[" in record["test"])
    assert (crash["verdict"], crash["tries"]) == ("regression", 2)
    wavers = [r["metric"] for r in result.records if "::test_wavers[" in r["test"]]
    assert len(wavers) == len(set(wavers)), "a metric of the first try is gone"


def test_a_run_that_is_killed_between_two_tries_has_not_finished_the_test(judge, tmp_path: Path) -> None:
    """The journal holds nothing of a try that is tried again, so that resuming runs the test."""
    (tmp_path / "conftest.py").write_text(WHOLE.replace("item._initrequest()", "import os; os._exit(9)"))
    assert judge(WAVERING.format(wrong=1)).status == 9
    assert not (tmp_path / "results.jsonl").exists()
