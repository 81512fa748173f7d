"""`--tt-strict`: where the model relies on all devices holding the same tensor, they are compared, bit for bit.

A forgotten or wrong all-reduce leaves devices that differ, and reading device 0 alone does not show it. The points are the
module boundaries on the residual: every norm's input, or of a distributed norm its output, and the normed residual that the LM head
takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import ttnn

from tt_llm.mesh import to_host
from tt_llm.modules.lm_head import LMHead
from tt_llm.modules.norm import RMSNorm


class NotReplicated(AssertionError):
    """Devices hold different tensors where the model takes them for one; a line that names point and devices."""


def assert_replicated(tensor: ttnn.Tensor, where: str, columns: int = 1) -> None:
    """Raises NotReplicated where any device's tensor differs from the first one's.

    Of a tensor that lies over the columns of a mesh, from the first one's of its column: `columns` are as many.
    """
    devices = len(ttnn.get_device_tensors(tensor))
    tops = [to_host(tensor, device) for device in range(columns)]
    for device in range(columns, devices):
        first, other = tops[device % columns], to_host(tensor, device)
        # Decode rows without a user hold what attention left unwritten: NaN on the emulator, on every device.
        differs = (first != other) & ~(first.isnan() & other.isnan())
        apart = int(differs.sum())
        if apart:
            largest = float((first.float() - other.float())[differs].abs().max())
            raise NotReplicated(
                f"{where}: device {device} differs from device {device % columns} in {apart} of {first.numel()} values, by up to {largest:.3g}"
            )


def watch(patch: Callable[[object, str, object], None]) -> None:
    """Puts the comparison before every norm and the LM head; `patch(owner, name, value)` sets an attribute."""
    for kind, method in ((RMSNorm, "prefill"), (RMSNorm, "decode"), (LMHead, "__call__")):
        patch(kind, method, _checked(kind, getattr(kind, method)))


def _checked(kind: type, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(self: Any, x: ttnn.Tensor) -> Any:
        name = getattr(self, "name", kind.__name__)
        if function.__name__ == "prefill" and self.distributed:
            normed = function(self, x)
            with torch.inference_mode():
                assert_replicated(normed, f"output of {name}", self.dim // normed.shape[-1])
            return normed
        with torch.inference_mode():
            assert_replicated(x, f"input of {name}")
        return function(self, x)

    return checked
