from __future__ import annotations

import pytest
import torch

from harness.emulator import kernels
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.ops.attention import prefill_steps
from harness.emulator.ops.attention.prefill_steps import Scores, Setting
from harness.emulator.spec.types import MathFidelity
from tests.emulator.arithmetic.test_fpu import (
    INSTRUCTION_SETS,
    as_bf16,
    at_the_limits,
    bits,
    library_for,
    scattered,
)

GROUPS, HEADS, ROWS, WIDTH = 1, 2, 70, 40
MATHS = [Math(MathFidelity.HiFi4, True), Math(MathFidelity.HiFi2, True), Math(MathFidelity.HiFi2, False)]


def close(*shape: int, seed: int = 0) -> torch.Tensor:
    """Scores as a model has them: most weights count."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 4


def huge(*shape: int, seed: int = 0) -> torch.Tensor:
    """Every exponent there is, infinities, and zeros: what a Dest can hold."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31 - 1, shape, generator=generator).int()
    words = torch.where(words & 0x7F800000 == 0, 0, words)
    return torch.where(words & 0x7F800000 == 0x7F800000, words & -0x800000, words).view(torch.float32)


def positive_infinity(*shape: int, seed: int = 0) -> torch.Tensor:
    """A row in three holds one, as the largest score, and a row in three negative ones alone."""
    x = close(*shape, seed=seed)
    x[..., ::3, -1] = torch.inf
    x[..., 1::3, :] = -torch.inf
    return x


def as_dest(x: torch.Tensor, math: Math) -> torch.Tensor:
    return x if math.fp32_dest else as_bf16(x).float()


def a_kernel(math: Math, *, exp_approx: bool = False) -> prefill_steps._Kernel:
    setting = Setting(math, None, False, exp_approx, 0.13, 64, 64)
    return prefill_steps._Standard(setting) if math.fp32_dest else prefill_steps._Streaming(setting)


def run(kernel: prefill_steps._Kernel, values, place: Scores, keys: int) -> list[torch.Tensor]:
    """Weights, alpha and state after a chunk, and after its part was added."""
    math = kernel.math
    rows = ROWS - place.first
    scores = as_dest(values(GROUPS, HEADS, rows, keys), math)
    state = kernel.empty(torch.empty(GROUPS, HEADS, ROWS, WIDTH))
    state.largest[:] = as_bf16(values(GROUPS, HEADS, ROWS, 1, seed=1))
    state.sums[:] = as_dest(values(GROUPS, HEADS, ROWS, 32, seed=2).abs(), math)
    state.out[:] = as_bf16(scattered(GROUPS, HEADS, ROWS, WIDTH, seed=3))
    weights, alpha = kernel.weigh(scores, place, state)
    part = as_dest(scattered(GROUPS, HEADS, rows, WIDTH, seed=4), math)
    kernel.add(part if math.fp32_dest else part.bfloat16(), alpha, place, state)
    seen = [alpha] if place.start else []
    return [weights.clone(), *seen, state.largest, state.sums, state.out]


@pytest.mark.parametrize("values", [close, scattered, at_the_limits, huge, positive_infinity])
@pytest.mark.parametrize("math", MATHS)
@pytest.mark.parametrize("exp_approx", [False, True])
def test_compiled_steps_equal_those_in_torch(values, math, exp_approx, monkeypatch):
    """A chunk's weights, maxima, sums and outputs are the same bits in every instruction set: the first chunk and a later one,
    with causality and without, with rows that see none of the keys, a mask, and keys that do not fill a tile."""
    libraries = [library_for(march) for march in INSTRUCTION_SETS]
    mask = as_bf16(scattered(GROUPS, HEADS, ROWS, 45, seed=9))
    mask[..., 7] = -torch.inf
    cases = [
        (Scores(0, 0, 200, True, None), 64),
        (Scores(0, 32, 200, True, None), 64),
        (Scores(64, 64, 200, True, None), 3),
        (Scores(0, 0, 200, False, None), 77),
        (Scores(0, 64, 200, False, None), 128),
        (Scores(0, 64, 200, False, mask), 45),
    ]
    for place, keys in cases:
        answers = []
        for chosen in (None, *libraries):
            monkeypatch.setattr(kernels, "load", lambda chosen=chosen: chosen)
            answers.append(run(a_kernel(math, exp_approx=exp_approx), values, place, keys))
        in_torch, *compiled = answers
        for march, answer in zip(INSTRUCTION_SETS, compiled, strict=True):
            for mine, theirs in zip(answer, in_torch, strict=True):
                # torch's ReLU leaves some zeros negative; zeros have no sign in a source register or a Dest.
                assert torch.equal(bits(mine + 0.0), bits(theirs + 0.0)), (march, place)
