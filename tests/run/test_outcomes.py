"""How test reports become records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from goldens import GoldenSpec
from harness.results.schema import Record, record_to_json
from harness.run.options import Options
from harness.run.outcomes import JUDGED_PROPERTY, RECORD_PROPERTY, Outcomes, unjudged

NODE = "test_mine.py::test_mlp[performance-mlp]"
PARAMETERS: dict[str, object] = {
    "tt_precision": "performance",
    "tt_golden_spec": GoldenSpec("mlp", layer=1, seq_len=32, batch=2),
}
OPTIONS = Options(target="emulator", mesh="1x1")
BASE = unjudged(NODE, OPTIONS, PARAMETERS)
PASSED = Record(**{**record_to_json(BASE), "metric": "pcc", "value": 1.0, "verdict": "pass"})


def report(
    when: str,
    outcome: Literal["passed", "failed", "skipped"] = "passed",
    longrepr: Any = None,
    filed: tuple[Record, ...] = (),
    judged: bool = True,
) -> pytest.TestReport:
    properties = [(JUDGED_PROPERTY, record_to_json(BASE))] if judged else []
    properties += [(RECORD_PROPERTY, record_to_json(record)) for record in filed]
    location = ("test_mine.py", 1, "test_mlp")
    # `when` and `outcome` are plain strings here, literals in pytest's own types.
    return pytest.TestReport(NODE, location, {}, outcome, longrepr, when, user_properties=properties)  # type: ignore[arg-type]


def taken(*reports: pytest.TestReport, options: Options = OPTIONS) -> list[Record]:
    outcomes = Outcomes(options)
    for one in reports:
        outcomes.take(one)
    return outcomes.records


def test_records_are_taken_once() -> None:
    """Properties travel with each phase's report; a record is still counted once."""
    filed = (PASSED,)
    assert taken(report("setup"), report("call", filed=filed), report("teardown", filed=filed)) == [PASSED]


def test_properties_are_left_as_people_read_them() -> None:
    """What --junitxml writes of a test: where it ran, and each figure with its gate; others' properties stay."""
    last = report("teardown", filed=(replace(PASSED, gate=0.999, direction="higher"),))
    last.user_properties.append(("owner", "me"))
    Outcomes(OPTIONS).pytest_runtest_logreport(last)
    assert last.user_properties == [
        ("target", "emulator"),
        ("mesh", "1x1"),
        ("precision", "performance"),
        ("mlp layer 1 pcc", "1.00000, gate 0.999: pass"),
        ("owner", "me"),
    ]


def test_a_skipped_test_is_not_compared() -> None:
    """Its record says what would have been compared, and why it was not."""
    skip = report("setup", "skipped", ("test_mine.py", 3, "Skipped: no such card"))
    (record,) = taken(skip, report("teardown"))
    assert record.verdict == "not_compared"
    assert record.note == "skipped: no such card"
    assert (record.module, record.layer, record.batch, record.seq_len) == ("mlp", 1, 2, 32)
    assert (record.precision, record.golden) == ("performance", "mlp/layer1/prefill/S32/B2")


def test_a_crash_after_passing_checks_is_not_lost() -> None:
    """A test that passed some gates and then failed otherwise keeps its records and gets one that says so."""
    crash = report("call", "failed", "RuntimeError: out of pages\nsecond line", (PASSED,))
    passed, crashed = taken(report("setup"), crash, report("teardown", filed=(PASSED,)))
    assert passed == PASSED
    assert (crashed.verdict, crashed.note) == ("regression", "call failed: RuntimeError: out of pages")


def test_a_regression_needs_no_second_record() -> None:
    """A failed test whose records say why is not filed again as not compared."""
    regression = Record(**{**record_to_json(PASSED), "value": 0.5, "verdict": "regression"})
    failed = report("call", "failed", "pcc", (regression,))
    assert taken(report("setup"), failed, report("teardown", filed=(regression,))) == [regression]


def test_a_golden_that_nothing_was_compared_with_is_told() -> None:
    """A test that forgot to compare does not pass in silence."""
    (record,) = taken(report("setup"), report("call"), report("teardown"))
    assert (record.verdict, record.note) == ("not_compared", "passed, but compared nothing with its golden")


def test_other_peoples_tests_leave_no_record() -> None:
    """A test that does not use the harness is none of its business, even when it fails."""
    reports = (report("setup"), report("call", "failed", "x"), report("teardown"))
    assert taken(*(report(r.when, r.outcome, r.longrepr, judged=False) for r in reports)) == []


def test_a_test_in_which_a_worker_died_is_a_regression() -> None:
    """pytest-xdist's report of a dead worker has no properties; the test is not lost."""
    died = report("???", "failed", "worker 'gw0' crashed while running 'test_mlp'", judged=False)
    (record,) = taken(died, options=Options(results=Path("results.json")))
    assert record.verdict == "regression"
    assert record.note == "worker 'gw0' crashed while running 'test_mlp'"
    assert taken(died) == [], "of a session that judged nothing"


def test_a_passed_test_that_files_nothing_is_still_on_record() -> None:
    """Its assertions hold where the target computes; on zeros they say nothing, and the record says so."""
    no_golden = unjudged(NODE, OPTIONS, {"tt_precision": "performance"})
    properties = [(JUDGED_PROPERTY, record_to_json(no_golden))]
    ended = pytest.TestReport(
        NODE, ("t.py", 1, "t"), {}, "passed", None, "teardown", user_properties=properties
    )
    (record,) = taken(ended)
    assert (record.verdict, record.value) == ("pass", None)
    (record,) = taken(ended, options=Options(target="dryrun", mesh="1x1"))
    assert record.verdict == "not_compared"
    assert "on zeros" in record.note
