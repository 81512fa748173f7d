"""Goldens of convolutions and pools, on rows of channels, against PyTorch on images."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from harness.ttnn_calls.op_goldens import GOLDENS, NoGolden

IMAGE = torch.randn(2, 8, 6, 10, generator=torch.Generator().manual_seed(0))


def rows(image: torch.Tensor, padded: int = 0) -> torch.Tensor:
    """[1, 1, N*H*W, C], with so many channels more as ttnn may pad."""
    flat = image.permute(0, 2, 3, 1).reshape(1, 1, -1, image.shape[1])
    return functional.pad(flat, (0, padded), value=7.0)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pool2d(ceil_mode: bool) -> None:
    """Symmetric padding, and one side only."""
    pool = GOLDENS["ttnn.max_pool2d"]
    given = (rows(IMAGE, padded=24), 2, 6, 10, 8, (3, 3), (2, 2))
    expected = functional.max_pool2d(IMAGE, 3, 2, 1, ceil_mode=ceil_mode)
    assert torch.equal(pool(*given, (1, 1), (1, 1), ceil_mode), rows(expected))
    below = functional.max_pool2d(
        functional.pad(IMAGE, (0, 0, 0, 1), value=-torch.inf), 3, 2, ceil_mode=ceil_mode
    )
    assert torch.equal(pool(*given, (0, 1, 0, 0), (1, 1), ceil_mode), rows(below))


def test_conv1d() -> None:
    line, weight, bias = IMAGE[:, :, :1], torch.randn(4, 4, 3), torch.randn(1, 1, 1, 4)
    actual = GOLDENS["ttnn.conv1d"](
        rows(line), weight, 8, 4, 2, 10, 3, stride=2, padding=1, groups=2, bias_tensor=bias
    )
    expected = functional.conv1d(line[:, :, 0], weight, bias.flatten(), 2, 1, 1, 2)
    torch.testing.assert_close(actual, rows(expected[:, :, None]))


def test_conv_transpose2d() -> None:
    weight = torch.randn(8, 4, 3, 3)
    actual = GOLDENS["ttnn.conv_transpose2d"](
        rows(IMAGE), weight, 8, 4, 2, 6, 10, (3, 3), (2, 2), (1, 0), output_padding=(1, 0)
    )
    torch.testing.assert_close(
        actual, rows(functional.conv_transpose2d(IMAGE, weight, None, 2, (1, 0), (1, 0)))
    )


def test_what_they_cannot_know_is_no_golden() -> None:
    """A weight in the device's order, indices, padding that differs from side to side."""
    with pytest.raises(NoGolden, match="is not torch's"):
        GOLDENS["ttnn.conv1d"](rows(IMAGE[:, :, :1]), torch.randn(1, 1, 24, 32), 8, 32, 2, 10, 3)
    with pytest.raises(NoGolden, match="indices"):
        GOLDENS["ttnn.max_pool2d"](rows(IMAGE), 2, 6, 10, 8, (2, 2), (2, 2), (0, 0), return_indices=True)
    with pytest.raises(NoGolden, match="side to side"):
        GOLDENS["ttnn.conv_transpose2d"](
            rows(IMAGE), torch.randn(8, 4, 3, 3), 8, 4, 2, 6, 10, (3, 3), padding=(0, 1, 0, 0)
        )


@pytest.mark.parametrize(("old", "new"), [((2, 32, 64), (64, 64)), ((5, 64), (1, 5, 64))])
def test_a_view_whose_pages_stay(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    """And none where the pages of tiles would hold other values."""
    view = GOLDENS["ttnn.experimental.view"]
    x = torch.randn(*old)
    assert torch.equal(view(x, new), x.reshape(new))
    with pytest.raises(NoGolden, match="another order"):
        view(x, (-1, 32))
