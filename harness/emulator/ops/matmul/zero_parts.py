"""Which part of a weight is not zero. A mesh pads what does not divide over its devices; zero tiles add nothing and take time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.emulator.spec.types import TILE_SIZE

_Tiles = torch.Tensor | None  # their numbers; None: all of them


@dataclass(frozen=True)
class Filled:
    """The tile rows and tile columns of a weight [K, N] that are not all zero."""

    rows: _Tiles = None
    columns: _Tiles = None

    def part(self, weight: torch.Tensor) -> torch.Tensor:
        """[K, N] -> the filled rows and columns."""
        return _taken(_taken(weight, self.rows, 0), self.columns, 1)

    def spread(self, product: torch.Tensor, width: int) -> torch.Tensor:
        """[..., filled columns] -> [..., N], zeros elsewhere."""
        if self.columns is None:
            return product
        whole = product.new_zeros(*product.shape[:-1], width)
        tiles = product.unflatten(-1, (len(self.columns), TILE_SIZE))
        whole.unflatten(-1, (-1, TILE_SIZE)).index_copy_(-2, self.columns, tiles)
        return whole


def filled(weights: Sequence[torch.Tensor], rows: bool) -> list[Filled]:
    """Of each device's weight; `rows` only if asked for. One device's, and one of broken tiles, counts as filled throughout."""
    if len(weights) == 1 or weights[0].dim() != 2 or any(size % TILE_SIZE for size in weights[0].shape):
        return [Filled()] * len(weights)
    places = [Filled(_filled(w, 0) if rows else None, _filled(w, 1)) for w in weights]
    # One object where all are the same, so that `taken` cuts a replicated activation once.
    first = places[0].rows
    same = all(_same(place.rows, first) for place in places)
    return [Filled(first, place.columns) for place in places] if same else places


def taken(activations: Sequence[torch.Tensor], places: Sequence[Filled]) -> list[torch.Tensor]:
    """[..., K] of each device -> the columns that meet filled rows."""
    parts: dict[tuple[int, int], torch.Tensor] = {}
    for x, place in zip(activations, places, strict=True):
        key = id(x), id(place.rows)
        if key not in parts:
            parts[key] = _taken(x, place.rows, -1)
    return [parts[id(x), id(place.rows)] for x, place in zip(activations, places, strict=True)]


def _taken(matrix: torch.Tensor, tiles: _Tiles, dim: int) -> torch.Tensor:
    if tiles is None:
        return matrix
    by_tile = matrix.unflatten(dim, (-1, TILE_SIZE))
    tile_dim = dim if dim >= 0 else dim - 1
    columns: torch.Tensor = by_tile.index_select(tile_dim, tiles).flatten(tile_dim, tile_dim + 1)
    return columns


def _filled(weight: torch.Tensor, dim: int) -> _Tiles:
    some = weight.ne(0).any(1 - dim).view(-1, TILE_SIZE).any(-1)
    return None if bool(some.all()) else some.nonzero()[:, 0]


def _same(a: _Tiles, b: _Tiles) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))
