"""What each op is, declared once with the op: its ttnn name, its kind, and what it writes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from inspect import signature
from typing import Any


class Kind(Enum):
    """What a call of an op does."""

    COMPUTE = "compute"  # runs a program that makes new tensors of its inputs
    VIEW = "view"  # another tensor on its input's memory, where that can be
    IN_PLACE = "in place"  # runs a program that writes to a tensor there is
    COLLECTIVE = "collective"  # computes across the devices of a mesh
    CREATION = "creation"  # fills a tensor from the host's side: no program
    TRANSFER = "transfer"  # moves values between host and device: no program
    BUFFER = "buffer"  # shares a buffer, or ends its life: no values


_WITHOUT_PROGRAM = (Kind.CREATION, Kind.TRANSFER, Kind.BUFFER)


@dataclass(frozen=True)
class Op:
    """An op. `writes`: the arguments it writes to in place. `per_device`: it looks at the devices of a mesh one by one.
    `asks_for_l1`: its program follows from how much of L1 is free.
    """

    name: str
    kind: Kind
    writes: tuple[str, ...]
    per_device: bool
    function: Callable[..., Any]
    asks_for_l1: bool = False

    def written(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arguments of a call that it writes to."""
        places = _places(self.function)
        return [kwargs[name] if name in kwargs else args[places.index(name)] for name in self.writes]

    @property
    def ends(self) -> bool:
        """Whether it gives memory back."""
        return self.kind is Kind.BUFFER and not self.per_device


@cache
def _places(function: Callable[..., Any]) -> list[str]:
    return list(signature(function).parameters)


# By every ttnn name an op has; the first is `Op.name`.
DECLARATIONS: dict[str, Op] = {}
# Those that run no program on the device; the others' is compiled at the first call.
UNCOMPILED: set[str] = set()


def declare(op: Op, names: tuple[str, ...]) -> None:
    """Raises ValueError for a name that is declared already."""
    for name in names:
        if name in DECLARATIONS:
            raise ValueError(f"op {name} is declared twice")
        DECLARATIONS[name] = op
        if op.kind in _WITHOUT_PROGRAM:
            UNCOMPILED.add(name)
