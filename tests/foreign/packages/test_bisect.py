"""A wrong argument in tt-symbiote's attention is found, with file and line of its code."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from symbiote_parts import activations, on
from torch.nn import functional
from tt_symbiote import set_device
from tt_symbiote.modules import ttnn_attention

from harness.foreign import parting, watched


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return functional.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1) @ v


@pytest.mark.parametrize("fused", [True, False])
def test_a_wrong_scale(fused: bool, one: Any) -> None:
    """In the fused op, and in the matmuls that take its place where ttnn refuses it."""
    inputs = [activations(1, 4, 64, 64) for _ in range(3)]
    module = ttnn_attention.TTNNSDPAAttention()
    set_device(module, one)
    module._sdpa_available = fused

    def run(scale: float) -> Any:
        with watched() as ops:
            tensors = [on(one, x) for x in inputs]
            module.forward(None, *tensors, None, is_causal=True, scaling=scale, transpose_output=False)
        assert not ops.missing
        return parting(ops, attention, *inputs)

    assert run(64**-0.5).first is None
    found = run(1 / 64).first
    assert found.op == ("ttnn.transformer.scaled_dot_product_attention" if fused else "ttnn.multiply")
    assert found.file == ttnn_attention.__file__
    source, start = inspect.getsourcelines(ttnn_attention.TTNNSDPAAttention)
    assert start <= found.line < start + len(source)
    called = Path(found.file).read_text().splitlines()[found.line - 1]
    assert found.op.rpartition(".")[2] in called
