"""What is the same on every device of a mesh is held once and computed once.

A tensor is replicated where its shards are one and the same torch tensor. An op whose tensors are all replicated runs on
one of the devices; its results are replicated in turn. Ops that write in place call `Tensor.own` first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from harness.emulator.tensor import Tensor

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
        given = [t for t in _tensors((args, kwargs)) if len(t.shards) > 1]
        if not given or not all(replicated(t) for t in given):
            return function(*args, **kwargs)
        devices = len(given[0].shards)
        for tensor in given:
            tensor.shards = tensor.shards[:1]
        try:
            result = function(*args, **kwargs)
        finally:
            for tensor in given:
                tensor.shards = tensor.shards[:1] * devices
        for tensor in _tensors(result):
            if len(tensor.shards) == 1:
                tensor.shards = tensor.shards * devices
        return result

    return call


def replicated(tensor: Tensor) -> bool:
    """Whether all devices share one shard."""
    first = tensor.shards[0]
    return all(shard is first for shard in tensor.shards)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
