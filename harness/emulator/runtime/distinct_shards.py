"""What is the same on several devices of a mesh is held once and computed once.

Devices are alike to an op where each tensor it is given has one and the same torch tensor as their shard: on a mesh of two axes
those of a row, say, or all of them. The op runs on one of each kind; its results are alike in turn. Ops that write in place
call `Tensor.own` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from harness.emulator.mesh import device
from harness.emulator.runtime.declarations import Op
from harness.emulator.runtime.tensor import Shards, Tensor, tensors_in

_Result = TypeVar("_Result")


def run_distinct(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The op's result, computed for one device where all devices would do the same."""
    if op.per_device or not device.several_opened:
        return op.function(*args, **kwargs)
    return on_distinct(tensors_in((args, kwargs)), lambda: op.function(*args, **kwargs), tensors_in)


def on_distinct(
    inputs: Iterable[Tensor], run: Callable[[], _Result], outputs: Callable[[_Result], Iterable[Tensor]]
) -> _Result:
    """Runs it for one device of each kind: those of a kind would do the same on the inputs.

    While it runs the inputs have the shards of these devices only. `outputs`: the tensors of its result, which have those of
    all devices in the end.
    """
    spread = {id(tensor): tensor for tensor in inputs if len(tensor.shards) > 1}
    counts = {len(tensor.shards) for tensor in spread.values()}
    if len(counts) != 1:  # one device's, or of different meshes: the op's own business
        return run()
    numbers: dict[tuple[int, ...], int] = {}  # what the devices of a kind have -> the kind's number
    shards_of_devices = zip(*(tensor.shards for tensor in spread.values()), strict=True)
    kinds = tuple(numbers.setdefault(tuple(map(id, each)), len(numbers)) for each in shards_of_devices)
    firsts = [kinds.index(kind) for kind in range(len(numbers))]
    changes: list[tuple[Tensor, Shards, Shards]] = []
    for tensor in spread.values():
        changes.append((tensor, tensor.shards, tensor.shards.of(firsts)))
        tensor.shards = changes[-1][2]
    try:
        result = run()
    finally:
        for tensor, everywhere, distinct in changes:
            tensor.shards = everywhere if tensor.shards is distinct else tensor.shards.of(kinds)
    for tensor in outputs(result):
        if id(tensor) in spread:
            continue
        if len(tensor.shards) == len(firsts):
            tensor.shards = tensor.shards.of(kinds)
        elif len(tensor.shards) == 1:
            tensor.shards = tensor.shards.on_all(len(kinds))
    return result


def replicated(tensor: Tensor) -> bool:
    """Whether all devices share one shard."""
    first = tensor.shards[0]
    return all(shard is first for shard in tensor.shards)
