"""rms_norm, layer_norm and softmax: ranks, weights and biases in both layouts, residuals, kernel configs."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from tests.emulator.properties import strategies as some
from tests.emulator.properties.calls import Call, Made, Name, Tensor
from tests.emulator.properties.comparison import Expected
from tests.emulator.properties.conftest import Properties
from tests.emulator.properties.judging import Family

dtypes = some.mostly(("bfloat16", "bfloat16", "float32", "bfloat8_b"), some.DTYPES)
layouts = some.mostly(("TILE",), some.LAYOUTS)


@st.composite
def kernel_configs(draw: st.DrawFn) -> Made:
    fidelity = draw(st.sampled_from(("HiFi4", "HiFi2", "LoFi")))
    fields = {"math_fidelity": Name(f"MathFidelity.{fidelity}"), "fp32_dest_acc_en": draw(st.booleans())}
    return Made("WormholeComputeKernelConfig", (), fields | {"math_approx_mode": False})


@st.composite
def parameters(draw: st.DrawFn, width: int) -> Tensor:
    """A weight or bias: a row of tiles, or rows of 32; seldom of another width."""
    width = draw(some.mostly((width,), (width + 32, max(width - 32, 1))))
    kind = draw(some.mostly(("bfloat16",), ("float32", "bfloat8_b", "int32")))
    if draw(st.booleans()):
        return Tensor(
            (1, 1, -(-width // 32), 32),
            kind,
            "TILE" if kind == "bfloat8_b" else "ROW_MAJOR",
            seed=draw(some.seeds),
        )
    ahead = draw(st.sampled_from(((), (1,), (1, 1), (1, 1, 1), (1, 1, 32), (2,))))
    return Tensor(
        (*ahead, width), kind, draw(layouts) if kind != "bfloat8_b" else "TILE", seed=draw(some.seeds)
    )


@st.composite
def norms(draw: st.DrawFn) -> Call:
    x = draw(some.tensors(some.shapes(1), dtypes, layouts))
    keywords = draw(
        some.options(
            weight=parameters(x.shape[-1]),
            bias=parameters(x.shape[-1]),
            epsilon=st.sampled_from((1e-5, 1e-2)),
            residual_input_tensor=some.tensors(
                some.mostly((x.shape,), ((1, 32), (2, *x.shape))), dtypes, layouts
            ),
            memory_config=some.buffers,
            compute_kernel_config=kernel_configs(),
        )
    )
    return Call(f"ttnn.{draw(st.sampled_from(('rms_norm', 'layer_norm')))}", (x,), keywords)


@st.composite
def softmaxes(draw: st.DrawFn) -> Call:
    x = draw(some.tensors(some.shapes(1), dtypes, layouts))
    keywords = draw(
        some.options(
            memory_config=some.buffers, numeric_stable=st.booleans(), compute_kernel_config=kernel_configs()
        )
    )
    return Call(
        "ttnn.softmax", (x, draw(some.dims(len(x.shape)))) if draw(st.integers(0, 4)) else (x,), keywords
    )


def _normalised(centred: bool) -> Any:
    def reference(
        x: torch.Tensor,
        *,
        epsilon: float = 1e-12,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        residual_input_tensor: torch.Tensor | None = None,
        compute_kernel_config: Any = None,
        **_: Any,
    ) -> Expected | None:
        width, fidelity = x.shape[-1], compute_kernel_config
        loss = 2**-3 if fidelity is not None and "LoFi" in repr(fidelity) else 2**-5
        if residual_input_tensor is not None:
            x = x + residual_input_tensor
        before = x
        if centred:
            if width == 1:
                return None  # 0 / 0 but for the rounding
            x = x - x.mean(-1, keepdim=True)
        spread = (x.square().mean(-1, keepdim=True) + epsilon).sqrt()
        y = x / spread
        size = before.abs().amax(-1, keepdim=True) / spread
        if weight is not None:
            column = weight.reshape(-1)[:width]
            y, size = y * column, size * column.abs()
        if bias is not None:
            column = bias.reshape(-1)[:width]
            y, size = y + column, size + column.abs()
        return Expected(y, slack=size * loss, roundings=2)

    return reference


def _softmax(x: torch.Tensor, dim: int = -1, **_: Any) -> Expected:
    y = torch.softmax(x, dim)
    return Expected(y, slack=y * 2**-3 + 2**-7, roundings=2)


REFERENCES = {
    "ttnn.rms_norm": _normalised(False),
    "ttnn.layer_norm": _normalised(True),
    "ttnn.softmax": _softmax,
}
FAMILY = Family("norm", norms() | norms() | softmaxes(), REFERENCES)


def test_norm(properties: Properties) -> None:
    """The emulator's answer is PyTorch's and the real ttnn's."""
    properties.check(FAMILY)
