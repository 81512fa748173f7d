"""The way of every op's call: arguments settled or refused, padding spelled out, then to the executor in force."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from harness.emulator.runtime import execution, padding
from harness.emulator.runtime.declarations import Kind, Op, declare
from harness.emulator.runtime.padding import Fill
from harness.emulator.spec.signatures import Taken, settled

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What answers for each op, by its full ttnn name: the api module is filled from it.
CALLS: dict[str, Callable[..., Any]] = {}


def op(
    *names: str,
    kind: Kind = Kind.COMPUTE,
    writes: tuple[str, ...] = (),
    per_device: bool | None = None,
    asks_for_l1: bool = False,
) -> Callable[[_Function], _Function]:
    """Declare a function as the op of these ttnn names. Arguments it does not take are settled or refused before it is called.

    `writes`: the arguments that it writes to in place. `per_device`: it looks at the devices of a mesh one by one, as
    collectives do, so it may not be run for one of them alone. `asks_for_l1`: it looks at how much of L1 is free.
    """

    def register(function: _Function) -> _Function:
        function.__qualname__ = names[0]
        one_by_one = kind is Kind.COLLECTIVE if per_device is None else per_device
        declaration = Op(names[0], kind, writes, one_by_one, function, asks_for_l1)
        declare(declaration, names)
        taken = Taken.of(function)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if not taken.fits(args, kwargs):
                args, kwargs = settled(declaration.name, taken, args, kwargs)
            if padding.current() is not Fill.HIDDEN:
                args, kwargs = padding.exposed(declaration.name, args, kwargs)
            return execution.in_force.call(declaration, args, kwargs)

        CALLS.update(dict.fromkeys(names, called))
        return cast(_Function, called)

    return register
