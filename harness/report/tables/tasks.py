"""The table of lm-eval's tasks: golden beside device, the flips or the change with its interval, and whether it is chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from harness.results.schema import Record

TASK_METRICS = ("task_loss", "task_perplexity_error", "task_nll_change")


def task_tables(records: Sequence[Record]) -> list[Table]:
    """One table a precision, a row a task and metric, "!" where the verdict is not pass.

    Below a change its 99% interval, or what the gate's alpha makes of it; "finds" is the smallest change that the test can
    tell from chance.
    """
    ours = [record for record in records if record.metric in TASK_METRICS and record.value is not None]
    tables = []
    for precision in dict.fromkeys(record.precision for record in ours):
        table = Table(
            title=f"lm-eval tasks, precision {precision}: paired with the golden",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for title in ("task", "metric"):
            table.add_column(title, overflow="fold", min_width=8)
        for title in ("golden", "device", "change", "p", "finds", "n"):
            table.add_column(title, justify="right", no_wrap=True)
        for record in ours:
            if record.precision == precision:
                table.add_row(record.module, *_cells(record))
        tables.append(table)
    return tables


def _cells(record: Record) -> list[Text]:
    figures = {name: value for name, value in record.details.items() if isinstance(value, float)}
    golden, device, low, high = (
        figures.get(name, math.nan) for name in ("golden", "device", "ratio_low", "ratio_high")
    )
    if record.metric == "task_loss":
        change = f"{figures.get('lost', math.nan):.0f} lost\n{figures.get('gained', math.nan):.0f} gained"
    elif record.metric == "task_perplexity_error":
        change = f"x{figures.get('ratio', math.nan):.4f}\n{low:.4f} to {high:.4f}"
    else:  # a ratio of perplexities is the exponential of the change of the negative log-likelihood
        change = f"{device - golden:+.4f}\n{-math.log(high):+.4f} to {-math.log(low):+.4f}"
    mark = "" if record.verdict == "pass" else "!"
    return [
        Text(str(record.details.get("lm_eval_metric", "likelihood"))),
        Text(f"{golden:.4g}"),
        Text(f"{device:.4g}"),
        Text(change + mark, style="red" if mark else ""),
        Text(f"{figures.get('q_value', figures.get('p_value', math.nan)):.2g}"),
        Text(f"{figures.get('detectable', math.nan):.2g}"),
        Text(str(record.n)),
    ]
