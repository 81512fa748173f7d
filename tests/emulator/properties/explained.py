"""The differences that are to stay, and why: never a silent one."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

_STRICTER = "only the emulator refuses"


@dataclass(frozen=True)
class Explanation:
    """`op`: a pattern of names. `outcome`: one of judging.Outcome's values. `said`: an expression found in the difference's text."""

    op: str
    outcome: str
    said: str
    reason: str


EXPLANATIONS = (
    Explanation(
        "*", _STRICTER, "the emulator (does not model|models)", "what is not modelled says so, in one line"
    ),
    Explanation(
        "ttnn.permute",
        _STRICTER,
        "is no order of the",
        "ttnn takes a dimension twice, and what it makes is no permutation",
    ),
    Explanation(
        "ttnn.repeat_interleave",
        _STRICTER,
        "dim 1 is out of range: a tensor of rank 1",
        "ttnn takes a vector's second dimension for its first",
    ),
    Explanation(
        "ttnn.linear",
        _STRICTER,
        "would be added to the tile padding below",
        "ttnn takes rows of the product's tile padding for rows of the product",
    ),
    Explanation(
        "ttnn.[tf][ou]*",  # to_dtype, full
        _STRICTER,
        "does not fit U?INT",
        "what the host's cast makes of a number beyond the format is left open by C++",
    ),
    Explanation(
        "ttnn.slice",
        _STRICTER,
        r"does not lie in a dimension.*ttnn taken: \[(\d+, )*0\b",
        "ttnn does not look at the ends of a slice that is empty",
    ),
    Explanation(
        "ttnn.transformer.*_decode",
        _STRICTER,
        "cur_pos_tensor must be INT32 or UINT32",
        "ttnn takes the bits of any format for whole positions",
    ),
    Explanation(
        "*",
        "the emulator broke",
        "OutOfMemoryError.*out of L1",
        "under a capture without dispatch the real ttnn allocates nothing, and so never runs out",
    ),
    Explanation(
        "*",
        "values differ",
        "broke: OutOfMemoryError.*out of L1",
        "what the first mode made is still in L1 when the next makes it again",
    ),
    Explanation(
        "ttnn.reduce_scatter",
        _STRICTER,
        "must be divisible by ring_size",
        "where ttnn goes another way round, it drops the rest of the division in silence",
    ),
)


def explanation(op: str, outcome: str, said: str) -> Explanation | None:
    """The first that holds, or None: the difference is one to mend."""
    for each in EXPLANATIONS:
        if fnmatch.fnmatch(op, each.op) and outcome == each.outcome and re.search(each.said, said):
            return each
    return None
