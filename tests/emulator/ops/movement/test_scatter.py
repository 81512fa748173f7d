"""`scatter` against torch's, and where the two differ."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError


@pytest.mark.parametrize(("dim", "shape"), [(-1, (2, 16, 9)), (1, (2, 20, 64)), (0, (2, 32, 10))])
def test_scatter_is_torchs(ttnn, put, dim, shape):
    """Indices that come once."""
    x, src = torch.randn(2, 32, 64).bfloat16(), torch.randn(2, 32, 64).bfloat16()
    index = torch.rand(2, 32, 64).argsort(dim)[tuple(map(slice, shape))]
    out = ttnn.scatter(put(x), dim, put(index.int(), ttnn.int32), put(src))
    assert torch.equal(ttnn.to_torch(out), x.scatter(dim, index, src))
    assert not torch.equal(ttnn.to_torch(out), x)


def test_the_last_of_equal_indices_stands_and_none_outside(ttnn, put):
    """As the kernel walks its index: in order, past what lies outside."""
    x, src = torch.zeros(1, 8), torch.arange(1.0, 7.0)[None]
    index = torch.tensor([[3, 3, 8, -1, 0, 3]]).int()
    out = ttnn.scatter(put(x), 1, put(index, ttnn.int32), put(src))
    assert ttnn.to_torch(out)[0].tolist() == [5, 0, 0, 6, 0, 0, 0, 0]


def test_a_router_scatters_what_topk_gave(ttnn, put):
    """The weights of the chosen experts back at their places."""
    scores = torch.randn(32, 64).bfloat16()
    values, places = ttnn.topk(put(scores), 8)
    out = ttnn.to_torch(ttnn.scatter(put(torch.zeros(32, 64)), -1, places, values))
    best, index = ttnn.to_torch(values), ttnn.to_torch(places).long()
    assert torch.equal(out, torch.zeros(32, 64).bfloat16().scatter(-1, index, best))
    assert torch.equal(out[out != 0], scores[out != 0])


def test_scatter_says_what_it_does_not_take(ttnn, put):
    x, index = put(torch.zeros(32, 64)), put(torch.zeros(32, 8).int(), ttnn.int32)
    with pytest.raises(DeviceError, match=r"ttnn\.scatter: src must have the input's dtype"):
        ttnn.scatter(x, 1, index, index)
    with pytest.raises(DeviceError, match=r"ttnn\.scatter: index \[32, 8\] must fit into src \[32, 4\]"):
        ttnn.scatter(x, 1, index, put(torch.zeros(32, 4)))
    with pytest.raises(DeviceError, match=r"ttnn\.scatter: FLOAT32 must be ROW_MAJOR"):
        ttnn.scatter(put(torch.zeros(32, 64), ttnn.float32), 1, index, put(torch.zeros(32, 8), ttnn.float32))
