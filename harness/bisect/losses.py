"""What number formats, the multiplier and an attention's own rounding lose of a value, as parts of it. See `docs/numerics.md`."""

from __future__ import annotations

from typing import Any

import torch

from harness.bisect.shadows import Values

# Half a unit in the last place of bf16 is 2^-9; of a bfp8 block's largest value 2^-7.
FORMATS = {"FLOAT32": 2**-9, "BFLOAT16": 2**-9, "BFLOAT8_B": 2**-6, "BFLOAT4_B": 2**-2}
# What the multiplier does not see of its operands: a bit of one in HiFi2, in LoFi three more and two of the other.
FIDELITIES = {"HiFi4": 0.0, "HiFi3": 2**-9, "HiFi2": 2**-8, "LoFi": 2**-5}


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
