"""What is the same on several devices of a mesh is held once and computed once.

Devices are alike to an op where each tensor it is given has one and the same torch tensor as their shard: on a mesh of two axes
those of a row, say, or all of them. The op runs on one of each kind; its results are alike in turn. Ops that write in place
call `Tensor.own` first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from harness.emulator.runtime.tensor import Shards, Tensor

_Result = TypeVar("_Result")

_several = False  # whether a mesh of more than one device was ever opened


def expect_several() -> None:
    """From now on tensors may lie on several devices; until then calls go straight to their ops."""
    global _several
    _several = True


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The op, run for one device where all devices would do the same."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _several:
            return function(*args, **kwargs)
        given = list(tensors((args, kwargs)))
        return alone(
            given, lambda: function(*args, **kwargs), lambda result: [t.shards for t in tensors(result)]
        )

    return call


def alone(
    given: Iterable[Tensor], run: Callable[[], _Result], made: Callable[[_Result], Iterable[Shards]]
) -> _Result:
    """Runs it for one device of each kind: those of a kind would do the same on the tensors given.

    `made`: the shards of the result, which are then those of every device.
    """
    lists = {id(tensor.shards): tensor.shards for tensor in given if len(tensor.shards) > 1}.values()
    if (
        len({len(shards) for shards in lists}) != 1
    ):  # one device's, or of different meshes: the op's own business
        return run()
    numbers: dict[tuple[int, ...], int] = {}  # what the devices of a kind have -> the kind's number
    kinds = [numbers.setdefault(tuple(map(id, had)), len(numbers)) for had in zip(*lists, strict=True)]
    firsts = [kinds.index(kind) for kind in range(len(numbers))]

    def everywhere(shards: Shards) -> None:
        if len(shards) == len(firsts):
            shards[:] = [shards[kind] for kind in kinds]
        elif len(shards) == 1:
            spread(shards, len(kinds))

    for shards in lists:
        shards[:] = [shards[device] for device in firsts]
    try:
        result = run()
    finally:
        for shards in lists:
            everywhere(shards)
    for shards in made(result):
        everywhere(shards)
    return result


def spread(shards: list[torch.Tensor], devices: int) -> None:
    """One shard becomes that of every device. The list stays the same object, which a trace relies on."""
    shards *= devices


def replicated(tensor: Tensor) -> bool:
    """Whether all devices share one shard."""
    first = tensor.shards[0]
    return all(shard is first for shard in tensor.shards)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors among an op's arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
