"""experimental.view: the values of a buffer in another shape, only where they stay in order."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError


@pytest.mark.parametrize(
    ("old", "new"), [((2, 32, 64), (64, 64)), ((5, 64), (1, 5, 64)), ((64, 32), (-1, 32, 32))]
)
def test_it_shares_the_buffer(ttnn, put, old, new):
    x = torch.randn(*old).bfloat16()
    t = put(x)
    view = ttnn.experimental.view(t, new)
    assert torch.equal(ttnn.to_torch(view), x.reshape(new))
    ttnn.multiply_(t, 2.0)
    assert torch.equal(ttnn.to_torch(view), 2 * x.reshape(new))


@pytest.mark.parametrize("new", [(128, 32), (2, 16, 64), (63, 64)])
def test_what_would_change_the_order_is_refused(ttnn, put, new):
    """Another last dimension, rows that pad otherwise, another number of values."""
    t = put(torch.randn(1, 1, 32 if new == (2, 16, 64) else 64, 64).bfloat16())
    with pytest.raises(DeviceError, match=r"experimental\.view"):
        ttnn.experimental.view(t, new)
