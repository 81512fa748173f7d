"""The precision policies: what each promises about formats and fidelity."""

from __future__ import annotations

from typing import Any

import pytest
import ttnn

from tt_llm import InputError
from tt_llm.precision import PRECISIONS, Compute, named


def test_there_are_three_policies_by_name() -> None:
    """Each policy answers to its own name."""
    assert list(PRECISIONS) == ["accuracy", "performance", "bfp4_mlp"]
    assert all(named(name).name == name for name in PRECISIONS)


def test_an_unknown_policy_is_refused_with_the_known_ones(one_line: Any) -> None:
    """A mistyped precision is one line that lists the choices."""
    with pytest.raises(InputError) as caught:
        named("fp8")
    assert one_line(caught.value) == "precision 'fp8': choose one of accuracy, performance, bfp4_mlp"


def test_accuracy_uses_no_block_floats_and_full_fidelity() -> None:
    """Policy accuracy keeps bf16 weights and cache, an fp32 residual, and HiFi4 with an fp32 Dest everywhere."""
    accuracy = vars(named("accuracy"))
    formats = {name: value for name, value in accuracy.items() if isinstance(value, type(ttnn.bfloat16))}
    assert formats.pop("residual") == ttnn.float32
    assert len(formats) == 6
    assert set(formats.values()) == {ttnn.bfloat16}
    computes = [value for value in accuracy.values() if isinstance(value, Compute)]
    assert len(computes) == 7
    assert set(computes) == {Compute(ttnn.MathFidelity.HiFi4, fp32_dest=True)}


def test_bfp4_mlp_differs_from_performance_in_gate_and_up_alone() -> None:
    """Policy bfp4_mlp is performance with bfp4 gate and up weights at LoFi."""
    fast, smaller = vars(named("performance")), vars(named("bfp4_mlp"))
    changed = {name: smaller[name] for name in fast if fast[name] != smaller[name]}
    assert changed.pop("name") == "bfp4_mlp"
    assert changed == {
        "gate_up_weights": ttnn.bfloat4_b,
        "gate_up": Compute(ttnn.MathFidelity.LoFi, fp32_dest=False),
    }


def test_only_accuracy_sums_as_one_device_does() -> None:
    """The all-gather matmul costs a gather where the others pay for an all-reduce in a narrower format."""
    assert [name for name in PRECISIONS if named(name).all_gather_matmul] == ["accuracy"]


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_branches_are_as_wide_as_the_residual(name: str) -> None:
    """What attention and MLP add has the residual's format."""
    assert named(name).sublayer_output == named(name).residual


@pytest.mark.parametrize("fp32_dest", [True, False])
def test_the_kernel_config_carries_the_compute(mesh_device: Any, fp32_dest: bool) -> None:
    """Fidelity, Dest width and L1 accumulation reach the device's config; exp is never approximate."""
    compute = Compute(ttnn.MathFidelity.HiFi2, fp32_dest)
    made = compute.kernel_config(mesh_device, packer_l1_acc=not fp32_dest)
    assert made.math_fidelity == ttnn.MathFidelity.HiFi2
    assert made.fp32_dest_acc_en == fp32_dest
    assert made.packer_l1_acc != fp32_dest
    assert not made.math_approx_mode


def test_the_model_holds_its_weights_in_the_policys_formats(tiny: Any, load: Any) -> None:
    """A loaded model's weights and KV cache are in the formats of its policy."""
    for name in PRECISIONS:
        generator, wanted = load(tiny("mha"), name), named(name)
        layer = generator.model.layers[0]
        assert layer.attention._qkv._linear._weight.dtype == wanted.attention_weights
        assert layer.attention._wo._linear._weight.dtype == wanted.attention_weights
        assert layer.mlp._gate._linear._weight.dtype == wanted.gate_up_weights
        assert layer.mlp._up._linear._weight.dtype == wanted.gate_up_weights
        assert layer.mlp._down._linear._weight.dtype == wanted.down_weights
        assert generator.model.lm_head._slices[0].dtype == wanted.lm_head_weights
        assert all(pages.dtype == wanted.kv_cache for pages in generator.kv_cache.layers[1])
