"""Tensors on the device, as fp32 PyTorch: what they hold, and what they should hold.

A `Shadows` carries for each device tensor the value that the same ops give in fp32 from the model's own weights on. Values
are lists, one torch tensor a device: float32 in the logical shape, int64 for ids and positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.emulator import Kind, declarations
from harness.ttnn_calls.op_goldens import Golden
from harness.ttnn_calls.op_log import Args, Kwargs, tensors_in

Values = list[torch.Tensor]
SOURCES = ("ttnn.from_torch", "ttnn.as_tensor")


@dataclass
class _Shadow:
    address: int | None  # of the tensor's buffer: a Python id alone may be that of a later tensor
    values: Values
    drift: float | None = None  # how far the tensor is from it; None: not yet computed


class Shadows:
    """The shadows of the tensors there are. A tensor that something else wrote has none: then its own values are taken."""

    def __init__(self, ttnn: Any) -> None:
        self._ttnn = ttnn
        self._known: dict[int, _Shadow] = {}

    def copy(self) -> Shadows:
        """The same shadows; what is put into one is not seen in the other."""
        other = Shadows(self._ttnn)
        other._known = dict(self._known)
        return other

    def get(self, tensor: Any) -> Values | None:
        """What the tensor should hold, if that is known."""
        shadow = self._known.get(id(tensor))
        return shadow.values if shadow is not None and shadow.address == _address(tensor) else None

    def drift(self, tensor: Any, own: Values, measure: Callable[[Values, Values], float]) -> float:
        """How far what the tensor holds, `own`, is from what it should hold; computed once. 0 where that is not known."""
        if self.get(tensor) is None:
            return 0.0
        shadow = self._known[id(tensor)]
        if shadow.drift is None:
            shadow.drift = measure(own, shadow.values)
        return shadow.drift

    def put(self, tensor: Any, values: Values) -> None:
        """From now on the tensor should hold these values."""
        self._known[id(tensor)] = _Shadow(_address(tensor), values)

    def drop(self, tensor: Any) -> None:
        """What the tensor should hold is no longer known."""
        self._known.pop(id(tensor), None)

    def of(self, tensor: Any) -> Values:
        """What the tensor should hold, or else what it holds."""
        shadow = self.get(tensor)
        return held(self._ttnn, tensor) if shadow is None else shadow

    def put_source(self, host: torch.Tensor, tensor: Any) -> None:
        """A tensor that came from the host holds what the host held, before any rounding: all of it, or a slice a device."""
        shapes = [tuple(part.shape) for part in self._ttnn.get_device_tensors(tensor)]
        pieces = _pieces(host, shapes)
        if pieces is None:
            self.drop(tensor)
        else:
            self.put(tensor, pieces)


def held(ttnn: Any, tensor: Any) -> Values:
    """What each device holds."""
    return [as_golden(ttnn.to_torch(part)) for part in ttnn.get_device_tensors(tensor)]


def as_golden(host: torch.Tensor) -> torch.Tensor:
    """float32, integers int64."""
    if host.dtype.is_floating_point:
        return host.float()
    # torch computes little on unsigned integers; ids and positions fit int32.
    return (host.view(torch.int32) if host.dtype is torch.uint32 else host).long()


def apply(
    golden: Golden, name: str, args: Args, kwargs: Kwargs, kind: type, look: Callable[[Any], Values]
) -> list[Values]:
    """The golden's results, each a list of one tensor a device, for arguments whose tensors hold what `look` says.

    Raises NoGolden where the golden has none for these arguments.
    """
    # Looked up once: a tensor's copy to the host is the cost of it. The arguments keep their ids alive.
    inputs = {id(tensor): look(tensor) for tensor in tensors_in((args, kwargs), kind)}
    devices = max(map(len, inputs.values()), default=1)
    op = declarations().get(name)
    if op is not None and op.kind is Kind.COLLECTIVE:
        return [_across(golden, args, kwargs, kind, inputs)]
    outputs: list[tuple[torch.Tensor, ...]] = []
    for device in range(devices):
        one = {key: values[device] for key, values in inputs.items()}
        swapped = _swapped((args, kwargs), kind, one)
        result = golden(*swapped[0], **swapped[1])
        outputs.append(tuple(result) if isinstance(result, list | tuple) else (result,))
    return [list(values) for values in zip(*outputs, strict=True)]


def written(name: str, args: Args, kwargs: Kwargs, result: Any, kind: type) -> list[Any]:
    """The tensors that a call wrote: the argument it writes into, else its results."""
    op = declarations().get(name)
    if op is None or op.kind is not Kind.IN_PLACE:
        return list(tensors_in(result, kind))
    return op.written(args, kwargs)


def _across(
    golden: Golden, args: Args, kwargs: Kwargs, kind: type, inputs: dict[int, Values]
) -> list[torch.Tensor]:
    (tensor,) = tensors_in((args, kwargs), kind)
    values = inputs[id(tensor)]
    out = list(values)
    for group in _groups(tuple(tensor.device().shape), kwargs.get("cluster_axis")):
        swapped = _swapped((args, kwargs), kind, {id(tensor): [values[d] for d in group]})
        for device, result in zip(group, golden(*swapped[0], **swapped[1]), strict=True):
            out[device] = result
    return out


def _groups(mesh: tuple[int, ...], axis: int | None) -> list[list[int]]:
    """The devices that a collective along an axis of the mesh joins; None: all of them."""
    devices = torch.arange(int(torch.tensor(mesh).prod())).reshape(mesh)
    groups = devices.reshape(1, -1) if axis is None else devices.movedim(axis, -1).flatten(0, -2)
    return [[int(device) for device in group] for group in groups]


def _swapped(value: Any, kind: type, swap: dict[int, Any]) -> Any:
    if isinstance(value, kind):
        return swap[id(value)]
    if isinstance(value, dict):
        return {key: _swapped(item, kind, swap) for key, item in value.items()}
    if type(value) in (list, tuple):  # not ttnn.Shape and other tuples with a name
        return type(value)(_swapped(item, kind, swap) for item in value)
    return value


def _pieces(host: torch.Tensor, shapes: list[tuple[int, ...]]) -> Values | None:
    if all(shape == tuple(host.shape) for shape in shapes):
        return [as_golden(host)] * len(shapes)
    differing = [
        d for d, (whole, part) in enumerate(zip(host.shape, shapes[0], strict=True)) if whole != part
    ]
    if len(differing) != 1 or len(set(shapes)) != 1 or host.shape[differing[0]] % len(shapes):
        return None
    return [as_golden(piece) for piece in host.chunk(len(shapes), differing[0])]


def _address(tensor: Any) -> int | None:
    return tensor.buffer_address() if tensor.storage_type().name == "DEVICE" else None
