"""What one op call is charged with: not what its scores' size explains, nor what an erratum of the silicon did to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ttnn

from harness.bisect.bisection import Bisection
from harness.bisect.errors import Error, error
from harness.bisect.explained import MARGIN, ROW_MARGIN, limit, share
from harness.bisect.places import Place
from harness.bisect.report import verdict
from harness.bisect.shadows import Shadows
from harness.bisect.steps import Step, Watch
from harness.emulator import kernels
from harness.emulator.arithmetic.mode import Mode, using
from tt_llm.mesh import open_mesh

HIFI4_FP32 = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi4, fp32_dest_acc_en=True)


def on_device(values: torch.Tensor) -> Any:
    return ttnn.from_torch(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=open_mesh((1, 1)))


def watched(mode: Mode, name: str, op: Any, *args: Any, **kwargs: Any) -> Step:
    """The op called once in that mode of the emulator."""
    place = Place("mlp", 0, "tt_llm/modules/mlp.py:1", "")
    watch = Watch(ttnn, SimpleNamespace(here=lambda: place), Shadows(ttnn))
    with using(mode):
        watch(name, op, args, kwargs)
    (step,) = watch.steps
    return step


def test_the_worst_rows_can_be_left_out() -> None:
    """As many as asked for; what is left is judged as ever."""
    golden = torch.ones(4, 32)
    device = golden.clone()
    device[2] += 8
    device[3] += 0.5
    assert error([device], [golden]) == Error(pytest.approx(((64 + 0.25) / 4) ** 0.5), pytest.approx(8))
    assert error([device], [golden], 1) == Error(pytest.approx((0.25 / 3) ** 0.5), pytest.approx(0.5))
    assert error([device], [golden], 4) == Error(0.0, 0.0)


@pytest.mark.filterwarnings("ignore:.*tt-metal #38306")
def test_an_erratum_is_no_error_of_the_op() -> None:
    """A row whose sum it strikes is counted and left out; an op that is wrong beside it still diverges."""
    if kernels.load() is None:
        pytest.skip("no C++ compiler: mode device has no erratum")
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(32, 64, generator=generator), torch.randn(64, 32, generator=generator)
    x[3] = 1
    w[:, 5] = 0
    w[[0, 16, 32], 5] = torch.tensor([-1.0, -(2.0**-23), 1.0])  # with ones the sum that is struck
    settings = {"dtype": ttnn.float32, "compute_kernel_config": HIFI4_FP32}
    step = watched(Mode.DEVICE, "ttnn.linear", ttnn.linear, on_device(x), on_device(w), **settings)
    assert step.struck == 1
    assert share(step.local, step.op, step.facts) < 1
    output = verdict(Bisection("mean KL", 0.0, (step,), (), ()))
    assert output[0].startswith("NOTHING DIVERGES: 1 ops")
    assert output[1].startswith(
        "struck: 1 times in 1 ops, first ttnn.linear in mlp of layer 0, by tt-metal #38306"
    )

    def wrong(x: Any, w: Any, **kwargs: Any) -> Any:
        return ttnn.linear(ttnn.multiply(x, 1.5), w, **kwargs)

    step = watched(Mode.DEVICE, "ttnn.linear", wrong, on_device(x), on_device(w), **settings)
    assert step.struck == 1
    assert share(step.local, step.op, step.facts) > 1


def test_large_scores_explain_an_attentions_error() -> None:
    """Scores are rounded to bf16: at a hundred that is a quarter of a nat. It is allowed for; twice the scale is not."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 64, 64, generator=generator) * size for size in (5, 5, 1))
    name = "ttnn.transformer.scaled_dot_product_attention"
    tensors = [on_device(t) for t in (q, k, v)]
    step = watched(Mode.DEVICE, name, ttnn.transformer.scaled_dot_product_attention, *tensors)
    allowed = limit(name, step.facts)
    assert step.local.worst_row > ROW_MARGIN * allowed or step.local.rel_l2 > MARGIN * allowed
    assert share(step.local, name, step.facts) < 1

    def steep(*args: Any, **kwargs: Any) -> Any:
        return ttnn.transformer.scaled_dot_product_attention(*args, scale=2 * 64**-0.5)

    step = watched(Mode.DEVICE, name, steep, *tensors)
    assert share(step.local, name, step.facts) > 1
