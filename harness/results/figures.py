"""How a figure is written: one format for each metric, cut towards the bad side so that nothing looks better than it is."""

import math

from harness.results.schema import Record

LABELS = {
    "pcc": "PCC",
    "worst_row_pcc": "worst-row PCC",
    "rel_l2": "relative L2",
    "worst_row_rel_l2": "worst-row relative L2",
    "norm_error": "norm error",
    "nonfinite": "NaN/Inf count",
    "top1": "top-1",
    "top5": "top-5",
    "kl": "mean KL",
    "perplexity_error": "perplexity error",
    "top1_loss": "true tokens lost",
    "agreement_length": "greedy agreement",
    "op_differences": "ops unlike the real ttnn's",
    "mesh_perplexity_change": "perplexity beside one device's",
    "mesh_agreement_length": "greedy agreement with one device",
    "mesh_flip_cost": "cost of a greedy flip beside one device (nats)",
    "flip_cost": "cost of a greedy flip (nats)",
    "task_loss": "lm-eval answers lost",
    "task_perplexity_error": "lm-eval perplexity error",
    "task_nll_change": "lm-eval log-likelihood change (nats)",
}
# What is counted exactly, in the order a report shows it.
COUNTERS = {
    "ops": "device ops",
    "programs": "programs compiled",
    "program_cache_misses": "cache misses, 2nd pass",
    "layout_conversions": "layout conversions",
    "dram_read_bytes": "DRAM read, bytes",
    "dram_written_bytes": "DRAM written, bytes",
    "l1_peak_bytes": "L1 peak of a core, bytes",
    "circular_buffer_bytes": "buffers of a core, bytes",
    "host_to_device": "host to device",
    "host_to_device_bytes": "host to device, bytes",
    "device_to_host": "device to host",
    "device_to_host_bytes": "device to host, bytes",
    "collective_bytes": "collectives, bytes",
    "collective_links": "collectives, links",
}
SHARES = ("top1", "top5")
ERRORS_IN_PERCENT = (
    "perplexity_error",
    "top1_loss",
    "norm_error",
    "mesh_perplexity_change",
    "task_loss",
    "task_perplexity_error",
)
CORRELATIONS = ("pcc", "worst_row_pcc")


def label(metric: str) -> str:
    """The metric's name in the field's words; its own name if we have none."""
    return LABELS.get(metric) or COUNTERS.get(metric, metric)


def figure(metric: str, value: float | None, unit: str = "") -> str:
    """A value as text: 5 decimals for a correlation, percent for a share, 3 digits else; "-" if not measured."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if metric in CORRELATIONS:
        return f"{math.floor(round(value * 1e5, 6)) / 1e5:.5f}"
    if metric in SHARES:
        return f"{math.floor(round(value * 1e3, 6)) / 10:.1f}%"
    if metric in ERRORS_IN_PERCENT:
        return f"{math.ceil(round(value * 1e4, 6)) / 100:.2f}%"
    if metric in ("agreement_length", "mesh_agreement_length"):
        return f"{value:.0f} tokens"
    if metric in COUNTERS:
        return f"{value:,.0f}"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}{' ' + unit if unit else ''}"
    return f"{value:.3g}{' ' + unit if unit else ''}"


def bound(metric: str, value: float | None, unit: str = "") -> str:
    """A gate or guideline as text: as it was given, not cut."""
    if value is None:
        return "none"
    if metric in (*SHARES, *ERRORS_IN_PERCENT):
        return f"{100 * value:g}%"
    if metric in COUNTERS:
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
