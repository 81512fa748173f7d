"""A buffer's values in another shape, without a copy and without a check that they stay where they are: `experimental.view`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.emulator.errors import refuse
from harness.emulator.ops.movement.movement import is_view, reshaped
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import Tensor, require_device
from harness.emulator.spec.geometry import Shape


@op("ttnn.experimental.view", kind=Kind.VIEW)
def view(input_tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The same values in another shape; one dimension may be -1.

    The last dimension must stay, and in TILE the rows must pad alike: else ttnn reads one logical order as another, which its own
    documentation calls corrupt and this refuses.
    """
    name = "ttnn.experimental.view"
    require_device(name, input_tensor)
    target = Shape(int(d) for d in shape)
    if -1 not in target and math.prod(target) == input_tensor.volume() and not is_view(input_tensor, target):
        refuse(
            name,
            f"{list(input_tensor.shape)} seen as {list(target)} is not the same values in the same order",
        )
    return reshaped(name, input_tensor, shape)
