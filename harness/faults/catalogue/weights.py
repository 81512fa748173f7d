"""Mistakes of weights and number formats: the wrong layer's, stale ones, too few bits."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.faults.planting import around, fault, in_every_precision, reweighted


@fault("mlp")
def stale_mlp_weights(patch: pytest.MonkeyPatch) -> None:
    """From the second layer on, the MLP has the weights of the layer before."""
    from tt_llm.checkpoint import Checkpoint

    def older(linear: Any, self: Checkpoint, name: str) -> Any:
        parts = name.split(".")
        if "mlp" in parts:
            parts[2] = str(max(0, int(parts[2]) - 1))
        return linear(self, ".".join(parts))

    around(patch, Checkpoint, "linear", older)


@fault("attention")
def stale_attention_weights(patch: pytest.MonkeyPatch) -> None:
    """From the second layer on, queries, keys and values have the weights of the layer before."""
    from tt_llm.checkpoint import Checkpoint

    around(
        patch,
        Checkpoint,
        "qkv",
        lambda qkv, self, layer, *rest: qkv(self, max(0, layer - 1), *rest),
    )


@fault("mlp")
def down_projection_of_other_rows(patch: pytest.MonkeyPatch) -> None:
    """Two tiles of the MLP's width change places on the way to the down projection."""

    def swapped(read: Any, name: str) -> Any:
        weight = read(name)
        if "down_proj" in name:
            weight = weight.clone()
            weight[:, :64] = weight[:, :64].roll(32, 1)
        return weight

    reweighted(patch, swapped)


@fault("attention")
def attention_weights_in_bfp4(patch: pytest.MonkeyPatch) -> None:
    """The attention's weights have three bits of mantissa."""
    import ttnn

    in_every_precision(patch, attention_weights=ttnn.bfloat4_b)


@fault("mlp")
def mlp_weights_in_bfp4(patch: pytest.MonkeyPatch) -> None:
    """The MLP's gate and up weights have three bits of mantissa in every precision."""
    import ttnn

    in_every_precision(patch, gate_up_weights=ttnn.bfloat4_b)


@fault("attention")
def matmuls_at_lofi(patch: pytest.MonkeyPatch) -> None:
    """Every matmul multiplies at LoFi, which sees five bits of a weight and seven of an activation."""
    import ttnn

    from tt_llm import precision

    low = {
        name: dataclasses.replace(
            policy,
            linear=dataclasses.replace(policy.linear, fidelity=ttnn.MathFidelity.LoFi),
            gate_up=dataclasses.replace(policy.gate_up, fidelity=ttnn.MathFidelity.LoFi),
        )
        for name, policy in precision.PRECISIONS.items()
    }
    patch.setattr(precision, "PRECISIONS", low)
