"""The names and arguments that the real ttnn has, so that a refusal can tell what the emulator lacks from what ttnn lacks too.

`ttnn_api.txt` holds them, written by `scripts/ttnn_api.py`; no ttnn need be installed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, NoReturn

from harness.emulator.errors import NotModelledError

_FILE = Path(__file__).parent / "ttnn_api.txt"
_ADVICE = "try --tt-target shadow"
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Taken:
    """What a function takes: `names`, and how many arguments by place, None for any number."""

    names: frozenset[str]
    by_place: int | None

    @staticmethod
    def of(function: Callable[..., Any]) -> Taken:
        parameters = signature(function).parameters.values()
        any_number = any(each.kind is Parameter.VAR_POSITIONAL for each in parameters)
        names = frozenset(each.name for each in parameters if each.kind is not Parameter.VAR_POSITIONAL)
        return Taken(names, None if any_number else sum(each.kind in _BY_PLACE for each in parameters))

    def fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return kwargs.keys() <= self.names and (self.by_place is None or len(args) <= self.by_place)


@dataclass(frozen=True)
class _Signature:
    """Arguments of ttnn: name -> default in order; Ellipsis where there is none, or none that is a literal."""

    arguments: dict[str, Any]
    by_place: tuple[str, ...]


@cache
def known() -> dict[str, tuple[_Signature, ...]]:
    """Every public name of ttnn and the submodules that the emulator has; an op of the emulator's with its signatures."""
    signatures: dict[str, tuple[_Signature, ...]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        name, bracket, arguments = line.partition("(")
        signatures[name] = (*signatures.get(name, ()), *([_read(arguments[:-1])] if bracket else []))
    return signatures


def _read(text: str) -> _Signature:
    place, star, words = text.partition("*")
    split = [part for part in (place.rstrip(", "), words.lstrip(", ") if star else "") if part]
    arguments = {}
    for each in ", ".join(split).split(", ") if split else ():
        name, equals, default = each.partition("=")
        arguments[name] = ast.literal_eval(default) if equals else ...
    names = [each.partition("=")[0] for each in place.rstrip(", ").split(", ") if each]
    return _Signature(arguments, tuple(names))


def settled(
    op: str, taken: Taken, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments without those that `op` does not take but that say no more than ttnn's default does.

    Raises NotModelledError for one of ttnn's that says more, TypeError for one that ttnn does not take either.
    """
    overloads = known().get(op, ())
    if taken.by_place is not None and len(args) > taken.by_place:
        for place, value in enumerate(args[taken.by_place :], taken.by_place):
            names = [each.by_place[place] for each in overloads if len(each.by_place) > place]
            if not names:
                most = max((len(each.by_place) for each in overloads), default=taken.by_place)
                raise TypeError(f"{op}: takes at most {most} arguments by place, got {len(args)}")
            _pass_default(op, names[0], value, overloads)
        args = args[: taken.by_place]
    for name in kwargs.keys() - taken.names:
        if not any(name in each.arguments for each in overloads):
            possible = dict.fromkeys(argument for each in overloads for argument in each.arguments)
            raise TypeError(f"{op}: unexpected argument {name!r}; ttnn takes {', '.join(possible)}")
        _pass_default(op, name, kwargs[name], overloads)
    return args, {name: value for name, value in kwargs.items() if name in taken.names}


def _pass_default(op: str, name: str, value: Any, overloads: tuple[_Signature, ...]) -> None:
    for each in overloads:
        default = each.arguments.get(name, ...)
        if default is not ... and type(value) is type(default) and value == default:
            return
    raise NotModelledError(f"{op}: the emulator does not model argument {name}, which ttnn takes; {_ADVICE}")


def refuse_name(full_name: str) -> NoReturn:
    """AttributeError for a name that the emulator's ttnn does not have."""
    if full_name in known():
        raise AttributeError(f"the emulator does not model {full_name}, which ttnn has; {_ADVICE}")
    raise AttributeError(f"the emulator does not model {full_name}; nor does ttnn have it")
