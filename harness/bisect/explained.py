"""How far off an op may be by its number formats and its multiplier alone. What is beyond is an error of the op.

Figures are relative L2 errors, from what formats and multiplier lose (`losses`), the rules of the destination register in
`docs/numerics.md`, and, of an attention, what its inner rounding does (`inner`).
"""

from __future__ import annotations

import math

from harness.bisect.errors import Error
from harness.bisect.losses import FIDELITIES, FORMATS
from harness.bisect.steps import Facts, Step

# A healthy SmolLM2 stays below 0.6 of the limits in every op, in each precision (docs/bisect.md).
MARGIN, ROW_MARGIN = 3.0, 6.0
EXACT = 1e-6  # fp32's own rounding, and the order of a golden's sums
PRODUCTS = 16  # added at once; then the destination rounds
MOVES = (
    *(
        "reshape",
        "unsqueeze_to_4D",
        "unsqueeze",
        "squeeze",
        "permute",
        "transpose",
        "concat",
        "slice",
        "repeat",
    ),
    *(
        "repeat_interleave",
        "embedding",
        "all_gather",
        "argmax",
        "plus_one",
        "copy",
        "move",
        "clone",
        "reshard",
    ),
    *(
        "to_memory_config",
        "interleaved_to_sharded",
        "sharded_to_interleaved",
        "to_layout",
        "tilize",
        "untilize",
    ),
    *(
        "tilize_with_zero_padding",
        "to_device",
        "typecast",
        "to_dtype",
        "paged_fill_cache",
        "paged_update_cache",
    ),
    *("nlp_create_qkv_heads", "nlp_create_qkv_heads_decode", "nlp_concat_heads", "nlp_concat_heads_decode"),
)


def limit(op: str, facts: Facts) -> float:
    """The relative L2 error of a whole tensor that the op's formats and multiplier explain, without margin."""
    short = op.rpartition(".")[2]
    if short in MOVES:
        widths = [FORMATS.get(name, 0.0) for name in facts.inputs]
        narrows = facts.output in FORMATS and any(
            name in FORMATS and name != facts.output and width <= FORMATS[facts.output]
            for name, width in zip(facts.inputs, widths, strict=True)
        )
        return FORMATS[facts.output] if narrows else EXACT
    roundings = facts.terms / PRODUCTS if facts.terms > 1 else 0.0
    # Attention keeps its weights and sums in bf16 between chunks, whatever the destination.
    coarse = facts.fp32_dest is False or "attention" in short
    phases = {"LoFi": 1, "HiFi2": 2, "HiFi3": 3}.get(facts.fidelity or "", 4) if coarse else 1
    summing = math.sqrt(roundings * phases) * (2**-9 if coarse else 2**-12)
    return FORMATS.get(facts.output, EXACT) + FIDELITIES.get(facts.fidelity or "", 0.0) + summing


def share(error: Error, op: str, facts: Facts) -> float:
    """The error as a part of what is allowed: beyond 1 it is not explained. Whole tensor and worst row, whichever is more."""
    allowed = limit(op, facts)
    whole, row = MARGIN * (allowed + facts.inner.rel_l2), ROW_MARGIN * (allowed + facts.inner.worst_row)
    return max(error.rel_l2 / whole, error.worst_row / row)


def diverges(step: Step) -> bool:
    """Whether the op is further off its golden, on its own inputs, than its formats and multiplier explain."""
    return step.local is not None and not share(step.local, step.op, step.facts) <= 1
