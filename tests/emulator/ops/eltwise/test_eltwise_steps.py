"""Elementwise ops, reductions and typecasts in modes DEVICE and EXACT."""

from __future__ import annotations

import itertools

import pytest
import torch

from harness.conformance.numerics.recordings import Recording, TensorSpec
from harness.emulator import kernels
from harness.emulator.arithmetic import formats, mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.spec.types import DataType

OPS = Recording("ops")
ELTWISE = {"ttnn.add", "ttnn.subtract", "ttnn.multiply", "ttnn.typecast"}
SFPU = {"ttnn.exp", "ttnn.reciprocal", "ttnn.rsqrt", "ttnn.sigmoid", "ttnn.silu"}
LAYERS = {"A": Recording("layer_A"), "P": Recording("layer_P")}


def steps(*ops):
    return [pytest.param(step, id=step.point) for step in OPS.steps if step.op in set().union(*ops)]


def replayed(ttnn, put, step):
    """A recorded call made on the emulator: its values and the recorded ones, float32."""

    def argument(value):
        if isinstance(value, TensorSpec):
            return put(OPS.recorded(value.name), ttnn.DataType[value.dtype])
        if isinstance(value, str):
            return ttnn.DataType[value.removeprefix("DataType.")]
        if isinstance(value, dict):
            options = {key: option for key, option in value.items() if key != "type"}
            fidelity = ttnn.MathFidelity[options.pop("math_fidelity")]
            return ttnn.WormholeComputeKernelConfig(math_fidelity=fidelity, **options)
        return value

    function = getattr(ttnn, step.op.removeprefix("ttnn."))
    result = function(*map(argument, step.args), **{k: argument(v) for k, v in step.kwargs.items()})
    return ttnn.to_torch(result).float(), OPS.recorded(step.outputs[0].name)


@pytest.mark.parametrize("modelled", [Mode.DEVICE, Mode.EXACT])
@pytest.mark.parametrize("step", steps(ELTWISE, SFPU))
def test_elementwise_call_is_the_recorded_one(ttnn, put, step, modelled):
    """Every recorded elementwise call and typecast is reproduced bit for bit in both modes, special values too."""
    with mode.using(modelled):
        actual, expected = replayed(ttnn, put, step)
    assert torch.equal(actual.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("step", steps({"ttnn.sum"}))
def test_sum_is_the_recorded_one(ttnn, put, step):
    """Every recorded sum is reproduced bit for bit in mode EXACT."""
    with mode.using(Mode.EXACT):
        actual, expected = replayed(ttnn, put, step)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize(("policy", "dtype"), [("A", DataType.BFLOAT16), ("P", DataType.BFLOAT8_B)])
def test_silu_times_up_is_the_recorded_layers(ttnn, put, policy, dtype):
    """The SiLU fused into a layer's product of gate and up gives the recorded bits, packed to bfloat16 and to bfp8."""
    recorded = LAYERS[policy].recorded
    with mode.using(Mode.EXACT):
        actual = ttnn.mul(
            put(recorded("gate")),
            put(recorded("up")),
            input_tensor_a_activations=[ttnn.UnaryOpType.SILU],
            dtype=dtype,
        )
    assert torch.equal(ttnn.to_torch(actual).float(), recorded("act"))


@pytest.mark.parametrize("policy", LAYERS)
def test_residual_add_is_the_recorded_layers(ttnn, put, policy):
    """The residual additions of a layer give the recorded bits."""
    recorded = LAYERS[policy].recorded
    with mode.using(Mode.EXACT):
        actual = ttnn.add(put(recorded("resid1")), put(recorded("down")))
    assert torch.equal(ttnn.to_torch(actual).float(), recorded("h_out"))


def test_modes_differ_where_they_should(ttnn, put):
    """Numbers far apart show the alignment that mode FAST leaves out, and the two others have."""
    a, b = put(torch.full((32, 32), 1.0)), put(torch.full((32, 32), 2.0**-8 + 2.0**-15))
    results = {}
    for modelled in Mode:
        with mode.using(modelled):
            results[modelled] = ttnn.to_torch(ttnn.add(a, b)).float()[0, 0].item()
    assert results[Mode.DEVICE] == results[Mode.EXACT] == results[Mode.FAST] == 1 + 2.0**-7
    far = put(torch.full((32, 32), 2.0**-8 - 2.0**-13))  # 10 bits of alignment make a tie of it
    for modelled, expected in ((Mode.FAST, 1.0), (Mode.DEVICE, 1 + 2.0**-7), (Mode.EXACT, 1 + 2.0**-7)):
        with mode.using(modelled):
            assert ttnn.to_torch(ttnn.add(a, far)).float()[0, 0].item() == expected


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
def test_compiled_and_torch_give_the_same_tensors(ttnn, put, op, monkeypatch):
    """Every pair of formats and every result format, broadcast or not, is the same without a compiler."""
    formats_ = (ttnn.bfloat16, ttnn.float32, ttnn.bfloat8_b)
    x, y = torch.randn(40, 50) * 30, torch.randn(40, 50)
    for left, right, out in itertools.product(formats_, formats_, formats_):
        for other in (y, y[:1], y[:, :1]):
            results = []
            for load in (kernels.load, lambda: None):
                with mode.using(Mode.EXACT), monkeypatch.context() as patched:
                    patched.setattr(kernels, "load", load)
                    results.append(
                        ttnn.to_torch(getattr(ttnn, op)(put(x, left), put(other, right), dtype=out))
                    )
            assert torch.equal(*results)


@pytest.mark.parametrize("name", ["silu", "gelu", "sigmoid", "exp", "reciprocal", "rsqrt", "square"])
@pytest.mark.parametrize("dtype", [DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B])
def test_unary_is_the_sfpus_function_packed(ttnn, put, name, dtype):
    """A unary op is the SFPU's function with a 32-bit Dest for FLOAT32 only, then the packer's rounding."""
    x = put(torch.randn(32, 48) * 4, dtype)
    key = {"reciprocal": "recip"}.get(name, name)
    with mode.using(Mode.DEVICE):
        actual = ttnn.to_torch(getattr(ttnn, name)(x))
    dest = sfpu.apply(key, x.shards[0], fp32_dest=dtype is DataType.FLOAT32)
    expected = formats.pack_round(dest, dtype).float()
    assert torch.equal(actual.float().view(torch.int32), expected.view(torch.int32))


def test_an_activated_operand_is_packed_in_its_own_format(ttnn, put):
    """SiLU of a bfp8 operand goes through a bfp8 buffer, so the fused product equals the two ops apart."""
    a, b = put(torch.randn(32, 64) * 4, ttnn.bfloat8_b), put(torch.randn(32, 64))
    with mode.using(Mode.EXACT):
        fused = ttnn.mul(a, b, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
        apart = ttnn.mul(ttnn.silu(a), b)
    assert torch.equal(ttnn.to_torch(fused), ttnn.to_torch(apart))


def test_a_scalar_is_an_operand_in_the_tensors_format(ttnn, put):
    """An op with a number equals the op with a tensor of that number, on either side."""
    x, number = put(torch.randn(32, 32)), put(torch.full((32, 32), 0.3))
    with mode.using(Mode.EXACT):
        for op in (ttnn.add, ttnn.subtract, ttnn.multiply):
            assert torch.equal(ttnn.to_torch(op(x, 0.3)), ttnn.to_torch(op(x, number)))
            assert torch.equal(ttnn.to_torch(op(0.3, x)), ttnn.to_torch(op(number, x)))
            fused = {"activations": [ttnn.UnaryOpType.SILU]}
            assert torch.equal(ttnn.to_torch(op(x, 0.3, **fused)), ttnn.to_torch(op(x, number, **fused)))


@pytest.mark.parametrize("modelled", [Mode.DEVICE, Mode.EXACT])
@pytest.mark.parametrize("dim", [-1, -2, 0, 1])
@pytest.mark.parametrize("op", ["sum", "mean"])
def test_reductions_along_any_dim(ttnn, put, exact_config, op, dim, modelled):
    """Sums and means have torch's shapes and, in HiFi4 with a float32 Dest, torch's values to bfloat16's precision."""
    x = torch.rand(3, 5, 40, 50).bfloat16() + 1
    expected = getattr(x.double(), op)(dim, keepdim=True)
    with mode.using(modelled):
        kept = getattr(ttnn, op)(put(x), dim=dim, keepdim=True, compute_kernel_config=exact_config)
        squeezed = getattr(ttnn, op)(put(x), dim=dim, compute_kernel_config=exact_config)
    assert tuple(kept.shape) == tuple(expected.shape)
    assert torch.equal(ttnn.to_torch(squeezed), ttnn.to_torch(kept).squeeze(dim))
    # The scaler of a mean is a bfloat16 as well.
    assert ((ttnn.to_torch(kept).double() / expected - 1).abs() < 2.0**-7).all()


@pytest.mark.parametrize("modelled", list(Mode))
def test_max_is_exact(ttnn, put, modelled):
    """The largest element comes out as it is in every mode."""
    x = torch.randn(2, 40, 50).bfloat16()
    with mode.using(modelled):
        assert torch.equal(ttnn.to_torch(ttnn.max(put(x), dim=-1)), x.amax(-1))
        assert torch.equal(ttnn.to_torch(ttnn.min(put(x), dim=-2)), x.amin(-2))


@pytest.mark.parametrize("modelled", list(Mode))
def test_argmax_takes_the_first_of_equals(ttnn, put, modelled):
    """Ties go to the lowest index in every mode."""
    x = torch.zeros(4, 64)
    x[:, 20:40] = 1.5
    with mode.using(modelled):
        assert (ttnn.to_torch(ttnn.argmax(put(x), dim=-1)) == 20).all()


def test_typecast_of_float32_to_bfloat16_rounds_half_to_even(ttnn, put):
    """The device narrows float32 on the SFPU, half to even, where the packer alone would round half away from zero."""
    tie = put(torch.full((32, 32), 1 + 2.0**-8), ttnn.float32)
    values = put(torch.randn(32, 32), ttnn.float32)
    with mode.using(Mode.DEVICE):
        assert (ttnn.to_torch(ttnn.typecast(tie, ttnn.bfloat16)) == 1.0).all()
        cast = ttnn.typecast(values, ttnn.bfloat16)
    assert cast.dtype is ttnn.bfloat16
    assert torch.equal(ttnn.to_torch(cast), ttnn.to_torch(values).bfloat16())


@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
def test_fast_multiplies_float32_as_the_other_modes_do(ttnn, put, mixed, approximate):
    """Two FLOAT32 operands meet on the SFPU whatever fast_and_approximate_mode says; with a BFLOAT16 one, operands are TF32."""
    x, y = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0))
    results = []
    for modelled in (Mode.FAST, Mode.EXACT):
        with mode.using(modelled):
            a, b = put(x, ttnn.float32), put(y, ttnn.bfloat16 if mixed else ttnn.float32)
            product = ttnn.multiply(a, b, dtype=ttnn.float32, fast_and_approximate_mode=approximate)
            results.append(ttnn.to_torch(product))
    assert torch.allclose(*results, rtol=2**-9 if mixed else 1e-6, atol=0)
