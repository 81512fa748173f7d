"""Every op by its full ttnn name: what the api module is filled from, and where a trace's capture takes the calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from harness.emulator.runtime import padding
from harness.emulator.runtime.padding import Fill
from harness.emulator.runtime.replicas import once
from harness.emulator.runtime.signatures import Taken, settled

_Op = TypeVar("_Op", bound=Callable[..., Any])
# Called instead of an op: with its name, itself, and its arguments.
Around = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

OPS: dict[str, Callable[..., Any]] = {}
ACROSS: set[str] = set()  # ops that look at the devices of a mesh one by one

_around: Around | None = None


def set_around(around: Around | None) -> Around | None:
    """From now on it is called instead of any op, or nothing is; returns what was before."""
    global _around
    before, _around = _around, around
    return before


def op(*names: str, across: bool = False) -> Callable[[_Op], _Op]:
    """Register a function under its ttnn names. Arguments it does not take are settled or refused before it is called.

    `across`: it looks at the devices of a mesh one by one, so it may not be run for one of them alone.
    """

    def register(function: _Op) -> _Op:
        function.__qualname__ = names[0]
        body = function if across else once(function)
        taken = Taken.of(function)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if not taken.fits(args, kwargs):
                args, kwargs = settled(names[0], taken, args, kwargs)
            if padding.current() is not Fill.HIDDEN:
                args, kwargs = padding.exposed(names[0], args, kwargs)
            if _around is None:
                return body(*args, **kwargs)
            return _around(names[0], body, args, kwargs)

        if across:
            ACROSS.update(names)
        for name in names:
            if name in OPS:
                raise ValueError(f"op {name} is registered twice")
            OPS[name] = called
        return cast(_Op, called)

    return register
