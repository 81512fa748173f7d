"""Mistakes of an emulator's arithmetic, to plant on purpose and see the numerics suite turn red.

A pytest plugin of its own: `pytest suites/numerics -p harness.conformance.numerics.faults --tt-numerics-fault lower_fidelity`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import USAGE_EXIT


def lower_fidelity(patch: pytest.MonkeyPatch) -> None:
    """Linears run one fidelity lower than they are asked to: the multiplier loses bits of the weights."""
    import ttnn

    lower = {
        ttnn.MathFidelity.HiFi4: ttnn.MathFidelity.HiFi2,
        ttnn.MathFidelity.HiFi3: ttnn.MathFidelity.HiFi2,
        ttnn.MathFidelity.HiFi2: ttnn.MathFidelity.LoFi,
        ttnn.MathFidelity.LoFi: ttnn.MathFidelity.LoFi,
    }
    _with_compute(patch, lambda config: {"math_fidelity": lower[config.math_fidelity]})


def other_destination(patch: pytest.MonkeyPatch) -> None:
    """Linears accumulate in bf16 where they are asked for fp32, and the other way round."""
    _with_compute(patch, lambda config: {"fp32_dest_acc_en": not config.fp32_dest_acc_en})


def longer_blocks(patch: pytest.MonkeyPatch) -> None:
    """Linears cut K into blocks three times as long as the recorded program did."""
    from harness.conformance.numerics import replay

    program = replay.linear_program
    patch.setattr(replay, "linear_program", lambda shape, width: program(shape, 3 * width))


def truncating_packer(patch: pytest.MonkeyPatch) -> None:
    """The packer cuts an fp32 destination to bf16 where it should round half away from zero."""
    import torch

    from harness.emulator.arithmetic import formats
    from harness.emulator.spec.types import DataType

    packed = formats.pack_round

    def cut(x: torch.Tensor, dtype: DataType, **settings: Any) -> torch.Tensor:
        if dtype is DataType.BFLOAT16 and x.dtype is torch.float32:
            x = (x.contiguous().view(torch.int32) & -0x10000).view(torch.float32)
        return packed(x, dtype, **settings)

    patch.setattr(formats, "pack_round", cut)


def stray_softmax_scale(patch: pytest.MonkeyPatch) -> None:
    """Attention scores are scaled by 1% too much."""
    import ttnn

    attention = ttnn.transformer.scaled_dot_product_attention

    def stray(*args: Any, scale: float, **kwargs: Any) -> Any:
        return attention(*args, scale=1.01 * scale, **kwargs)

    patch.setattr(ttnn.transformer, "scaled_dot_product_attention", stray)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    fault.__name__: fault
    for fault in (lower_fidelity, other_destination, longer_blocks, truncating_packer, stray_softmax_scale)
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tt-numerics-fault", metavar="F", help=f"plant a mistake: {', '.join(sorted(FAULTS))}")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--tt-numerics-fault")
    if name is None:
        return
    if name not in FAULTS:
        pytest.exit(f"--tt-numerics-fault {name}: choose one of {', '.join(sorted(FAULTS))}", USAGE_EXIT)
    patch = pytest.MonkeyPatch()
    FAULTS[name](patch)
    config.add_cleanup(patch.undo)


def _with_compute(patch: pytest.MonkeyPatch, change: Callable[[Any], dict[str, Any]]) -> None:
    """Has `ttnn.linear` and `ttnn.matmul` compute under a changed compute config."""
    import ttnn

    for name in ("linear", "matmul"):
        op = getattr(ttnn, name)

        def changed(*args: Any, compute_kernel_config: Any = None, _op: Any = op, **kwargs: Any) -> Any:
            config = compute_kernel_config
            if config is not None:
                config = dataclasses.replace(config, **change(config))
            return _op(*args, compute_kernel_config=config, **kwargs)

        patch.setattr(ttnn, name, changed)
