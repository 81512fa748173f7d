"""The catalogue of metrics: what else names metrics names those in it, and the page on accuracy is its table."""

from __future__ import annotations

from pathlib import Path

from harness.gates.policy import Policy
from harness.results.catalogue import COUNTERS, DIRECTIONS, METRICS
from harness.results.figures import figure, label
from harness.run.recorder import TENSOR_METRICS

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"


def row(name: str) -> str:
    """A metric as a line of the page's table."""
    metric = METRICS[name]
    cells = (f"`{name}`", metric.direction or "", metric.sees, metric.blind_to)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def test_every_metric_has_a_gate_or_is_counted() -> None:
    """The packaged policy holds something against each metric that has a direction; a counter's gate is its baseline."""
    rules = Policy.load()
    assert {entry.metric for entry in rules.gates} == set(DIRECTIONS)
    assert rules.directions == DIRECTIONS
    assert not set(COUNTERS) & set(DIRECTIONS)
    assert TENSOR_METRICS == ("pcc", "worst_row_pcc", "rel_l2", "worst_row_rel_l2", "norm_error", "nonfinite")


def test_the_page_on_accuracy_has_every_metric() -> None:
    """In the catalogue's words and order."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("|---|---|---|---|") + 1
    table = lines[start : start + len(DIRECTIONS)]
    assert table == [row(name) for name in DIRECTIONS]


def test_another_metric_is_written_by_its_own_name() -> None:
    """As a user's own test may file it."""
    assert (label("mine"), figure("mine", 0.12345, "s")) == ("mine", "0.123 s")
