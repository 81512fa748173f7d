"""Binary ops whose result goes into their first operand: `ttnn.add_` and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.emulator.ops.eltwise.binary import Activation, Scalar, combining
from harness.emulator.ops.eltwise.binary_steps import COMPARISONS
from harness.emulator.ops.eltwise.comparison import truth
from harness.emulator.runtime.declarations import Kind
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import Tensor


def _require_tensor(name: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: writes to its first operand, a ttnn.Tensor; got {x!r}")


def _sum(kind: str, compute: Callable[..., torch.Tensor], *names: str) -> None:
    binary = combining(kind, names[0], compute, True)

    @op(*names, kind=Kind.IN_PLACE, writes=("input_tensor_a",))
    def in_place(
        input_tensor_a: Tensor,
        input_tensor_b: Tensor | Scalar,
        *,
        activations: Sequence[Activation] = (),
        input_tensor_a_activations: Sequence[Activation] = (),
        input_tensor_b_activations: Sequence[Activation] = (),
        fast_and_approximate_mode: bool = True,
    ) -> Tensor:
        _require_tensor(names[0], input_tensor_a)
        return binary(
            input_tensor_a,
            input_tensor_b,
            fast_and_approximate_mode=fast_and_approximate_mode,
            output_tensor=input_tensor_a,
            activations=activations,
            input_tensor_a_activations=input_tensor_a_activations,
            input_tensor_b_activations=input_tensor_b_activations,
        )


def _other(kind: str, compute: Callable[..., torch.Tensor], on_fpu: bool, *names: str) -> None:
    """ttnn names the operands otherwise here."""
    binary = combining(kind, names[0], compute, on_fpu)

    @op(*names, kind=Kind.IN_PLACE, writes=("input_a",))
    def in_place(
        input_a: Tensor,
        input_b: Tensor | Scalar,
        *,
        activations: Sequence[Activation] = (),
        input_tensor_a_activations: Sequence[Activation] = (),
        input_tensor_b_activations: Sequence[Activation] = (),
    ) -> Tensor:
        _require_tensor(names[0], input_a)
        return binary(
            input_a,
            input_b,
            output_tensor=input_a,
            activations=activations,
            input_tensor_a_activations=input_tensor_a_activations,
            input_tensor_b_activations=input_tensor_b_activations,
        )


_sum("add", torch.add, "ttnn.add_")
_sum("subtract", torch.sub, "ttnn.subtract_", "ttnn.sub_")
_other("multiply", torch.mul, False, "ttnn.multiply_", "ttnn.mul_")
_other("divide", torch.div, False, "ttnn.divide_", "ttnn.div_")
_other("rsub", torch.rsub, True, "ttnn.rsub_")
for _kind in COMPARISONS:
    _other(_kind, truth(_kind), False, f"ttnn.{_kind}_")
