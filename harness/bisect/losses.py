"""What number formats and the multiplier lose of a value, as parts of it. See `docs/numerics.md`."""

from __future__ import annotations

# Half a unit in the last place of bf16 is 2^-9; of a bfp8 block's largest value 2^-7.
FORMATS = {"FLOAT32": 2**-9, "BFLOAT16": 2**-9, "BFLOAT8_B": 2**-6, "BFLOAT4_B": 2**-2}
# What the multiplier does not see of its operands: a bit of one in HiFi2, in LoFi three more and two of the other.
FIDELITIES = {"HiFi4": 0.0, "HiFi3": 2**-9, "HiFi2": 2**-8, "LoFi": 2**-5}
