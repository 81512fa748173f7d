"""Comparisons of two, `ttnn.eq` and its kin, and `ttnn.maximum` and `minimum`: binary ops without a choice of unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.emulator.ops.eltwise.binary import Activation, Scalar, combining
from harness.emulator.ops.eltwise.binary_steps import COMPARISONS, EXTREMES
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import DataType


def truth(kind: str) -> Callable[..., torch.Tensor]:
    """A comparison of two torch tensors: 1 where it holds, 0 elsewhere, in the first one's dtype."""
    compare = COMPARISONS[kind]
    return lambda a, b: compare(a, b).to(a.dtype)


def _of_two(kind: str, compute: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    binary = combining(kind, f"ttnn.{kind}", compute, False)

    @op(f"ttnn.{kind}")
    def compared(
        input_tensor_a: Tensor,
        input_tensor_b: Tensor | Scalar,
        *,
        dtype: DataType | None = None,
        memory_config: MemoryConfig | None = None,
        output_tensor: Tensor | None = None,
        activations: Sequence[Activation] = (),
        input_tensor_a_activations: Sequence[Activation] = (),
        input_tensor_b_activations: Sequence[Activation] = (),
    ) -> Tensor:
        return binary(
            input_tensor_a,
            input_tensor_b,
            dtype=dtype,
            memory_config=memory_config,
            output_tensor=output_tensor,
            activations=activations,
            input_tensor_a_activations=input_tensor_a_activations,
            input_tensor_b_activations=input_tensor_b_activations,
        )

    return compared


eq, ne, lt, gt, le, ge = (_of_two(kind, truth(kind)) for kind in COMPARISONS)
maximum, minimum = (_of_two(kind, compute) for kind, compute in EXTREMES.items())
