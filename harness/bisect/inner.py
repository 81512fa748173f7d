"""What an attention rounds within itself, and how far that may carry its result."""

from __future__ import annotations

from typing import Any

import torch

from harness.bisect.losses import FIDELITIES, FORMATS
from harness.bisect.shadows import Values


def swayed(
    own: dict[int, Values], queries: Any, keys: Any, values: Any, fidelity: str | None
) -> dict[int, Values]:
    """What its inputs hold, by the tensors' ids, but off by what the op loses on the way; up or down at random.

    Every position's key and value by half a unit of bf16: a key's error is its score's, a value's that of its weight, and both
    are rounded to bf16. Every element of a query by what the multiplier does not see. How much that does to the result hangs
    on how large the scores are, and on how much they and the weighted values cancel.
    """
    generator = torch.Generator().manual_seed(0)

    def off(tensor: Any, part: float, width: int | None) -> Values:
        return [
            x
            * (
                1
                + part
                * (2 * torch.randint(2, (*x.shape[:-1], width or x.shape[-1]), generator=generator) - 1)
            )
            for x in own[id(tensor)]
        ]

    half = FORMATS["BFLOAT16"]
    cut = FIDELITIES.get(fidelity or "", 0.0)
    return own | {
        id(queries): off(queries, cut, None),
        id(keys): off(keys, half, 1),
        id(values): off(values, half, 1),
    }
