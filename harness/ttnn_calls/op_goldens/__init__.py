"""What each op should give, in plain PyTorch: the golden of one op call on one device.

A golden has its op's own parameters, every ttnn tensor in them replaced by what one device holds: float32 or float64 in the
logical shape, int64 for ids and positions. It returns the result's tensors, for an op that writes into an argument the argument's
new value. Configs of programs, memory and compute are ignored: a golden knows arithmetic only. A collective's golden takes a
list of tensors in a tensor's place, a device each, and gives such a list.
"""

from __future__ import annotations

from typing import Any

from harness.ttnn_calls.op_goldens import (
    attention,
    collectives,
    convolution,
    eltwise,
    movement,
    products,
    reductions,
)
from harness.ttnn_calls.op_goldens.golden import Golden, NoGolden
from harness.ttnn_calls.op_log import Op

__all__ = ["GOLDENS", "TRANSFERS", "Golden", "NoGolden", "golden_of"]

GOLDENS: dict[str, Golden] = {
    name: golden
    for family in (attention, collectives, convolution, eltwise, movement, products, reductions)
    for name, golden in family.GOLDENS.items()
}
# Calls that compute nothing: to and from the host, and the life of a buffer.
TRANSFERS = (
    "ttnn.to_torch",
    "ttnn.from_device",
    "ttnn.deallocate",
    "ttnn.get_device_tensors",
    "ttnn.allocate_tensor_on_device",
    "ttnn.empty",
)


def golden_of(name: str, op: Op, ttnn: Any) -> Golden:
    """The golden of an op: ours, else Tenstorrent's own where the ttnn in place has one. Raises NoGolden."""
    if name in GOLDENS:
        return GOLDENS[name]
    lookup = getattr(ttnn, "get_golden_function", None)
    if lookup is not None:
        try:
            return lookup(op)  # type: ignore[no-any-return]
        except (RuntimeError, AttributeError):  # an op without one
            pass
    raise NoGolden(f"{name} has no golden")
