"""Values of an op that the emulator does not have: its golden in fp32 on what the inputs hold, rounded once into the result."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Tensor, replaced, tensors_in
from harness.targets.shadow.conversion import Spec
from harness.targets.shadow.mesh import ValuesMesh
from harness.targets.shadow.values import run
from harness.ttnn_calls.op_goldens import GOLDENS

# Ops whose result on a device depends on the others': a golden of one device says nothing of them.
_ACROSS_DEVICES = re.compile(
    r"gather_|all_|reduce_scatter|broadcast|point_to_point|mesh_partition|reduce_to|send|recv|ring_|_async|barrier"
)


class NoValues(LookupError):
    """No golden says what a call gives; the message says why."""


@dataclass(frozen=True)
class Out:
    """A tensor that a call gives: its spec, and the emulator's tensor it is written to if it is not new."""

    spec: Spec
    target: Tensor | None = None


def has_golden(op: Any) -> bool:
    """Whether there may be values from one."""
    return op.python_fully_qualified_name in GOLDENS or op.golden_function is not None


def from_golden(
    op: Any, args: Any, kwargs: Any, outs: Sequence[Out], mesh: ValuesMesh, to_host: Callable[[Tensor], Any]
) -> list[Tensor]:
    """The tensors of a call, new ones made and others written to, at once or when the trace that is captured runs.

    `args`, `kwargs`: as the op has them, with the emulator's tensors in place of the real ones. `to_host`: a real host tensor
    of what one of them holds, on one device. Raises NoValues, and whatever a golden raises.
    """
    name = op.python_fully_qualified_name
    several = mesh.num_devices > 1
    if several and _ACROSS_DEVICES.search(name):
        raise NoValues("its golden knows one device, and it works across several")
    call = _Call(op, to_host)

    def compute(structure: Any, targets: Sequence[Tensor | None]) -> list[Tensor]:
        last: list[list[torch.Tensor]] = []  # of the last run: an output's shards

        def shards(index: int) -> list[torch.Tensor]:
            if index == 0:
                last[:] = call.on_all_devices(structure, [out.spec for out in outs])
            return last[index]

        results = []
        for index, (out, target) in enumerate(zip(outs, targets, strict=True)):
            if target is None:
                results.append(make_tensor(name, functools.partial(shards, index), *out.spec, mesh))
                continue

            def copy(index: int = index, target: Tensor = target) -> None:
                for mine, new in zip(target.shards, shards(index), strict=True):
                    mine.copy_(new.reshape(mine.shape))

            results.append(write(name, target, copy))
        return results

    result: list[Tensor] = run(name, compute, (args, kwargs), [out.target for out in outs], kind=Kind.COMPUTE)
    return result


def in_fp32(op: Any, structure: Any, to_host: Callable[[Tensor], Any]) -> list[list[torch.Tensor]]:
    """What a call's golden gives before any rounding: for each output a tensor a device.

    `structure`: the arguments, with the emulator's tensors in place of the real ones. Raises as `from_golden` does.
    """
    name = op.python_fully_qualified_name
    devices = max((len(tensor.shards) for tensor in tensors_in(structure)), default=1)
    if devices > 1 and _ACROSS_DEVICES.search(name):
        raise NoValues("its golden knows one device, and it works across several")
    if not has_golden(op):
        raise NoValues("it has no golden")
    call = _Call(op, to_host)
    with torch.inference_mode(False), torch.no_grad():
        results = [list(_torch_tensors(call.result(structure, device))) for device in range(devices)]
    return [list(shards) for shards in zip(*results, strict=True)]


class _Call:
    """A golden's call, device after device."""

    def __init__(self, op: Any, to_host: Callable[[Tensor], Any]) -> None:
        self._op, self._to_host = op, to_host

    def on_all_devices(self, structure: Any, specs: Sequence[Spec]) -> list[list[torch.Tensor]]:
        """For each output its shards."""
        inputs = list(tensors_in(structure))
        devices = max((len(tensor.shards) for tensor in inputs), default=1)
        results: dict[tuple[int, ...], list[torch.Tensor]] = {}
        columns = []
        for device in range(devices):
            identity = tuple(id(_shard(tensor, device)) for tensor in inputs)
            if identity not in results:
                results[identity] = self._on_one(structure, device, specs)
            columns.append(results[identity])
        return [list(shards) for shards in zip(*columns, strict=True)]

    def _on_one(self, structure: Any, device: int, specs: Sequence[Spec]) -> list[torch.Tensor]:
        name = self._op.python_fully_qualified_name
        backward = name.endswith("_bw")
        with torch.inference_mode(False), torch.set_grad_enabled(backward):
            result = self.result(structure, device)
        tensors = list(_torch_tensors(result))
        if len(tensors) != len(specs):
            raise NoValues(f"its golden gives {len(tensors)} tensors, ttnn {len(specs)}")
        return [rounded(values.detach(), spec) for values, spec in zip(tensors, specs, strict=True)]

    def result(self, structure: Any, device: int) -> Any:
        """Of one device, as the golden gives it."""
        own = GOLDENS.get(self._op.python_fully_qualified_name)
        if own is not None:
            args, kwargs = _with(structure, lambda tensor: _numbers(tensor, device))
            try:
                return own(*args, **kwargs)
            except Exception:
                if self._op.golden_function is None:
                    raise
        prepare = self._op.preprocess_golden_function_inputs
        if prepare is not None and prepare.__name__ != "default_preprocess_golden_function_inputs":
            args, kwargs = prepare(*_with(structure, lambda tensor: self._to_host(_on(tensor, device))))
        else:
            args, kwargs = _with(structure, lambda tensor: _numbers(tensor, device))
        return self._op.golden_function(*args, **kwargs)


def rounded(values: torch.Tensor, spec: Spec) -> torch.Tensor:
    """Into the spec's format, as the packer rounds; raises NoValues for another number of elements."""
    if values.numel() != math.prod(spec.shape):
        raise NoValues(f"its golden gives shape {list(values.shape)}, ttnn {list(spec.shape)}")
    values = values.reshape(tuple(spec.shape))
    dtype = formats.storage_dtype(spec.dtype)
    if dtype.is_floating_point:
        return formats.pack_round(values.float().contiguous(), spec.dtype).to(dtype)
    return values.to(torch.int64).to(dtype).contiguous()


def _with(structure: Any, convert: Callable[[Tensor], Any]) -> Any:
    """The arguments with what a golden takes in place of tensors."""
    return replaced(structure, convert)


def _shard(tensor: Tensor, device: int) -> torch.Tensor:
    return tensor.shards[device if len(tensor.shards) > 1 else 0]


def _on(tensor: Tensor, device: int) -> Tensor:
    return Tensor([_shard(tensor, device)], tensor.shape, tensor.dtype, tensor.layout, tensor.config)


def _numbers(tensor: Tensor, device: int) -> torch.Tensor:
    shard = _shard(tensor, device)
    return shard.float().clone() if shard.dtype.is_floating_point else shard.long()


def _torch_tensors(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _torch_tensors(item)
