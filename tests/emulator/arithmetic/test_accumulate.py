from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.arithmetic import accumulate, mode, mvmul
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.formats import pack_round
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.spec.types import DataType, MathFidelity
from tests.emulator.arithmetic.test_fpu import (
    EVERY_MATH,
    INSTRUCTION_SETS,
    bits,
    floats,
    library_for,
    random_bits,
    scattered,
)

VECTORS = np.load(Path(__file__).parents[1] / "data" / "matmul.npz")
MATMULS = sorted({name.split("/")[0] for name in VECTORS.files} - {"blocks", "mvmul"})
FORMATS = {"bf16": DataType.BFLOAT16, "fp32": DataType.FLOAT32, "bfp8": DataType.BFLOAT8_B}
BF16_LOFI = Math(MathFidelity.LoFi, fp32_dest=False)
FP32_HIFI4 = Math(MathFidelity.HiFi4, fp32_dest=True)


def operand(name: str) -> Tensor:
    """A recorded operand, bfloat16 or float32."""
    array = VECTORS[name]
    return floats(array).bfloat16() if array.dtype == np.uint16 else torch.from_numpy(array)


def dest_name(math: Math) -> str:
    return "fp32" if math.fp32_dest else "bf16"


def product(
    in0: Tensor,
    in1: Tensor,
    math: Math,
    blocks: Blocks | None = None,
    arithmetic: Mode = Mode.EXACT,
    *,
    loose: bool = False,
) -> Tensor:
    """`accumulate.matmul`; where it strikes, the erratum is part of the result."""
    with mode.using(arithmetic), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return accumulate.matmul(in0, in1, math, blocks, loose=loose)


def one_minus_pcc(x: Tensor, y: Tensor) -> float:
    return 1 - float(torch.corrcoef(torch.stack((x.double().flatten(), y.double().flatten())))[0, 1])


def gain(x: Tensor, exact: Tensor) -> float:
    """By how much x is larger than `exact`, by least squares."""
    return float((x.double() * exact).sum() / (exact * exact).sum()) - 1


@pytest.mark.parametrize(
    ("math", "arithmetic"),
    [(m, Mode.EXACT) for m in EVERY_MATH] + [(m, Mode.DEVICE) for m in EVERY_MATH if not m.fp32_dest],
    ids=str,
)
@pytest.mark.parametrize("case", MATMULS)
def test_recorded_matmuls_are_reproduced(case: str, math: Math, arithmetic: Mode) -> None:
    """Exact has the simulator's Dest, bit for bit, in every format, fidelity and Dest, and device with a 16-bit Dest."""
    in0, in1 = operand(f"{case}/in0"), operand(f"{case}/in1")
    expected = floats(VECTORS[f"{case}/{math.fidelity.name}/{dest_name(math)}"])
    if in0.dtype == torch.float32 and not math.fp32_dest:
        # The recording feeds TF32 to a 16-bit Dest, which ttnn's unpacker never does: hand it over as it is.
        with mode.using(arithmetic):
            result = accumulate._product(in0, accumulate.Prepared(in1), math, None, None, loose=False)
    else:
        result = product(in0, in1, math, arithmetic=arithmetic)
    assert torch.equal(bits(result), bits(expected))


@pytest.mark.parametrize("setting", sorted({name[7:] for name in VECTORS.files if name.count("/") == 4}))
def test_exact_equals_recorded_blocks(setting: str) -> None:
    """Partial sums between K blocks, reloaded or added up in L1, in bf16, fp32 and bfp8, give the recorded result."""
    fidelity, dest, way, partial = setting.split("/")
    math = Math(MathFidelity[fidelity], fp32_dest=dest == "fp32")
    blocks = Blocks(128, FORMATS[partial], l1_acc=way == "l1acc")
    result = product(operand("blocks/in0"), operand("blocks/in1"), math, blocks)
    packed = pack_round(result, DataType.BFLOAT8_B if partial == "bfp8" else DataType.BFLOAT16)
    assert torch.equal(bits(packed), bits(floats(VECTORS[f"blocks/{setting}"])))


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_one_mvmul_of_any_registers_equals_the_recorded(phase: int, fp32_dest: bool) -> None:
    """One MVMUL of any Src and Dest words, denormals, Inf and NaN among them, gives the recorded Dest."""
    for i, expected in enumerate(VECTORS["mvmul/out"][:, int(fp32_dest), phase]):
        in0, in1, dest = (floats(VECTORS[f"mvmul/{name}"][i]) for name in ("srcb", "srca", "dst_in"))
        dest = dest if fp32_dest else (bits(dest) & -0x10000).view(torch.float32)
        b, a = ([*mvmul.significands(x)] for x in (in0, in1))
        result, _ = mvmul._mvmul(dest, b, a, phase, fp32_dest)
        assert torch.equal(bits(result), bits(floats(expected)))
        if phase == 0:  # the compiled kernel starts with it
            weight = accumulate.Prepared(in1)
            with mode.using(Mode.EXACT), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                math = Math(MathFidelity.LoFi, fp32_dest)
                compiled = accumulate._product(in0, weight, math, None, dest, loose=False)
            assert torch.equal(bits(compiled), bits(result))


@pytest.mark.parametrize("fidelity", MathFidelity)
@pytest.mark.parametrize("case", MATMULS)
def test_a_loose_sum_with_a_32_bit_dest_is_as_far_from_float64_as_exact(
    case: str, fidelity: MathFidelity
) -> None:
    """Of results in bfloat16, what alignment loses is lost in their rounding: error and bias are exact's to a tenth (of a bfloat16 unit)."""
    in0, in1, math = operand(f"{case}/in0"), operand(f"{case}/in1"), Math(fidelity, fp32_dest=True)
    reference = in0.double() @ in1.double()
    exact, device = (
        product(in0, in1, math, None, arithmetic, loose=True).bfloat16()
        for arithmetic in (Mode.EXACT, Mode.DEVICE)
    )
    assert one_minus_pcc(device, reference) == pytest.approx(one_minus_pcc(exact, reference), rel=0.1)
    assert gain(device, reference) == pytest.approx(gain(exact, reference), rel=0.05, abs=2e-4)


@pytest.mark.parametrize("fidelity", MathFidelity)
@pytest.mark.parametrize("case", MATMULS)
def test_a_loose_sum_with_a_16_bit_dest_is_close_to_exact(case: str, fidelity: MathFidelity) -> None:
    """Between the two 1-PCC is a tenth at most of exact's to float64, their bias the same to 5%."""
    math = Math(fidelity, fp32_dest=False)
    in0, in1 = operand(f"{case}/in0"), operand(f"{case}/in1")
    exact, device = (
        product(in0, in1, math, None, arithmetic, loose=True) for arithmetic in (Mode.EXACT, Mode.DEVICE)
    )
    reference = in0.double() @ in1.double()
    error = one_minus_pcc(exact, reference)
    assert one_minus_pcc(device, exact) <= error / 10
    assert abs(gain(device, reference) - gain(exact, reference)) <= 0.05 * abs(gain(exact, reference)) + 1e-8


BLOCKS = [
    None,
    Blocks(32, DataType.BFLOAT8_B),
    Blocks(64, DataType.BFLOAT4_B, bias=True),
    Blocks(32, DataType.BFLOAT16, l1_acc=True),
    Blocks(32, DataType.FLOAT32, l1_acc=True, bias=True),
]


@pytest.mark.parametrize(
    "blocks", BLOCKS, ids=lambda b: "one block" if b is None else f"{b.partial.name} {b.l1_acc}"
)
@pytest.mark.parametrize("values", [scattered, random_bits])
@pytest.mark.parametrize("march", INSTRUCTION_SETS)
def test_compiled_exact_equals_torch(march, values, blocks, monkeypatch):
    """The kernels have the bits of the rules in torch, for any bits, sizes and blocks, in each instruction set."""
    library = library_for(march)
    for math in EVERY_MATH:
        for shape0, shape1 in (((33, 100), (100, 37)), ((2, 5, 64), (2, 64, 40))):
            for dtype in (torch.float32, torch.bfloat16):
                in0, in1 = values(*shape0).to(dtype), values(*shape1, seed=1).to(dtype)
                results = []
                for chosen in (library, None):
                    monkeypatch.setattr(kernels, "load", lambda chosen=chosen: chosen)
                    results.append(bits(product(in0, in1, math, blocks)))
                assert torch.equal(*results), (math, shape0, dtype)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positive(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=seed).abs()


def sparse(*shape: int, seed: int = 0) -> Tensor:
    """Mostly zeros and denormals, so that whole groups of products are absent."""
    choice = torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1))
    return normal(*shape, seed=seed) * torch.tensor([0.0, 2.0**-130, 1.0])[(choice * 3.6).long().clamp(max=2)]


def far_apart(*shape: int, seed: int = 0) -> Tensor:
    """Numbers over 50 powers of two: most terms vanish beside others."""
    powers = torch.randint(-25, 25, shape, generator=torch.Generator().manual_seed(seed + 1)).float()
    return normal(*shape, seed=seed) * torch.exp2(powers)


def tiny(*shape: int, seed: int = 0) -> Tensor:
    """Numbers whose products lie around the smallest there are."""
    return normal(*shape, seed=seed) * 2.0**-62


@pytest.mark.parametrize("values", [normal, positive, scattered, sparse, far_apart, tiny])
@pytest.mark.parametrize("march", INSTRUCTION_SETS)
def test_compiled_arithmetic_has_every_rule(march, values, monkeypatch):
    """Device has the bits of the exact rules in torch: of a short product with a 32-bit Dest, of any with a 16-bit Dest."""
    library = library_for(march)
    for math in EVERY_MATH:
        in0, in1 = values(70, 544), values(544, 70, seed=5)
        if math.fidelity is not MathFidelity.HiFi4:  # else TF32 with a 32-bit Dest
            in0, in1 = in0.bfloat16(), in1.bfloat16()
        results = []
        for chosen in (library, None):
            monkeypatch.setattr(kernels, "load", lambda chosen=chosen: chosen)
            arithmetic = Mode.DEVICE if chosen is not None else Mode.EXACT
            results.append(product(in0, in1, math, arithmetic=arithmetic))
        assert torch.equal(bits(results[0]), bits(results[1])), math


# Slices of weight and activation whose products come to this many units of 2**-10.
GROUP_SUMS = {
    8191: [(31, 127), (16, 66), (26, 123)],
    -8193: [(31, 127), (16, 70), (28, 112)],
    16383: [(31, 127)] * 3 + [(16, 67), (28, 125)],
    -16385: [(31, 127)] * 3 + [(16, 65), (31, 114)],
}


@pytest.mark.parametrize("march", [*INSTRUCTION_SETS, None], ids=str)
@pytest.mark.parametrize("units", GROUP_SUMS)
def test_a_group_far_below_a_16_bit_dest_is_rounded_twice(units: int, march: str | None, monkeypatch) -> None:
    """To 2**-23 of Dest's exponent, then to 2**-10: just off half a unit becomes the half, which goes up."""
    library = library_for(march) if march else None
    monkeypatch.setattr(kernels, "load", lambda: library)
    in0, in1 = torch.zeros(1, 16), torch.zeros(16, 1)
    for k, (a, b) in enumerate(GROUP_SUMS[units]):
        in1[k], in0[0, k] = a / 16, (b if units > 0 else -b) / 64
    # Twice as much in its units of 2**-10
    dest = torch.tensor([[2.0**14 if abs(units) < 10000 else 2.0**15]])
    # The other group brings Dest to where one unit more decides its last bit.
    in1[8], in0[0, 8] = dest.item() * 2.0**-10, 3 if units > 0 else 4
    for arithmetic in (Mode.EXACT, Mode.DEVICE) if march else (Mode.EXACT,):
        with mode.using(arithmetic):
            result = accumulate.accumulate_into(dest, in0.bfloat16(), in1.bfloat16(), BF16_LOFI)
        assert result.item() == dest.item() * (1 + 2.0**-7), arithmetic


def test_torch_device_is_close_to_exact(monkeypatch):
    """Without a compiler, device is within a tenth of exact's own error at K = 1024 with a 16-bit Dest."""
    in0, in1 = operand("bf16_bf16_K1024_n/in0"), operand("bf16_bf16_K1024_n/in1")
    monkeypatch.setattr(kernels, "load", lambda: None)
    for fidelity in MathFidelity:
        math = Math(fidelity, fp32_dest=False)
        exact = floats(VECTORS[f"bf16_bf16_K1024_n/{fidelity.name}/bf16"])
        with mode.using(Mode.DEVICE):
            device = accumulate.matmul(in0, in1, math)
        assert one_minus_pcc(device, exact) <= one_minus_pcc(exact, in0.double() @ in1.double()) / 10


@pytest.mark.parametrize("arithmetic", [Mode.DEVICE, Mode.EXACT])
@pytest.mark.parametrize("math", [BF16_LOFI, FP32_HIFI4], ids=str)
def test_tile_padding_never_leaks(arithmetic: Mode, math: Math) -> None:
    """A product of odd sizes is the same as with zeros around it, and no row depends on the others."""
    in0, in1 = scattered(37, 70).bfloat16(), scattered(70, 41, seed=1).bfloat16()
    with mode.using(arithmetic):
        alone = accumulate.matmul(in0, in1, math)
        padded = accumulate.matmul(
            torch.nn.functional.pad(in0, (0, 26, 0, 27)), torch.nn.functional.pad(in1, (0, 23, 0, 26)), math
        )
        rows = torch.cat([accumulate.matmul(row, in1, math) for row in in0.split(1)])
    assert torch.equal(padded[:37, :41], alone)
    assert not padded[37:].any()
    assert not padded[:, 41:].any()
    assert torch.equal(rows, alone)


@pytest.mark.parametrize("arithmetic", [Mode.DEVICE, Mode.EXACT])
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_a_single_product_is_odd_in_both_operands(arithmetic: Mode, fp32_dest: bool) -> None:
    """With one product of one phase, negating an operand negates the result; where terms meet, halves go up, so not there."""
    values = scattered(32, 1).bfloat16()
    with mode.using(arithmetic):
        results = [
            accumulate.matmul(sign * values, other * values.T, Math(MathFidelity.LoFi, fp32_dest))
            for sign, other in ((1, 1), (1, -1), (-1, 1), (-1, -1))
        ]
    for result, sign in zip(results, (1, -1, -1, 1), strict=True):
        assert torch.equal(result, sign * results[0])


def test_going_on_from_dest_is_one_longer_product() -> None:
    """Accumulating the second half of K onto the first half's Dest is the product over all of K."""
    in0, in1 = scattered(3, 20, 128).bfloat16(), scattered(3, 128, 48, seed=1).bfloat16()
    for math in EVERY_MATH:
        first = product(in0[..., :64], in1[:, :64], math)
        with mode.using(Mode.EXACT):
            both = accumulate.accumulate_into(first, in0[..., 64:], in1[:, 64:], math)
        assert torch.equal(both, product(in0, in1, math))


def test_a_prepared_weight_gives_the_same_bits_and_is_no_copy() -> None:
    """A prepared bfloat16 weight shares the weight's memory and serves every fidelity, and any batch of in0."""
    in0, in1 = scattered(2, 3, 7, 96).bfloat16(), scattered(96, 70, seed=1).bfloat16()
    weight = accumulate.prepare(in1, BF16_LOFI)
    assert weight.values.data_ptr() == in1.data_ptr()
    for math in EVERY_MATH:
        assert torch.equal(product(in0, weight, math), product(in0, in1, math))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_any_strides_are_read(dtype: torch.dtype) -> None:
    """Transposed and sliced operands give what their copies give."""
    in0, in1 = scattered(3, 70, 33).to(dtype).mT, scattered(3, 90, 140, seed=1).to(dtype)[:, :45, ::2].mT
    in0 = in0[..., :70]
    for math in (BF16_LOFI, FP32_HIFI4):
        assert torch.equal(product(in0, in1, math), product(in0.contiguous(), in1.contiguous(), math))


def test_sizes_that_do_not_fit_are_refused() -> None:
    """Unequal K, or batches that are neither equal nor 1, raise one line with both shapes."""
    for shape0, shape1 in (((1, 32), (64, 1)), ((2, 1, 32), (3, 32, 1))):
        with (
            mode.using(Mode.EXACT),
            pytest.raises(ValueError, match=r"^shapes do not fit: \[.*\] and \[.*\]$"),
        ):
            accumulate.matmul(torch.ones(shape0), torch.ones(shape1), BF16_LOFI)


@pytest.mark.parametrize("scale", [1.0, 2.0**-110])
def test_the_erratum_is_counted_and_named_once(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """-(1 + 2**-23) + 1 gives -16 with an fp32 Dest wherever it comes up; the first warns, with the issue and how often."""
    one, other = torch.full((5, 1), scale), torch.ones(1, 40)
    hit = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)) < 0.2
    dest = torch.where(hit, -(1 + 2.0**-23), -0.5) * scale
    count = int(hit.sum())
    monkeypatch.setattr(accumulate.FP32_DEST_ERRATUM, "hits", 0)
    with (
        mode.using(Mode.EXACT),
        pytest.warns(UserWarning, match=rf"^{count} values struck by tt-metal #38306"),
    ):
        struck = accumulate.accumulate_into(dest, one, other, FP32_HIFI4)
    assert torch.equal(struck, torch.where(hit, -16.0, 0.5) * scale)
    assert accumulate.FP32_DEST_ERRATUM.hits == count
    with mode.using(Mode.EXACT), warnings.catch_warnings():
        warnings.simplefilter("error")
        accumulate.accumulate_into(dest, one, other, FP32_HIFI4)
    assert accumulate.FP32_DEST_ERRATUM.hits == 2 * count


@pytest.mark.parametrize("loose", [False, True])
def test_a_loose_sum_has_no_erratum(loose: bool) -> None:
    """In mode device -(1 + 2**-23) + 1 is the erratum's -16, and -(2**-23) where it may be summed loosely."""
    if kernels.load() is None:
        pytest.skip("no C++ compiler: torch sums all of mode device loosely")
    column = torch.zeros(128, 1)
    column[:48:16, 0] = torch.tensor([-1.0, -(2.0**-23), 1.0])  # each in an MVMUL of its own
    sums = product(
        torch.ones(5, 128).bfloat16(), column.bfloat16(), FP32_HIFI4, None, Mode.DEVICE, loose=loose
    )
    assert (sums == (-(2.0**-23) if loose else -16)).all()


def test_infinities_are_ordinary_numbers_in_every_mode() -> None:
    """Inf * 0 is 0 and Inf - Inf is 0, on either side: the matrix unit makes no NaN."""
    in0, in1 = torch.zeros(1, 32), torch.ones(32, 1)
    in0[0, :2] = torch.tensor([torch.inf, -torch.inf])
    for arithmetic in (Mode.DEVICE, Mode.EXACT):
        with mode.using(arithmetic):
            for left, right in ((in0, in1), (in1.T, in0.T)):
                assert accumulate.matmul(left.bfloat16(), right.bfloat16(), FP32_HIFI4).item() == 0


@pytest.mark.parametrize("arithmetic", [Mode.DEVICE, Mode.EXACT])
@pytest.mark.parametrize("math", EVERY_MATH, ids=str)
def test_denormals_are_zeros(math: Math, arithmetic: Mode) -> None:
    """A denormal operand or Dest contributes nothing, however large what it is multiplied by."""
    denormal, large = torch.full((1, 32), 2.0**-130).bfloat16(), torch.full((1, 32), 2.0**60).bfloat16()
    for in0, in1 in ((denormal, large.T), (large, denormal.T)):
        assert product(in0, in1, math, arithmetic=arithmetic).item() == 0
    with mode.using(arithmetic):
        assert accumulate.accumulate_into(denormal[:, :1], 0 * large, large.T, math).item() == 0


def test_mode_fast_has_no_accumulation_model() -> None:
    """Asked for in mode fast, the model says so rather than answering by other rules."""
    with mode.using(Mode.FAST), pytest.raises(ValueError, match="mode fast has no accumulation model"):
        accumulate.matmul(torch.ones(1, 32), torch.ones(32, 1), BF16_LOFI)
