"""What `tt-harness policy explain` says of a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.results.schema import Environment, Record, write_results

POLICY = """metrics: {pcc: higher, perplexity_error: lower}
guidelines:
  - {metric: pcc, value: 0.999}
gates:
  - {metric: pcc, value: 0.99}
  - {metric: pcc, module: mlp, value: 0.98}
  - {metric: pcc, module: mlp, layer: [0, 1], value: 0.97}
  - {metric: pcc, relative: 0.001}
  - {metric: perplexity_error, alpha: 0.01, effect: 0.005}
"""


@pytest.fixture
def explain(tmp_path: Path) -> Any:
    """explain(records, *arguments) -> (exit status, lines)."""

    def run(records: list[Record], *arguments: str) -> tuple[int, list[str]]:
        (tmp_path / "policy.yaml").write_text(POLICY)
        environment = Environment.collect(target="emulator", mesh="1x1", model="m", emulator_mode="fast")
        write_results(tmp_path / "results.json", environment, records)
        files = [str(tmp_path / "results.json"), "--policy", str(tmp_path / "policy.yaml")]
        result = CliRunner().invoke(app, ["policy", "explain", *files, *arguments])
        return result.exit_code, result.output.replace(f"{tmp_path}/", "").splitlines()

    return run


def record(metric: str, value: float, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "test": "test_mlp[0]",
        "module": "mlp",
        "metric": metric,
        "value": value,
        "verdict": "pass",
        "target": "emulator",
        "precision": "accuracy",
        "layer": 0,
        "gate": 0.97,
    }
    return Record(**fields | changes)


def test_the_winner_the_beaten_and_the_verdict(explain: Any) -> None:
    """The most specific rule's line, each it beats and by how many selectors, the baseline's gate, and what the figure is."""
    status, lines = explain([record("pcc", 0.96)])
    assert status == 0
    assert lines == [
        "pcc 0.96 [test_mlp[0]]",
        "  it is of module mlp, precision accuracy, target emulator, layer 0, mode fast",
        "  gate: 0.97, policy.yaml:7: holds for module mlp, layer 0 or 1",
        "    before 0.98, policy.yaml:6: holds for module mlp (1 selectors against 2)",
        "    before 0.99, policy.yaml:5: holds for all (0 selectors against 2)",
        "  gate beside a baseline: relative 0.001, policy.yaml:8: holds for all",
        "  guideline: 0.999, policy.yaml:3: holds for all",
        "  verdict: regression",
    ]


def test_a_statistical_gate_is_explained_with_its_test(explain: Any) -> None:
    """The verdict stands beside the p-values and the change that the tokens could have told."""
    details = {"p_value": 0.2, "q_value": 0.4, "detectable": 0.02}
    _, lines = explain([record("perplexity_error", 0.001, details=details)])
    assert lines[2] == "  gate: alpha 0.01, effect 0.005, power 0.8, policy.yaml:9: holds for all"
    assert lines[-1] == "  verdict: inconclusive (p_value 0.2, q_value 0.4, detectable 0.02)"


def test_figures_are_chosen_by_metric_and_test(explain: Any) -> None:
    """Only those asked for are explained; none is one line and status 2."""
    records = [record("pcc", 1.0), record("pcc", 1.0, test="test_other"), record("perplexity_error", 0.0)]
    _, lines = explain(records, "--metric", "pcc", "--test", "other")
    assert [line for line in lines if "[test_" in line] == ["pcc 1 [test_other]"]
    assert explain(records, "--metric", "typo") == (2, ["error: results.json: no typo"])
    assert explain(records, "--test", "gone") == (
        2,
        ["error: results.json: no metric of this policy in a test named like 'gone'"],
    )


def test_a_figure_shown_for_comparison_has_no_verdict(explain: Any) -> None:
    """What no gate was held against is said not to be judged."""
    assert explain([record("pcc", 0.1, gate=None)])[1][-1] == "  verdict: none, shown for comparison"
