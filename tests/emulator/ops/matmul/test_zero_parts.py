"""Zero tiles of a weight are left out of a product, and the product is the same."""

from __future__ import annotations

import torch

from harness.emulator.ops.matmul.zero_parts import Filled, filled, taken


def padded(rows: tuple[int, ...], columns: tuple[int, ...]) -> torch.Tensor:
    """A [160, 128] weight of whole numbers with zeros in these tiles of rows and of columns."""
    weight = torch.randint(1, 5, (160, 128), generator=torch.Generator().manual_seed(0)).float()
    for tile in rows:
        weight[tile * 32 : tile * 32 + 32] = 0
    for tile in columns:
        weight[:, tile * 32 : tile * 32 + 32] = 0
    return weight


def test_the_filled_part_gives_the_whole_product() -> None:
    """Zero rows in front and between, zero columns at the end and everywhere: each device its own."""
    weights = [padded((0, 2), (3,)), padded((0, 2), ()), padded((), (0, 1, 2, 3))]
    x = torch.arange(64 * 160.0).reshape(64, 160)
    places = filled(weights, rows=True)
    cut = taken([x] * 3, places)
    assert [c.shape[-1] for c in cut] == [96, 96, 0]
    assert [place.part(w).shape[-1] for place, w in zip(places, weights, strict=True)] == [96, 128, 0]
    for place, part, weight in zip(places, cut, weights, strict=True):
        assert torch.equal(place.spread(part @ place.part(weight), 128), x @ weight)


def test_where_all_devices_skip_the_same_rows_an_activation_is_cut_once() -> None:
    """One tensor on all devices stays one tensor."""
    places = filled([padded((1,), ()), padded((1,), (0,))], rows=True)
    x = torch.ones(32, 160)
    first, second = taken([x, x], places)
    assert first is second


def test_one_device_and_broken_tiles_are_left_whole() -> None:
    """No padding by a mesh, or none that is whole tiles: nothing is looked for."""
    weight = padded((0,), (0,))
    assert filled([weight], rows=True) == [Filled()]
    assert filled([weight[:, :100], weight[:, :100]], rows=True) == [Filled()] * 2
    assert filled([weight, weight], rows=False)[0].rows is None
