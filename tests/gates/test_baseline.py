"""A baseline's updates: each with its reason, and those it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gates.runs import RECORDS, command, record, results


def test_a_baseline_keeps_every_reason(folder: Path, baseline: Path) -> None:
    better = results(folder / "better.json", [record(value=0.99999), *RECORDS[1:]], commit="89ab")
    result = command("baseline", "update", better, "--baseline", baseline, "--reason", "HiFi4 in the MLP")
    assert result.status == 0
    history = json.loads(baseline.read_text())["history"]
    assert [update["reason"] for update in history] == ["the first", "HiFi4 in the MLP"]
    assert history[1]["commit"] == "89ab"
    assert history[1]["changes"] == "1 changed, 0 new, 0 gone of 3 figures"
    assert command("gate", better, "--baseline", baseline).status == 0


@pytest.mark.parametrize(
    ("records", "environment", "reason", "says"),
    [
        (RECORDS, {}, " ", "needs a reason"),
        (RECORDS, {"model": "llama"}, "other", "model llama"),
        (
            [record(value=0.5, verdict="regression")],
            {},
            "accept it",
            "1 figures of the results are regressions",
        ),
    ],
)
def test_a_baseline_refuses(
    folder: Path, baseline: Path, records, environment, reason: str, says: str
) -> None:
    before = baseline.read_bytes()
    new = results(folder / "new.json", records, **environment)
    message = command("baseline", "update", new, "--baseline", baseline, "--reason", reason)
    assert message.status == 2
    assert says in message.text
    assert baseline.read_bytes() == before
