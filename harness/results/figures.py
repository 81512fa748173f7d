"""How a figure is written: one format for each metric, cut towards the bad side so that nothing looks better than it is."""

import math

from harness.results.catalogue import METRICS, Form
from harness.results.schema import Record


def label(metric: str) -> str:
    """The metric's name in the field's words; its own name if we have none."""
    return (METRICS[metric].label if metric in METRICS else "") or metric


def _form(metric: str) -> Form:
    return METRICS[metric].form if metric in METRICS else "number"


def figure(metric: str, value: float | None, unit: str = "") -> str:
    """A value as text: 5 decimals for a correlation, percent for a share, 3 digits else; "-" if not measured."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    form = _form(metric)
    if form == "correlation":
        return f"{math.floor(round(value * 1e5, 6)) / 1e5:.5f}"
    if form == "share":
        return f"{math.floor(round(value * 1e3, 6)) / 10:.1f}%"
    if form == "error":
        return f"{math.ceil(round(value * 1e4, 6)) / 100:.2f}%"
    if form == "tokens":
        return f"{value:.0f} tokens"
    if form == "count":
        return f"{value:,.0f}"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}{' ' + unit if unit else ''}"
    return f"{value:.3g}{' ' + unit if unit else ''}"


def bound(metric: str, value: float | None, unit: str = "") -> str:
    """A gate or guideline as text: as it was given, not cut."""
    if value is None:
        return "none"
    form = _form(metric)
    if form in ("share", "error"):
        return f"{100 * value:g}%"
    if form == "count":
        return f"{value:,.0f}"
    return f"{value:g}{' ' + unit if unit else ''}"


def worse(a: Record, b: Record) -> Record:
    """The worse of two records of one metric; NaN is the worst, a record without a value never replaces one."""
    if b.value is None or (a.value is not None and math.isnan(a.value)):
        return a
    if a.value is None or math.isnan(b.value):
        return b
    higher_is_better = (b.direction or "higher") == "higher"
    return b if (b.value < a.value if higher_is_better else b.value > a.value) else a


def misses_guideline(record: Record) -> bool:
    """Whether a value falls short of its record's guideline; NaN does."""
    if record.guideline is None or record.value is None:
        return False
    if record.direction == "lower":
        return not record.value <= record.guideline
    return not record.value >= record.guideline
