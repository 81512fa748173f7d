"""Single tokens in their text: those of the largest KL, and those that only one side predicted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.results.schema import Record

# How a record's details name the tokens they show, `worst_token_1` and on, and what those are.
TOKENS = {
    "worst_token": "Largest KL",
    "lost": "Right in the golden, wrong on the device",
    "gained": "Wrong in the golden, right on the device",
}
COUNTED = ("lost", "gained")  # the detail of that name is how many there are; `worst_token` is a place


def shown_tokens(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """What records show of single tokens: a heading, with how many there are where that is counted, and a line a token."""
    blocks = []
    for record in records:
        for key, title in TOKENS.items():
            lines = [
                str(token) for name, token in record.details.items() if re.fullmatch(rf"{key}_\d+", name)
            ]
            if lines:
                count = record.details.get(key) if key in COUNTED else None
                many = f" ({count:.0f} of {record.n} tokens)" if isinstance(count, float) else ""
                what = f"{title}{many}: {record.precision} {record.phase or ''}, mesh {record.mesh}"
                blocks.append((what, lines))
    return blocks
