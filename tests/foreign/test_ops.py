"""Every op of a user's code on target shadow: in order, with file and line, its own and the chained error, and where it parts."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UserError
from harness.foreign import watched

MINE = """
import pytest
import torch
import ttnn
from torch.nn import functional
from harness.foreign import parting, watched

class Attention(torch.nn.Module):
    def forward(self, q, k, v):
        return functional.softmax(q @ k.transpose(-1, -2) / 8, -1) @ v

def attention(q, k, v, scale):
    scores = ttnn.matmul(q, ttnn.transpose(k, -2, -1))
    scores = ttnn.multiply(scores, scale)
    weights = ttnn.softmax(scores, dim=-1)
    return ttnn.matmul(weights, v)

@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return [torch.randn(1, 2, 64, 64).bfloat16() for _ in range(3)]

@pytest.fixture
def there(mesh_device, inputs):
    return [ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device) for x in inputs]

def line(text):
    return 1 + next(i for i, found in enumerate(open(__file__)) if text in found)

def test_right(inputs, there):
    with watched() as ops:
        attention(*there, 1 / 8)
    names = ["transpose", "matmul", "multiply", "softmax", "matmul"]
    assert [step.op for step in ops.steps] == ["ttnn." + name for name in names]
    assert [step.line for step in ops.steps] == [line("scores = ttnn.mat")] * 2 + [
        line(text) for text in ("ttnn.multiply(scores", "weights = ", "(weights, v)")]
    assert {step.file for step in ops.steps} == {__file__}
    assert all(step.local.rel_l2 < 0.03 and step.source == "exact" for step in ops.steps), ops.lines()
    assert ops.steps[0].chain.rel_l2 == 0 < ops.steps[1].chain.rel_l2 < ops.steps[-1].chain.rel_l2 < 0.04
    found = parting(ops, Attention(), *inputs)
    assert found.first is None and found.agree == 5, found
    assert "softmax(scores" in ops.lines()[3]

def test_wrong_scale(inputs, there):
    with watched() as ops:
        attention(*there, 1 / 64)
    assert max(step.local.rel_l2 for step in ops.steps) < 0.03
    first = parting(ops, Attention(), *inputs).first
    assert (first.op, first.line) == ("ttnn.multiply", line("ttnn.multiply(scores"))

def test_wrong_order(inputs, there):
    q, k, v = there
    with watched() as ops:
        attention(q, v, k, 1 / 8)
    first = parting(ops, Attention(), *inputs).first
    assert (first.op, first.line) == ("ttnn.matmul", line("scores = ttnn.mat"))

def test_in_place_views_and_what_has_no_golden(there):
    x = there[0]
    with watched() as ops:
        view = ttnn.reshape(x, (2, 64, 64))
        ttnn.multiply_(x, 3.0)
        y = ttnn.add(view, view)
        ttnn.experimental.rotate_half(y)
        ttnn.deallocate(y)
    rotated = ops.steps[-1]
    assert [step.op.rpartition(".")[2] for step in ops.steps] == ["reshape", "multiply_", "add", "rotate_half"]
    assert all(step.chain.rel_l2 < 0.01 for step in ops.steps[:-1]), ops.lines()
    assert rotated.local is None and rotated.source == "none"
    assert list(ops.missing) == ["ttnn.experimental.rotate_half"]
    ttnn.add(x, x)
    assert len(ops.steps) == 4
"""


def test_on_the_shadow(judge: Any) -> None:
    done = judge(MINE, "--tt-target=shadow", "--tt-emulator-mode=device")
    assert done.status == 0, done.out[-4000:]
    assert "4 passed" in done.out


def test_another_target_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match=r"^target: .*--tt-target shadow$"), watched():
        raise AssertionError("not reached")
