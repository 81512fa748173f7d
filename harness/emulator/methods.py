"""The methods and operators of `ttnn.Tensor` that are ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.emulator.ops.eltwise import binary, comparison
from harness.emulator.ops.movement import movement
from harness.emulator.ops.placement import layout, typecast
from harness.emulator.ops.transfer import transfer
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.types import DataType, Layout


def _reflected(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda tensor, other: function(other, tensor)


def _to(tensor: Tensor, target: Any) -> Tensor:
    if isinstance(target, Layout):
        return layout.to_layout(tensor, target)
    if isinstance(target, DataType):
        return typecast.typecast(tensor, target)
    return transfer.to_device(tensor, target)


def _item(tensor: Tensor) -> float:
    return transfer.to_torch(tensor).item()


def _to_torch(tensor: Tensor, dtype: torch.dtype | None = None, mesh_composer: Any = None) -> torch.Tensor:
    return transfer.to_torch(tensor, dtype, mesh_composer=mesh_composer)


def _cpu(tensor: Tensor, blocking: bool = True, cq_id: int | None = None) -> Tensor:
    return transfer.from_device(tensor, blocking, queue_id=cq_id)


def _reshape(tensor: Tensor, *shape: Any) -> Tensor:
    """By a shape, or by four numbers."""
    if len(shape) == 1 and not isinstance(shape[0], int):
        return movement.reshape(tensor, shape[0])
    if len(shape) != 4:
        raise TypeError(
            f"ttnn.Tensor.reshape: takes a shape or four numbers, got {', '.join(map(repr, shape))}"
        )
    return movement.reshape(tensor, shape)


_METHODS: dict[str, Callable[..., Any]] = {
    "__getitem__": movement.get_item,
    "__add__": binary.add,
    "__radd__": _reflected(binary.add),
    "__sub__": binary.subtract,
    "__rsub__": _reflected(binary.subtract),
    "__mul__": binary.multiply,
    "__rmul__": _reflected(binary.multiply),
    "__truediv__": binary.divide,
    "__rtruediv__": _reflected(binary.divide),
    "__lt__": comparison.lt,
    "__gt__": comparison.gt,
    "__le__": comparison.le,
    "__ge__": comparison.ge,
    "reshape": _reshape,
    "to": _to,
    "to_torch": _to_torch,
    "cpu": _cpu,
    "item": _item,
}


def attach() -> None:
    """Give `Tensor` its methods; they cannot stand in its own module, which the ops import."""
    for name, function in _METHODS.items():
        setattr(Tensor, name, function)
