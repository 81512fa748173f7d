"""Shapes and core coordinates: `Shape`, `MeshShape`, `CoreCoord`, `CoreRange`, `CoreRangeSet`, `CoreGrid`."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence

from harness.emulator.errors import DeviceError
from harness.emulator.spec.types import TILE_SIZE


class Shape(tuple[int, ...]):
    """A tensor shape: a tuple that also equals a list, as ttnn's does."""

    __slots__ = ()

    @property
    def rank(self) -> int:
        return len(self)

    def to_rank(self, rank: int) -> Shape:
        """Leading ones added or dropped until the shape has `rank` dimensions."""
        dims = tuple(self)
        while len(dims) > rank and dims[0] == 1:
            dims = dims[1:]
        if len(dims) > rank:
            raise DeviceError(f"Shape.to_rank: {self} does not fit in {rank} dimensions")
        return Shape((1,) * (rank - len(dims)) + dims)

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        return f"Shape({list(self)})"


class MeshShape(tuple[int, ...]):
    """Rows and columns of a device mesh: `MeshShape(1, 2)` or `MeshShape((1, 2))`."""

    __slots__ = ()

    def __new__(cls, *dims: int | Sequence[int]) -> MeshShape:
        flat = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
        return super().__new__(cls, (int(d) for d in flat))  # type: ignore[arg-type]

    def dims(self) -> int:
        return len(self)

    def mesh_size(self) -> int:
        return math.prod(self)

    def __repr__(self) -> str:
        return f"MeshShape({list(self)})"


class CoreCoord(tuple[int, int]):
    """A core's logical position: `.x` the column, `.y` the row."""

    __slots__ = ()

    def __new__(cls, x: int | Sequence[int], y: int | None = None) -> CoreCoord:
        pair = (x, y) if y is not None else x
        return super().__new__(cls, pair)  # type: ignore[arg-type]

    @property
    def x(self) -> int:
        return self[0]

    @property
    def y(self) -> int:
        return self[1]

    def __repr__(self) -> str:
        return f"{self[0]}-{self[1]}"


class CoreGrid:
    """A rectangle of cores from (0, 0): `CoreGrid(y=rows, x=columns)`."""

    __slots__ = ("x", "y")

    def __init__(self, *, x: int, y: int) -> None:
        self.x, self.y = x, y

    @property
    def num_cores(self) -> int:
        return self.x * self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoreGrid) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))

    def __repr__(self) -> str:
        return f"ttnn.CoreGrid(x={self.x}, y={self.y})"


class CoreRange:
    """A rectangle of cores, both corners included."""

    __slots__ = ("end", "start")

    def __init__(self, start: CoreCoord | Sequence[int], end: CoreCoord | Sequence[int]) -> None:
        self.start, self.end = CoreCoord(start), CoreCoord(end)
        if self.end.x < self.start.x or self.end.y < self.start.y:
            raise DeviceError(f"CoreRange: end {self.end} lies before start {self.start}")

    def grid_size(self) -> CoreCoord:
        return CoreCoord(self.end.x - self.start.x + 1, self.end.y - self.start.y + 1)

    def num_cores(self) -> int:
        return self.grid_size().x * self.grid_size().y

    def contains(self, other: CoreCoord) -> bool:
        return self.start.x <= other.x <= self.end.x and self.start.y <= other.y <= self.end.y

    def __iter__(self) -> Iterator[CoreCoord]:
        for y in range(self.start.y, self.end.y + 1):
            for x in range(self.start.x, self.end.x + 1):
                yield CoreCoord(x, y)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoreRange) and (self.start, self.end) == (other.start, other.end)

    def __hash__(self) -> int:
        return hash((self.start, self.end))

    def __repr__(self) -> str:
        return f"[{self.start} - {self.end}]"


class CoreRangeSet:
    """Disjoint core ranges, in the order given."""

    __slots__ = ("_num_cores", "_ranges")

    def __init__(self, core_ranges: Iterable[CoreRange] | CoreRange) -> None:
        self._ranges = [core_ranges] if isinstance(core_ranges, CoreRange) else list(core_ranges)
        self._num_cores = sum(r.num_cores() for r in self._ranges)
        if len(self._ranges) > 1 and len({c for r in self._ranges for c in r}) != self._num_cores:
            raise DeviceError(f"CoreRangeSet: core ranges overlap: {self._ranges}")

    def ranges(self) -> list[CoreRange]:
        return self._ranges

    def num_cores(self) -> int:
        return self._num_cores

    def size(self) -> int:
        return len(self._ranges)

    def empty(self) -> bool:
        return not self._ranges

    def contains(self, other: CoreCoord) -> bool:
        return any(r.contains(other) for r in self._ranges)

    def bounding_box(self) -> CoreRange:
        starts, ends = [r.start for r in self._ranges], [r.end for r in self._ranges]
        return CoreRange(
            (min(s.x for s in starts), min(s.y for s in starts)),
            (max(e.x for e in ends), max(e.y for e in ends)),
        )

    def cores(self) -> list[CoreCoord]:
        return [c for r in self._ranges for c in r]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoreRangeSet) and set(self._ranges) == set(other._ranges)

    def __hash__(self) -> int:
        return hash(frozenset(self._ranges))

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self._ranges)) + "}"


def num_cores_to_corerangeset(
    target_num_cores: int, grid_size: CoreCoord | Sequence[int], row_wise: bool = False
) -> CoreRangeSet:
    """The first `target_num_cores` cores of a grid from (0, 0), full rows (or columns) first, then the rest."""
    x, y = grid_size
    return _first_cores(target_num_cores, x, y, row_wise)


@functools.cache
def _first_cores(target_num_cores: int, x: int, y: int, row_wise: bool) -> CoreRangeSet:
    if not 0 < target_num_cores <= x * y:
        raise DeviceError(
            f"num_cores_to_corerangeset: {target_num_cores} cores do not fit in a grid of {x}x{y} = {x * y}"
        )
    width = x if row_wise else y
    full, rest = divmod(target_num_cores, width)
    corners = []
    if full:
        corners.append(((0, 0), (width - 1, full - 1)))
    if rest:
        corners.append(((0, full), (rest - 1, full)))
    if not row_wise:
        corners = [((a[1], a[0]), (b[1], b[0])) for a, b in corners]
    return CoreRangeSet([CoreRange(a, b) for a, b in corners])


def round_up(value: int, multiple: int = TILE_SIZE) -> int:
    return -(-value // multiple) * multiple
