"""`gather` against torch's."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError


@pytest.mark.parametrize(("dim", "shape"), [(-1, (2, 16, 9)), (1, (2, 50, 64)), (0, (3, 32, 64))])
def test_gather_is_torchs(ttnn, put, dim, shape):
    x = torch.randn(2, 32, 64).bfloat16()
    index = torch.randint(0, x.shape[dim], shape)
    out = ttnn.gather(put(x), dim, put(index, ttnn.uint32))
    assert torch.equal(ttnn.to_torch(out), x.gather(dim, index))


def test_gather_takes_the_places_of_topk(ttnn, put):
    x = torch.randn(32, 96).bfloat16()
    values, places = ttnn.topk(put(x), 8)
    assert torch.equal(ttnn.to_torch(ttnn.gather(put(x), 1, index=places)), ttnn.to_torch(values))


def test_gather_says_what_it_does_not_take(ttnn, put):
    x = put(torch.zeros(32, 64))
    with pytest.raises(DeviceError, match=r"ttnn\.gather: index must be UINT32 or UINT16, got .*INT32"):
        ttnn.gather(x, 1, put(torch.zeros(32, 64).int(), ttnn.int32))
    with pytest.raises(DeviceError, match=r"ttnn\.gather: index 64 is beyond dim 1"):
        ttnn.gather(x, 1, put(torch.full((32, 4), 64), ttnn.uint32))
    with pytest.raises(DeviceError, match=r"ttnn\.gather: index of shape \[64, 4\] is larger than the input"):
        ttnn.gather(x, 1, put(torch.zeros(64, 4), ttnn.uint32))
