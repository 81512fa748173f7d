"""The statistical gates of a run, held to one false discovery rate."""

from __future__ import annotations

from typing import Any

import pytest

from harness.results.false_discovery import controlled, is_statistical
from harness.results.schema import Record


def record(p_value: float | None, verdict: Any = "pass", **changes: Any) -> Record:
    paired: dict[str, float | str] = {"alpha": 0.01, "power": 0.8, "detectable": 0.004}
    fields: dict[str, Any] = {
        "test": "test_text",
        "module": "model",
        "metric": "perplexity_error",
        "value": 0.02,
        "verdict": verdict,
        "target": "emulator",
        "precision": "accuracy",
        "n": 2046,
        "details": paired | {"p_value": p_value} if p_value is not None else {},
    }
    return Record(**fields | changes)


def test_an_alarm_among_many_quiet_tests_is_inconclusive() -> None:
    """p .008 is a regression alone and among four tests .032: said so, with both, and not a pass."""
    assert [r.verdict for r in controlled([record(0.008, "regression")])] == ["regression"]
    quiet = [record(p) for p in (0.3, 0.5, 0.9)]
    judged = controlled([record(0.008, "regression"), *quiet])
    assert [r.verdict for r in judged] == ["inconclusive", "pass", "pass", "pass"]
    assert judged[0].note == "p 0.008 alone, 0.032 among the run's 4 statistical gates (alpha 0.01)"
    assert judged[0].details["q_value"] == pytest.approx(0.032)


def test_a_clear_regression_stays_one() -> None:
    """p 1e-9 is a regression among any number, and so are several at once."""
    judged = controlled([record(1e-9, "regression"), record(1e-4, "regression"), *[record(0.5)] * 20])
    assert [r.verdict for r in judged[:2]] == ["regression", "regression"]


def test_other_records_are_left_as_they_are() -> None:
    """Absolute gates are neither adjusted nor counted among the tests."""
    other = record(None, "regression", metric="pcc")
    judged = controlled([other, record(0.008, "regression"), *[other] * 10])
    assert judged[0] is other
    assert judged[1].verdict == "regression"
    assert [is_statistical(r) for r in judged[:2]] == [False, True]


def test_too_few_samples_are_said() -> None:
    """An inconclusive gate says what its samples could have told."""
    (judged,) = controlled([record(0.4, "inconclusive", n=252)])
    assert judged.note.startswith(
        "252 samples tell a change of 0.004 from chance (alpha 0.01, power 0.8): too few"
    )
