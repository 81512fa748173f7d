"""The table of lm-eval's tasks."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from harness.report.tables.tasks import task_tables
from harness.results.schema import Record

LOSS = Record(
    test="lm-eval quiz",
    module="quiz",
    metric="task_loss",
    value=0.02,
    verdict="inconclusive",
    target="emulator",
    precision="accuracy",
    n=50,
    details={
        "lm_eval_metric": "acc",
        "golden": 0.74,
        "device": 0.72,
        "lost": 2.0,
        "gained": 1.0,
        "p_value": 0.5,
        "q_value": 0.75,
        "detectable": 0.2,
    },
)
LIKELIHOOD = {"golden": -6.5, "device": -6.6, "p_value": 0.001, "detectable": 0.04}
INTERVAL = {"ratio_low": 1.05, "ratio_high": 1.15}


def shown(*records: Record) -> list[str]:
    console = Console(width=80, record=True)
    for table in task_tables(records):
        console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines() if line.strip()]


def test_flips_stand_beside_both_sides() -> None:
    title, _, _, first, second = shown(LOSS)
    assert "precision accuracy" in title
    assert first.split() == ["quiz", "acc", "0.74", "0.72", "2", "lost", "0.75", "0.2", "50"]
    assert second.split() == ["1", "gained!"]  # not a pass; the adjusted p-value is shown


def test_a_change_has_its_interval() -> None:
    change = replace(LOSS, metric="task_nll_change", verdict="pass", details={**LIKELIHOOD, **INTERVAL})
    ratio = replace(change, metric="task_perplexity_error", details={**change.details, "ratio": 1.1})
    lines = shown(change, ratio)
    assert "-0.1000" in lines[3]
    assert "-0.1398 to -0.0488" in lines[4]  # the logarithms of the ratio's
    assert "x1.1000" in lines[5]
    assert "1.0500 to 1.1500" in lines[6]
    assert not any("!" in line for line in lines)


def test_a_table_a_precision_and_none_without_tasks() -> None:
    assert len(task_tables([LOSS, replace(LOSS, precision="performance")])) == 2
    assert task_tables([replace(LOSS, metric="pcc")]) == []
