"""On GitHub a failure stands at its test's line and the verdict in the step's summary; elsewhere nothing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.gates.baseline import Baseline, Update
from harness.gates.gate import Finding, Judgement
from harness.report.github import MOST_ANNOTATIONS, tell_gate, tell_run
from harness.results.schema import Environment, Origin, Record, Results

SOURCE = "import pytest\n\n\n@pytest.mark.slow\ndef test_mlp():\n    pass\n"
BASELINE = Baseline(
    1,
    (Update(reason="first", date="2026-11-25T00:00:00+00:00", commit=None, changes=""),),
    Origin(model="smollm2", target="emulator", mesh="1x1"),
    (),
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout as a step of GitHub sees it, with one test file in it."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mlp.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path


def results(*changes: dict[str, Any]) -> Results:
    base: dict[str, Any] = {
        "test": "tests/test_mlp.py::test_mlp[accuracy-1:2]",
        "module": "mlp",
        "metric": "pcc",
        "value": 0.5,
        "gate": 0.999,
        "direction": "higher",
        "verdict": "regression",
        "target": "emulator",
        "precision": "accuracy",
    }
    environment = Environment.collect(target="emulator", mesh="1x1", model="smollm2")
    return Results(environment, tuple(Record(**base | change) for change in changes or ({},)))


def test_a_failure_is_annotated_at_its_tests_line(checkout: Path) -> None:
    lines: list[str] = []
    tell_run(results({"note": "100% wrong,\nall of it"}), lines.append)
    assert lines == [
        "::error file=tests/test_mlp.py,line=5,title=regression%3A mlp::regression accuracy mlp: PCC 0.50000"
        " (gate: at least 0.999) [tests/test_mlp.py::test_mlp[accuracy-1:2]] 100%25 wrong,%0Aall of it"
    ]


def test_a_test_outside_the_checkout_is_annotated_without_a_line(checkout: Path) -> None:
    lines: list[str] = []
    tell_run(results({"test": "../suites/test_mlp.py::test_mlp"}), lines.append)
    assert lines[0].startswith("::error title=")


def test_as_many_are_annotated_as_github_shows(checkout: Path) -> None:
    lines: list[str] = []
    tell_run(results(*({"layer": layer} for layer in range(30))), lines.append)
    assert len(lines) == MOST_ANNOTATIONS


def test_the_summary_has_the_verdict_the_command_and_the_tables(checkout: Path) -> None:
    tell_run(results(), [].append)
    summary = (checkout / "summary.md").read_text()
    assert summary.startswith("## VERDICT: 1 of 1 checks are not pass: 1 regression")
    assert "`pytest 'tests/test_mlp.py::test_mlp[accuracy-1:2]'`" in summary
    assert "| module | phase | PCC |" in summary
    assert "| mlp |  | **0.50000!** |" in summary


def test_the_gate_is_told_too(checkout: Path) -> None:
    lines: list[str] = []
    test = "tests/test_mlp.py::test_mlp"
    tell_gate(Judgement((Finding("vanished", test, test, "did not run"),), 1), BASELINE, lines.append)
    assert lines == [
        f"::error file=tests/test_mlp.py,line=5,title=vanished%3A {test.replace(':', '%3A')}::did not run"
    ]
    assert "## GATE: regression; 1 vanished" in (checkout / "summary.md").read_text()


def test_elsewhere_nothing_is_said(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    lines: list[str] = []
    tell_run(results(), lines.append)
    assert not lines
    assert [file.name for file in checkout.iterdir()] == ["tests"]
