"""One row of the numerics report: how an op's output agrees with the recorded one, and which of its figures are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.conformance.numerics.agreement import Agreement, Error, agreement, error
from harness.conformance.numerics.layer import Outcome
from harness.conformance.numerics.recordings import Step, TensorSpec

# Op -> the row's module, and what is asked of it: "matmul" accumulates in the destination register; "exact" has nothing
# that mode `device` leaves out; "sfpu" is one vector function; "composed" runs several ops, vector functions among them.
KINDS = {
    "ttnn.matmul": ("matmul", "matmul"),
    "ttnn.linear": ("matmul", "matmul"),
    "ttnn.sum": ("reduce", "matmul"),
    "ttnn.add": ("eltwise", "exact"),
    "ttnn.subtract": ("eltwise", "exact"),
    "ttnn.multiply": ("eltwise", "exact"),
    "ttnn.mul": ("silu", "composed"),
    "ttnn.typecast": ("typecast", "exact"),
    "ttnn.exp": ("sfpu", "sfpu"),
    "ttnn.reciprocal": ("sfpu", "sfpu"),
    "ttnn.rsqrt": ("sfpu", "sfpu"),
    "ttnn.sigmoid": ("sfpu", "sfpu"),
    "ttnn.silu": ("sfpu", "sfpu"),
    "ttnn.rms_norm": ("norm", "composed"),
    "ttnn.softmax": ("softmax", "composed"),
    "ttnn.transformer.scaled_dot_product_attention": ("attention", "composed"),
    "ttnn.experimental.rotary_embedding_llama": ("rope", "exact"),
    "ttnn.experimental.rotary_embedding_hf": ("rope", "exact"),
    "ttnn.experimental.rotary_embedding": ("rope", "exact"),
    "ttnn.experimental.paged_update_cache": ("kv_cache", "exact"),
    "ttnn.experimental.paged_fill_cache": ("kv_cache", "exact"),
}
MOVES = ("movement", "exact")  # every other op only moves data
# Mode -> kind -> the metrics that are judged; what else a row has is shown. In mode exact all is bit for bit, but the
# composed ops; mode device has terms for what it leaves out, on random vectors; mode fast promises nothing.
JUDGED: dict[str, dict[str, tuple[str, ...]]] = {
    "exact": {
        "vector": ("bit_exact",),
        "matmul": ("bit_exact",),
        "exact": ("bit_exact",),
        "sfpu": ("bit_exact",),
        "composed": ("within_2ulp", "recorded_gap"),
    },
    "device": {
        "vector": ("gap_share", "bias_change"),
        "matmul": (),
        "exact": ("bit_exact",),
        "sfpu": ("bit_exact",),
        "composed": (),
    },
    "fast": {"vector": (), "matmul": (), "exact": (), "sfpu": (), "composed": ()},
}
SIGNIFICANT = 4.0  # standard errors: a smaller bias is noise, and its change says nothing
SHORT = {"BFLOAT16": "bf16", "BFLOAT8_B": "bfp8", "BFLOAT4_B": "bfp4", "FLOAT32": "fp32"}


@dataclass(frozen=True)
class Row:
    """`judged` are held against gates, `shown` are not; `details` go beside both."""

    module: str
    judged: dict[str, float]
    shown: dict[str, float]
    n: int
    details: dict[str, float | str]


def row(outcome: Outcome, mode: str, *, vector: bool = False) -> Row:
    """The row of an outcome that was computed. `vector`: its operands are random numbers, not a model's.

    Raises ValueError where the recording holds nothing to compare with.
    """
    assert outcome.ours is not None, "nothing was computed"
    module, kind = KINDS.get(outcome.step.op, MOVES)
    if vector and kind == "matmul":
        kind = "vector"
    details: dict[str, float | str] = {"setting": setting(outcome.step, outcome.output)}
    if outcome.recorded is None:
        if outcome.digest_equal is None:
            raise ValueError(f"{outcome.output.name}: neither values nor a digest were recorded")
        details["compared"] = "by digest"
        figures = {"bit_exact": float(outcome.digest_equal)}
        # Of values that were not kept nothing but equality can be said.
        names = ("bit_exact",) if "bit_exact" in JUDGED[mode][kind] else ()
        return _row(module, figures, names, outcome.ours.numel(), details)
    rows = outcome.recorded.shape[-2]  # of long outputs the last rows were recorded
    recorded, ours = outcome.recorded, outcome.ours[..., -rows:, :]
    agreed = agreement(ours, recorded, outcome.output.dtype)
    figures = {"bit_exact": agreed.bit_exact, "within_2ulp": agreed.within_2ulp, "recorded_gap": agreed.gap}
    details |= {"max_ulp": agreed.max_ulp, "ulps": agreed.ulps, "recorded_gap": agreed.gap}
    if outcome.exact is not None:
        expected = outcome.exact[..., -rows:, :]
        errors = error(ours, expected), error(recorded, expected)
        details |= _error_details(*errors)
        figures |= _changes(agreed, *errors)
    return _row(module, figures, JUDGED[mode][kind], agreed.n, details)


def setting(step: Step, output: TensorSpec) -> str:
    """Formats, fidelity, destination, and of a matmul K and its blocks, in the words of the specification."""
    operands = [spec for spec in step.tensors if spec.dtype in SHORT]
    parts = [f"{step.op.rpartition('.')[2]} {' x '.join(SHORT[spec.dtype] for spec in operands[:2])}"]
    parts[0] += f" -> {SHORT[output.dtype]}"
    config: dict[str, Any] = step.kwargs.get("compute_kernel_config") or {}
    if config:
        parts.append(f"{config['math_fidelity']} {'fp32' if config['fp32_dest_acc_en'] else 'bf16'} dest")
    if step.op in ("ttnn.matmul", "ttnn.linear"):
        parts.append(f"K{operands[0].shape[-1]}")
        program = step.kwargs.get("program_config") or {}
        width = program.get("in0_block_w", step.in0_block_w)
        parts.append(f"blocks of {width if width is not None else 'auto'}")
        parts.append("L1 acc" if config.get("packer_l1_acc") else "reload")
    program = step.kwargs.get("program_config") or {}
    if "k_chunk_size" in program:
        length = step.tensors[0].shape[-2]
        parts.append(f"S{length} chunks {program['q_chunk_size']}/{program['k_chunk_size']}")
        parts.append("approximate exp" if program["exp_approx_mode"] else "accurate exp")
    return ", ".join(parts)


def _row(
    module: str, figures: dict[str, float], names: tuple[str, ...], n: int, details: dict[str, float | str]
) -> Row:
    judged = {name: figures[name] for name in names if name in figures}
    others = {name: value for name, value in figures.items() if name not in judged}
    return Row(module, judged, others, n, details)


def _error_details(ours: Error, recorded: Error) -> dict[str, float | str]:
    return {
        "fp32_gap": ours.gap,
        "recorded_fp32_gap": recorded.gap,
        "norm_ratio": ours.norm_ratio,
        "recorded_norm_ratio": recorded.norm_ratio,
        "gain": ours.gain,
        "recorded_gain": recorded.gain,
    }


def _changes(agreed: Agreement, ours: Error, recorded: Error) -> dict[str, float]:
    """What sets the two results apart, in terms of the error that both have."""
    changes = {}
    if math.isfinite(recorded.gap):
        changes["gap_share"] = (
            agreed.gap / recorded.gap if recorded.gap > 0 else 0.0 if agreed.gap == 0 else math.inf
        )
    bias = recorded.gain - 1
    if math.isfinite(bias) and abs(bias) > SIGNIFICANT * recorded.gain_stderr:
        changes["bias_change"] = abs(ours.gain - recorded.gain) / abs(bias)
    return changes
