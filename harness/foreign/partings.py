"""Which op parts from PyTorch: an op does what it is told, so a wrong argument shows in no op's own error.

A PyTorch module runs on the same inputs, and every tensor that it computes is kept. An op agrees with it where its result, in
fp32, holds the values of one of them, in any order: that a program transposes, splits or joins heads elsewhere than PyTorch does
not matter. The first op that was given what agrees, and from which on nothing agrees any more, is where the two part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from harness.foreign.ops import OpStep, Watched

# Relative L2 between sorted values. The chain of ops is in fp32 as PyTorch is; weights in a block format are 0.5% off.
AGREES = 0.01
_MASKED = 1e30  # what a mask leaves, -inf or the least number there is: beside it no other value would count


@dataclass(frozen=True)
class Parting:
    """`agree`: how many ops agree with PyTorch. `first`: the op that parts from it, None where the last op agrees."""

    agree: int
    first: OpStep | None

    def __str__(self) -> str:
        if self.first is None:
            return f"the program is PyTorch's: {self.agree} ops agree, the last of them too"
        return f"PARTS FROM PYTORCH: {self.first.op}, op {self.first.index}\n  {self.first.site}"


def parting(ops: Watched, module: Callable[..., Any], *args: Any, **kwargs: Any) -> Parting:
    """Holds watched ops against a PyTorch module, which is called, as an fp32 copy, with the arguments given."""
    return _parting(ops.steps, _computed(module, args, kwargs))


def _parting(steps: list[OpStep], reference: dict[int, list[torch.Tensor]]) -> Parting:
    agrees = [any(_known(values, reference) for values in step.made) for step in steps]
    last = max((index for index, agree in enumerate(agrees) if agree), default=-1)
    if last == len(steps) - 1:
        return Parting(sum(agrees), None)
    # Ops that move what agrees agree too; the first after them that computes is the one. An op that was not compared is passed over.
    after = [step for step in steps[last + 1 :] if not step.missing]
    return Parting(sum(agrees), after[0] if after else steps[last + 1])


def _computed(module: Callable[..., Any], args: Any, kwargs: Any) -> dict[int, list[torch.Tensor]]:
    """The sorted values of every tensor that a module is given or computes in fp32, by their number."""
    if isinstance(module, torch.nn.Module):
        module = copy.deepcopy(module).float()
    args, kwargs = tree_map(_in_fp32, (args, kwargs))
    outputs: dict[int, list[torch.Tensor]] = {}

    class Keep(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for tensor in tree_iter(result):
                if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel() > 1:
                    outputs.setdefault(tensor.numel(), []).append(_sorted(tensor))
            return result

    with torch.no_grad(), Keep():  # type: ignore[no-untyped-call]
        module(*args, **kwargs)
    return outputs


def _known(values: torch.Tensor, reference: dict[int, list[torch.Tensor]]) -> bool:
    mine = _sorted(values)
    norm = float(mine.norm()) or 1.0
    return any(float((mine - theirs).norm()) <= AGREES * norm for theirs in reference.get(mine.numel(), ()))


def _sorted(values: torch.Tensor) -> torch.Tensor:
    flat = values.detach().float().flatten()
    return torch.where(flat.abs() < _MASKED, flat, 0).sort().values


def _in_fp32(value: Any) -> Any:
    is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if is_real else value
