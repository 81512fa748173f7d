"""The op log of one pass of a model, by layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import ttnn

import tt_llm
from harness.emulator import op_names
from harness.results.schema import Phase
from harness.ttnn_calls.op_log import OpRecord, recorded


@dataclass(frozen=True)
class Pass:
    """The ops in order; `layers`: of each layer, its first op and the one after its last."""

    ops: tuple[OpRecord, ...]
    layers: tuple[tuple[int, int], ...]

    def of_layers(self, count: int) -> Pass:
        """The same pass of a model with `count` layers, all like this one's only one."""
        ((start, end),) = self.layers
        length = end - start
        ops = (*self.ops[:start], *self.ops[start:end] * count, *self.ops[end:])
        return Pass(ops, tuple((start + i * length, start + (i + 1) * length) for i in range(count)))

    def layer_of(self, index: int) -> int | None:
        """The layer an op belongs to, None before the first and after the last."""
        return next((i for i, (start, end) in enumerate(self.layers) if start <= index < end), None)


def logged(generator: tt_llm.Generator, run: Callable[[], object]) -> Pass:
    """Runs it once and logs what the generator's model calls."""
    layers: list[tuple[int, int]] = []

    def marked(call: Callable[..., Any], log: list[OpRecord]) -> Callable[..., Any]:
        def through(*args: Any, **kwargs: Any) -> Any:
            start = len(log)
            result = call(*args, **kwargs)
            layers.append((start, len(log)))
            return result

        return through

    with ExitStack() as stack:
        log = stack.enter_context(recorded(ttnn, op_names()))
        for layer in generator.model.layers:
            for name in ("prefill", "decode"):
                stack.enter_context(patch.object(layer, name, marked(getattr(layer, name), log)))
        run()
    return Pass(tuple(log), tuple(layers))


def step(
    generator: tt_llm.Generator, phase: Phase, batch: int, seq_len: int, *, traced: bool = False
) -> Callable[[], object]:
    """The call that a prefill of one user's `seq_len` tokens is, or a decode step of `batch` users at position `seq_len`.

    To be logged it must not be traced: a replay calls no ops.
    """
    if phase == "prefill":
        return lambda: generator.prefill_forward(torch.zeros(1, seq_len, dtype=torch.int32))
    tokens = torch.zeros(batch, 1, dtype=torch.int32)
    positions = torch.full((batch,), seq_len, dtype=torch.int32)
    return lambda: generator.decode_forward(tokens, positions, enable_trace=traced)
