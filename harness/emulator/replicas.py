"""What is the same on every device of a mesh is held once and computed once.

A tensor is replicated where its shards are one and the same torch tensor. An op whose tensors are all replicated runs on
one of the devices; its results are replicated in turn. Ops that write in place call `Tensor.own` first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from harness.emulator.tensor import Tensor

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
        result = alone(given, lambda: function(*args, **kwargs))
        devices = max((len(tensor.shards) for tensor in given), default=1)
        for tensor in tensors(result):
            if len(tensor.shards) == 1:
                spread(tensor.shards, devices)
        return result

    return call


def alone(given: Iterable[Tensor], run: Callable[[], _Result]) -> _Result:
    """Runs it for one device if all devices would do the same on the tensors given; those may appear twice."""
    several = [tensor for tensor in given if len(tensor.shards) > 1]
    if not several or not all(replicated(tensor) for tensor in several):
        return run()
    devices = len(several[0].shards)
    for tensor in several:
        del tensor.shards[1:]
    try:
        return run()
    finally:
        for tensor in several:
            if len(tensor.shards) == 1:
                spread(tensor.shards, devices)


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
