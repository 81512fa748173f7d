"""The metrics: of each its name, which way is better, what it is called, how it is written, what it sees and is blind to.

What files a figure, draws a report, keeps a policy or writes a page reads this. A metric that is not here has its own name for a
label and no direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]
# How a value is written: "correlation" .99998, "share" 97.1%, "error" .25%, "tokens" 32 tokens, "count" 1,234, "number" .0123.
Form = Literal["correlation", "share", "error", "tokens", "count", "number"]


@dataclass(frozen=True)
class Metric:
    """One metric. `direction`: None for a count, which must equal its baseline's."""

    name: str
    direction: Direction | None
    label: str = ""  # empty: its name
    form: Form = "number"
    heading: str = ""  # of a table's column, where the label is too long for one
    unit: str = ""
    sees: str = ""
    blind_to: str = ""


CONFLICTS = "spec_conflicts"  # filed by the run itself, on target shadow

_JUDGED = (
    Metric(
        "pcc",
        "higher",
        "PCC",
        "correlation",
        sees="the shape of the whole tensor",
        blind_to="scale, offset, single rows beside massive activations",
    ),
    Metric("worst_row_pcc", "higher", "worst-row PCC", "correlation", "worst row", sees="the worst token"),
    Metric(
        "rel_l2", "lower", "relative L2", heading="rel L2", sees="the error's size", blind_to="where it lies"
    ),
    Metric("worst_row_rel_l2", "lower", "worst-row relative L2", sees="the worst token"),
    Metric(
        "norm_error",
        "lower",
        "norm error",
        "error",
        "norm err",
        sees="scale, such as LoFi's 2% loss",
        blind_to="direction",
    ),
    Metric("nonfinite", "lower", "NaN/Inf count", sees="NaN and Inf"),
    Metric(
        "top1",
        "higher",
        "top-1",
        "share",
        sees="whether the device's likeliest token is the golden's",
        blind_to="how sure either was",
    ),
    Metric(
        "top5",
        "higher",
        "top-5",
        "share",
        sees="whether the device's likeliest token is among the golden's five",
        blind_to="how sure either was",
    ),
    Metric("kl", "lower", "mean KL", sees="KL(golden || device), mean of all tokens, nats"),
    Metric(
        "perplexity_error",
        "lower",
        "perplexity error",
        "error",
        sees="paired change of perplexity on the true tokens",
        blind_to="errors on other tokens",
    ),
    Metric(
        "top1_loss",
        "lower",
        "true tokens lost",
        "error",
        sees="true tokens that the golden predicts and the device does not, less the reverse",
        blind_to="changes that flip nothing",
    ),
    Metric(
        "agreement_length",
        "higher",
        "greedy agreement",
        "tokens",
        sees="how long a greedy continuation equals the golden's",
        blind_to="near ties, which any rounding flips",
    ),
    Metric(
        "flip_cost",
        "lower",
        "cost of a greedy flip (nats)",
        sees="how much rather the golden wanted its token where the two first part, in nats",
    ),
    Metric(
        "changed_values",
        "lower",
        sees="values that changed where nothing that should matter to them did",
    ),
    Metric(
        "op_differences",
        "lower",
        "ops unlike the real ttnn's",
        sees="ops of a stream that the emulator and the real ttnn do not have alike",
    ),
    Metric(
        CONFLICTS,
        "lower",
        "results unlike the real ttnn's",
        sees="calls of an op whose result has another shape, format, layout or memory config on the emulator than on the real ttnn",
    ),
    # The numerics suite: against what the real ttnn computed on a simulated Wormhole.
    Metric("bit_exact", "higher", sees="share of elements with the recorded bits"),
    Metric(
        "within_2ulp",
        "higher",
        sees="share of elements within 2 ulp, of the output's format, of the recorded ones",
    ),
    Metric("recorded_gap", "lower", sees="1-PCC to the recorded output"),
    Metric(
        "gap_share",
        "lower",
        sees="recorded_gap over the recorded output's own 1-PCC to the exact one",
    ),
    Metric(
        "bias_change",
        "lower",
        sees="of the gain on the exact output: |ours - recorded| / |recorded - 1|",
    ),
    Metric("error_change", "lower", sees="|ours / recorded - 1| of an error to the golden"),
    Metric(
        "kl_share",
        "lower",
        sees="KL(recorded || ours) over the recorded KL of the device to fp32 on the device's weights",
    ),
    # lm-eval tasks, paired with the golden's answers to the same prompts.
    Metric(
        "task_loss",
        "lower",
        "lm-eval answers lost",
        "error",
        sees="share of answers that are right with the golden and wrong with the device, less the reverse",
    ),
    Metric(
        "task_perplexity_error",
        "lower",
        "lm-eval perplexity error",
        "error",
        sees="|device / golden - 1| of lm-eval's perplexity",
    ),
    Metric(
        "task_nll_change",
        "lower",
        "lm-eval log-likelihood change (nats)",
        sees="|change| of a continuation's mean log-likelihood",
    ),
    # A mesh beside one device.
    Metric(
        "mesh_perplexity_change",
        "lower",
        "perplexity beside one device's",
        "error",
        sees="|perplexity on a mesh / on one device - 1|",
    ),
    Metric(
        "mesh_agreement_length",
        "higher",
        "greedy agreement with one device",
        "tokens",
        sees="first tokens of a greedy continuation that equal one device's",
    ),
    Metric(
        "mesh_flip_cost",
        "lower",
        "cost of a greedy flip beside one device (nats)",
        sees="what one device preferred its token by where the two first differ",
    ),
)
# Counted exactly, of one device, in the order a report shows them.
_COUNTED = (
    Metric("ops", None, "device ops", "count"),
    Metric("programs", None, "programs compiled", "count"),  # by a first pass
    # Of a second pass: each is a compilation in the middle of serving.
    Metric("program_cache_misses", None, "cache misses, 2nd pass", "count"),
    Metric("layout_conversions", None, "layout conversions", "count"),
    Metric("dram_read_bytes", None, "DRAM read, bytes", "count", unit="B"),
    Metric("dram_written_bytes", None, "DRAM written, bytes", "count", unit="B"),
    # Of one core: tensors and buffers that the pass allocates; of the op that takes most.
    Metric("l1_peak_bytes", None, "L1 peak of a core, bytes", "count", unit="B"),
    Metric("circular_buffer_bytes", None, "buffers of a core, bytes", "count", unit="B"),
    Metric("host_to_device", None, "host to device", "count"),
    Metric("host_to_device_bytes", None, "host to device, bytes", "count", unit="B"),
    Metric("device_to_host", None, "device to host", "count"),
    Metric("device_to_host_bytes", None, "device to host, bytes", "count", unit="B"),
    # What goes into collectives, and the links they go over: in a line one less than devices for each collective.
    Metric("collective_bytes", None, "collectives, bytes", "count", unit="B"),
    Metric("collective_links", None, "collectives, links", "count"),
)
METRICS = {metric.name: metric for metric in (*_JUDGED, *_COUNTED)}
COUNTERS = {metric.name: metric for metric in _COUNTED}
DIRECTIONS: dict[str, Direction] = {
    metric.name: metric.direction for metric in _JUDGED if metric.direction is not None
}
