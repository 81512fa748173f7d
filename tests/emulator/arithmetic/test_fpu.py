from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.arithmetic import fpu, mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.formats import pack_round
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.spec.types import DataType, MathFidelity
from tests.emulator.arithmetic.test_formats import block_float_values

DATA = Path(__file__).parents[1] / "data"
ELTWISE, REDUCE = np.load(DATA / "eltwise.npz"), np.load(DATA / "reduce.npz")
INSTRUCTION_SETS = ("native", "x86-64-v3", "x86-64")
EVERY_MATH = [Math(fidelity, fp32) for fidelity in MathFidelity for fp32 in (False, True)]


def library_for(march: str = "native") -> kernels.Library:
    """The kernels for that instruction set; skips without a compiler, and fails where they do not compile."""
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("no C++ compiler: compiled kernels are not checked, the rules in torch alone are")
    library = kernels.load(march)
    assert library is not None
    return library


@pytest.fixture(params=["compiled", "torch"])
def arithmetic(request, monkeypatch):
    """Run with the compiled kernels, and with the same rules in torch."""
    library = library_for() if request.param == "compiled" else None
    monkeypatch.setattr(kernels, "load", lambda: library)
    return request.param


def bits(x: Tensor) -> Tensor:
    return x.float().contiguous().view(torch.int32)


def floats(array: np.ndarray) -> Tensor:
    """Float32 from 16 or 32 recorded bits."""
    words = array.astype(np.uint32) << 16 if array.dtype == np.uint16 else array
    return torch.from_numpy(words.view(np.float32).copy())


def random_bits(*shape: int, seed: int = 0) -> Tensor:
    """Any float32 there is, as bits: denormals, infinities and NaN come up."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**31), 2**31 - 1, shape, generator=generator).int().view(torch.float32)


def scattered(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers over 18 powers of two, as bfloat16 values."""
    generator = torch.Generator().manual_seed(seed)
    powers = torch.randint(-9, 9, shape, generator=generator).float()
    return (torch.randn(shape, generator=generator) * torch.exp2(powers)).bfloat16().float()


def at_the_limits(*shape: int, seed: int = 0) -> Tensor:
    """Numbers whose products have exponents around the smallest and the largest there are."""
    sides = torch.tensor([2.0**-57, 2.0**64])[torch.arange(shape[0]) % 2]
    return scattered(*shape, seed=seed) * sides.view(-1, *[1] * (len(shape) - 1))


def as_bf16(x: Tensor) -> Tensor:
    """The upper halves, bit for bit."""
    return (x.view(torch.int32) >> 16).to(torch.int16).view(torch.bfloat16)


def apply(op: str, a: Tensor, b: Tensor, fp32_dest: bool) -> Tensor:
    if op in ("add", "sub"):
        return (fpu.add if op == "add" else fpu.subtract)(a, b, fp32_dest=fp32_dest)
    return fpu.multiply(a, b, Math(MathFidelity[op.removeprefix("mul_")], fp32_dest))


@pytest.mark.parametrize("name", [name for name in ELTWISE.files if name.count("/") == 2])
def test_eltwise_is_the_recorded_one(name, arithmetic):
    """Every recorded sum, difference and product is reproduced in Dest, bit for bit."""
    group, op, dest = name.split("/")
    a, b = floats(ELTWISE[f"{group}/a"]), floats(ELTWISE[f"{group}/b"])
    result = apply(op, a, b, dest == "fp32")
    assert torch.equal(bits(result), bits(floats(ELTWISE[name])))
    assert torch.equal(bits(apply(op, as_bf16(a), as_bf16(b), dest == "fp32")), bits(result))


@pytest.mark.parametrize("name", [name for name in ELTWISE.files if name.endswith("/l1")])
def test_eltwise_packs_as_recorded(name):
    """The packed block floats of every recorded result hold the recorded values."""
    dest = floats(ELTWISE[name.removesuffix("/l1")])
    faces = block_float_values(ELTWISE[name], "bfp8").view(2, 2, 16, 16).transpose(1, 2).reshape(32, 32)
    assert torch.equal(bits(pack_round(dest, DataType.BFLOAT8_B)), bits(faces))


@pytest.mark.parametrize("name", [name for name in REDUCE.files if not name.endswith("/in")])
def test_reduction_is_the_recorded_one(name):
    """Every recorded row sum, column sum and row maximum is reproduced, bit for bit."""
    group, kind, *setting, dest = name.split("/")
    x = floats(REDUCE[f"{group}/in"])
    if kind == "rowmax":
        result = fpu.row_max(x)
    else:
        scaler, fidelity = setting
        reduce = fpu.row_sum if kind == "rowsum" else fpu.column_sum
        with mode.using(Mode.EXACT):
            result = reduce(x, Math(MathFidelity[fidelity], dest == "fp32"), float(scaler[1:]))
    assert torch.equal(bits(result).flatten(), bits(floats(REDUCE[name])))


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize("values", [random_bits, scattered, at_the_limits])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_equals_torch(march, values, dtype, monkeypatch):
    """On any bits, shapes and Dest contents the compiled kernels answer as the rules in torch do."""
    library = library_for(march)
    shapes = [
        ((37, 45), (37, 45)),
        ((3, 5, 33), (33,)),
        ((4, 7), (4, 1)),
        ((1, 40), (6, 40)),
        ((5, 1), (1, 35)),
    ]
    for index, (shape_a, shape_b) in enumerate(shapes):
        a, b = values(*shape_a, seed=index), values(*shape_b, seed=index + 100)
        before = values(*torch.broadcast_shapes(shape_a, shape_b), seed=index + 200)
        if dtype is torch.bfloat16:
            a, b = as_bf16(a), as_bf16(b)
        answers = []
        for chosen in (library, None):
            monkeypatch.setattr(kernels, "load", lambda chosen=chosen: chosen)
            answer = [fpu.sfpu_multiply(a, b)]
            for fp32 in (False, True):
                answer += [fpu.add(a, b, fp32_dest=fp32), fpu.subtract(a, b, fp32_dest=fp32)]
            for math in EVERY_MATH:
                dest = before if math.fp32_dest else as_bf16(before).float()
                answer += [fpu.multiply(a, b, math), fpu.multiply(a, b, math, dest)]
            answers.append(answer)
        for compiled, in_torch in zip(*answers, strict=True):
            assert torch.equal(bits(compiled), bits(in_torch))


@pytest.mark.parametrize("values", [random_bits, scattered])
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_a_bfloat16_result_is_the_packed_one(values, fp32_dest, arithmetic):
    """`dtype` asks for what the packer writes of the Dest to BFLOAT16, in one go."""
    a, b = values(40, 50), values(40, 50, seed=1)
    if not fp32_dest:
        a, b = as_bf16(a), as_bf16(b)  # the SFPU's product takes no more there
    math = Math(MathFidelity.HiFi4, fp32_dest)
    for op in (fpu.add, fpu.subtract, fpu.sfpu_multiply):
        packed = op(a, b, fp32_dest=fp32_dest, dtype=torch.bfloat16)
        assert packed.dtype is torch.bfloat16
        assert torch.equal(bits(packed), bits(pack_round(op(a, b, fp32_dest=fp32_dest), DataType.BFLOAT16)))
    packed = fpu.multiply(a, b, math, dtype=torch.bfloat16)
    assert torch.equal(bits(packed), bits(pack_round(fpu.multiply(a, b, math), DataType.BFLOAT16)))


def test_addition_commutes_and_is_odd(arithmetic):
    """a + b equals b + a, and turning both signs turns the sum's, for every bit of it."""
    a, b = scattered(200, 200), scattered(200, 200, seed=1)
    for fp32 in (False, True):
        total = fpu.add(a, b, fp32_dest=fp32)
        assert torch.equal(total, fpu.add(b, a, fp32_dest=fp32))
        assert torch.equal(total, -fpu.add(-a, -b, fp32_dest=fp32))
        assert torch.equal(fpu.subtract(a, b, fp32_dest=fp32), fpu.add(a, -b, fp32_dest=fp32))


def test_a_number_less_itself_is_positive_zero(arithmetic):
    """x - x is +0, also for infinities."""
    x = torch.tensor([1.0, -3.5, torch.inf, -torch.inf, 2.0**-126])
    assert torch.equal(bits(fpu.subtract(x, x)), torch.zeros(5, dtype=torch.int32))


def test_multiplication_commutes_in_all_phases_only(arithmetic):
    """Below HiFi4 the operands' sides differ; in HiFi4 a bfloat16 product takes every bit of both."""
    a, b = scattered(200, 200), scattered(200, 200, seed=1)
    for fidelity in MathFidelity:
        math = Math(fidelity, True)
        same = torch.equal(fpu.multiply(a, b, math), fpu.multiply(b, a, math))
        assert same == (fidelity is MathFidelity.HiFi4)


def test_double_rounding_of_a_bf16_dest(arithmetic):
    """1.3125 * 7.96875 is 10.4375 in HiFi2 and 10.5 in HiFi4, as reported from silicon (tt-metal #12923)."""
    a, b = torch.tensor([1.3125]), torch.tensor([7.96875])
    assert fpu.multiply(a, b, Math(MathFidelity.HiFi2, False)).item() == 10.4375
    assert fpu.multiply(a, b, Math(MathFidelity.HiFi4, False)).item() == 10.5


def test_fp32_dest_holds_the_product_of_the_slices(arithmetic):
    """With a float32 Dest a bfloat16 product in HiFi4 is exact, and an addition keeps 11 bits of the larger operand."""
    a, b = scattered(100, 100), scattered(100, 100, seed=1)
    assert torch.equal(fpu.multiply(a, b, Math(MathFidelity.HiFi4, True)), a * b)
    one = torch.tensor([1.0])
    assert fpu.add(one, one * 2**-11, fp32_dest=True).item() == 1 + 2**-10
    assert fpu.add(one, one * 2**-12, fp32_dest=True).item() == 1


def test_the_sfpu_product_is_rounded_half_to_even(arithmetic):
    """Of bfloat16 operands it is torch's bfloat16 product, but for 0 * Inf, which is 0, and denormals, which are 0."""
    a, b = as_bf16(scattered(200, 200)), as_bf16(scattered(200, 200, seed=1))
    assert torch.equal(fpu.sfpu_multiply(a, b, dtype=torch.bfloat16), a * b)
    a, b = torch.tensor([0.0, 1e-38, 1e-20]), torch.tensor([torch.inf, 1.0, 1e-20])
    assert torch.equal(bits(fpu.sfpu_multiply(a, b)), torch.zeros(3, dtype=torch.int32))


def test_row_max_is_exact_in_any_order():
    """The largest element comes out as it is, wherever it stands, and denormals count as zero."""
    x = scattered(64, 100)
    assert torch.equal(fpu.row_max(x), x.amax(-1, keepdim=True))
    assert torch.equal(fpu.row_max(x.flip(-1)), fpu.row_max(x))
    assert torch.equal(bits(fpu.row_max(torch.tensor([[-1.0, -1e-40]]))), torch.zeros(1, 1).int())
    assert torch.equal(bits(fpu.row_max(torch.tensor([[-1.0, -0.0]]))), torch.zeros(1, 1).int())


def test_row_max_orders_nan_by_its_bits():
    """A NaN lies beyond the infinity of its sign: the largest of all, or the smallest."""
    nan = torch.tensor([0x7FC00000, -0x400000], dtype=torch.int32).view(torch.float32)
    rows = torch.tensor([[1.0, torch.inf, nan[0]], [1.0, -torch.inf, nan[1]]])
    largest = fpu.row_max(rows)
    assert largest[0].isnan()
    assert largest[1].item() == 1.0


@pytest.mark.parametrize("modelled", [Mode.DEVICE, Mode.EXACT])
def test_padding_adds_nothing_to_a_sum(modelled):
    """Rows and columns of zeros beyond the data leave every sum as it is."""
    x = scattered(40, 50)
    padded = torch.nn.functional.pad(x, (0, 14, 0, 24))
    for math in EVERY_MATH:
        with mode.using(modelled):
            assert torch.equal(fpu.row_sum(padded, math)[:40], fpu.row_sum(x, math))
            assert torch.equal(fpu.column_sum(padded, math)[:, :50], fpu.column_sum(x, math))


def test_a_batch_of_sums_is_the_sums_of_the_batch():
    """Leading dimensions are independent."""
    x, math = scattered(2, 3, 32, 48), Math(MathFidelity.HiFi2, False)
    with mode.using(Mode.EXACT):
        rows, columns = fpu.row_sum(x, math), fpu.column_sum(x, math)
        assert rows.shape == (2, 3, 32, 1)
        assert columns.shape == (2, 3, 1, 48)
        assert torch.equal(rows[1, 2], fpu.row_sum(x[1, 2], math))
        assert torch.equal(columns[1, 2], fpu.column_sum(x[1, 2], math))
