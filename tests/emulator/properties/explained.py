"""The differences that are to stay, and why: never a silent one."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """`op`: a pattern of names. `outcome`: one of judging.Outcome's values. `said`: an expression found in the difference's text."""

    op: str
    outcome: str
    said: str
    reason: str


EXPLANATIONS = (
    Explanation(
        "*",
        "only the emulator refuses",
        r"the emulator does not model|the emulator models|the emulator offers",
        "what is not modelled says so, in one line",
    ),
)


def explanation(op: str, outcome: str, said: str) -> Explanation | None:
    """The first that holds, or None: the difference is one to mend."""
    for each in EXPLANATIONS:
        if fnmatch.fnmatch(op, each.op) and outcome == each.outcome and re.search(each.said, said):
            return each
    return None
