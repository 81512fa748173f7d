"""Loose sums on AMX tiles (kernels/matrix_unit/loose_tiles.cpp), held against the same sums on vectors."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import kernels
from harness.emulator.arithmetic import accumulate, mode, products
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.spec.types import DataType, MathFidelity
from tests.emulator.arithmetic.test_fpu import library_for

VECTORS = "x86-64-v3"
BLOCKS = [None, Blocks(64, DataType.BFLOAT16, l1_acc=True), Blocks(96, DataType.BFLOAT8_B)]


@pytest.fixture
def loosely(monkeypatch):
    """A loose product in mode device, on the tiles unless told otherwise."""
    if not products.on_bf16_units():
        pytest.skip("this CPU has no AMX, or may not use it: loose sums on tiles were not checked")

    def product(in0: torch.Tensor, in1: torch.Tensor, math: Math, blocks=None, march="native"):
        library = library_for(march)
        with monkeypatch.context() as patched, mode.using(Mode.DEVICE):
            patched.setattr(kernels, "load", lambda: library)
            return accumulate.matmul(in0, in1, math, blocks, loose=True)

    return product


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("blocks", BLOCKS, ids=["one block", "in L1", "bfp8"])
@pytest.mark.parametrize("fidelity", MathFidelity)
def test_a_16_bit_dest_differs_in_ties_alone(fidelity, blocks, loosely) -> None:
    """The order in which a group's eight products meet shows where their sum is next to the middle between two values of Dest:
    in three of a thousand results at most, and then by a draw of Dest's rounding."""
    in0, in1 = normal(200, 576, seed=0), normal(576, 150, seed=1)
    math = Math(fidelity, fp32_dest=False)
    tiles, vectors = loosely(in0, in1, math, blocks), loosely(in0, in1, math, blocks, VECTORS)
    assert (tiles != vectors).float().mean() < 3e-3
    with mode.using(Mode.EXACT):
        exact = accumulate.matmul(in0, in1, math, blocks)
    of_tiles, of_vectors = ((result - exact).norm().item() for result in (tiles, vectors))
    assert of_tiles == pytest.approx(of_vectors, rel=0.02)


@pytest.mark.parametrize("fidelity", MathFidelity)
def test_a_32_bit_dest_is_one_float32_sum(fidelity, loosely) -> None:
    """In another order than on vectors: within what a float32 sum of the products may be off."""
    in0, in1 = normal(200, 576, seed=0), normal(576, 150, seed=1)
    math = Math(fidelity, fp32_dest=True)
    tiles, vectors = loosely(in0, in1, math), loosely(in0, in1, math, None, VECTORS)
    bound = (in0.double().abs() @ in1.double().abs()) * 2 * 576 * 2.0**-24
    assert ((tiles.double() - vectors.double()).abs() <= bound).all()


@pytest.mark.parametrize("fp32_dest", [False, True])
def test_rows_and_columns_are_their_own(fp32_dest, loosely) -> None:
    """A row has the bits that it has among fewer rows, at another place in a tile; a column those that it has among fewer."""
    in0, in1 = normal(300, 160, seed=2), normal(160, 100, seed=3)
    math = Math(MathFidelity.HiFi4, fp32_dest)
    whole = loosely(in0, in1, math)
    assert torch.equal(whole[7:150], loosely(in0[7:150], in1, math))
    assert torch.equal(whole[:, 5:42], loosely(in0, in1[:, 5:42], math))


def test_a_batch_is_its_products(loosely) -> None:
    """Batches, whose rows are padded to whole tiles each, do not mix."""
    in0, in1 = normal(3, 50, 160, seed=4), normal(3, 160, 40, seed=5)
    math = Math(MathFidelity.HiFi2, fp32_dest=False)
    whole = loosely(in0, in1, math)
    assert all(torch.equal(whole[i], loosely(in0[i], in1[i], math)) for i in range(3))


def test_values_that_tiles_cannot_take_are_summed_by_every_rule(loosely) -> None:
    """Beside a number so small that its products are denormal in float32, 128 rows are exact; denormals count as zero."""
    in0, in1 = normal(200, 160, seed=6), normal(160, 40, seed=7)
    math = Math(MathFidelity.HiFi2, fp32_dest=False)
    in0[3, 5], in0[150, 2] = 2.0**-100, 1e-40
    result = loosely(in0, in1, math)
    with mode.using(Mode.EXACT):
        assert torch.equal(result[:128], accumulate.matmul(in0, in1, math)[:128])
    in0[150, 2] = 0
    assert torch.equal(result, loosely(in0, in1, math))
