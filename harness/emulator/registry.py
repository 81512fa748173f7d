"""Every op by its full ttnn name: what the api module is filled from, and where the op log will hook in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from harness.emulator.replicas import once

_Op = TypeVar("_Op", bound=Callable[..., Any])

OPS: dict[str, Callable[..., Any]] = {}


def op(*names: str, across: bool = False) -> Callable[[_Op], _Op]:
    """Register a function under its ttnn names; Python's own TypeErrors then name the op and the bad keyword.

    `across`: it looks at the devices of a mesh one by one, so it may not be run for one of them alone.
    """

    def register(function: _Op) -> _Op:
        function.__qualname__ = names[0]
        called = function if across else cast(_Op, once(function))
        for name in names:
            if name in OPS:
                raise ValueError(f"op {name} is registered twice")
            OPS[name] = called
        return called

    return register
