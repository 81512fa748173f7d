"""Ranks, batches, vectors, transposes and biases of `matmul` and `linear`, held against PyTorch in every mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.emulator import api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

MODES = st.sampled_from(list(Mode))


@pytest.fixture(scope="module")
def mesh() -> Any:
    device = api.open_mesh_device(api.MeshShape(1, 1))
    yield device
    api.close_mesh_device(device)


def put(mesh: Any, x: torch.Tensor) -> Any:
    return api.from_torch(x, dtype=api.bfloat16, layout=api.TILE_LAYOUT, device=mesh)


def small(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Small whole numbers: their products and sums are exact in bfloat16."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


@st.composite
def products(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, bool, bool]:
    """Operands that ttnn takes: a batch on either side, on both, or vectors."""
    m, k, n = (draw(st.sampled_from([1, 5, 32, 40])) for _ in range(3))
    batch = tuple(draw(st.lists(st.sampled_from([1, 2, 3]), max_size=3)))
    kind = draw(st.sampled_from(["a", "b", "both", "vector a", "vector b", "vectors"]))
    ones = (1,) * len(batch)
    batches = {"a": (batch, ()), "b": (ones, batch), "both": (batch, batch), "vector b": (batch, ())}
    batch_a, batch_b = batches.get(kind, ((), ()))
    a, b = (
        small((*batch_a, m, k), draw(st.integers(0, 9))),
        small((*batch_b, k, n), draw(st.integers(10, 19))),
    )
    turn_a, turn_b = draw(st.booleans()), draw(st.booleans())
    if kind in ("vector a", "vectors"):
        a, turn_a = small((k,), 1), False
    if kind in ("vector b", "vectors"):
        b, turn_b = small((k,), 2), False
    return a, b, turn_a, turn_b


@settings(deadline=None, max_examples=150, derandomize=True)
@given(products(), MODES)
def test_a_product_is_torch_s(mesh: Any, drawn: tuple[Any, ...], how: Mode) -> None:
    """Values, exactly, and the shape."""
    a, b, turn_a, turn_b = drawn
    left = a.transpose(-1, -2).contiguous() if turn_a else a
    right = b.transpose(-1, -2).contiguous() if turn_b else b
    with mode.using(how):
        made = api.matmul(put(mesh, left), put(mesh, right), transpose_a=turn_a, transpose_b=turn_b)
    expected = a @ b
    assert made.shape == list(expected.shape)
    assert api.to_torch(made).float().equal(expected)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(products(), st.data(), MODES)
def test_a_bias_is_torch_s(mesh: Any, drawn: tuple[Any, ...], data: st.DataObject, how: Mode) -> None:
    """Any bias that broadcasts with the product, of a higher rank too, gives that sum and shape."""
    a, b, _, _ = drawn
    product = a @ b
    sides = [data.draw(st.sampled_from([1, size])) for size in product.shape]
    bias = small((*data.draw(st.sampled_from([(), (1,), (2,), (1, 1)])), *sides), 5)
    # Several rows on one are refused: ttnn adds them to the product's tile padding.
    assume(product.dim() > 1 or bias.dim() < 2 or bias.shape[-2] == 1)
    with mode.using(how):
        made = api.linear(put(mesh, a), put(mesh, b), bias=put(mesh, bias))
    expected = product + bias
    assert made.shape == list(expected.shape)
    assert api.to_torch(made).float().equal(expected)


@pytest.mark.parametrize("how", list(Mode))
@pytest.mark.parametrize("bias", [(1, 96), (64, 96), (2, 1, 96)])
@pytest.mark.parametrize("into", [False, True])
def test_an_activation_follows_the_bias(mesh: Any, how: Mode, bias: tuple[int, ...], into: bool) -> None:
    """However the bias is added, the activation is of the sum; into an output tensor too."""
    a, b, c = small((64, 32), 1), small((32, 96), 2), small(bias, 3)
    expected = torch.relu(a @ b + c)
    out = put(mesh, torch.zeros(expected.shape)) if into else None
    with mode.using(how):
        made = api.linear(
            put(mesh, a), put(mesh, b), bias=put(mesh, c), activation="relu", optional_output_tensor=out
        )
    assert out is None or made is out
    assert api.to_torch(made).float().equal(expected)


def test_what_ttnn_refuses_is_refused_in_words(mesh: Any) -> None:
    """Ranks, batches and biases, each with the shapes."""
    with pytest.raises(RuntimeError, match=r"^ttnn\.matmul: both tensors need a dimension at least"):
        api.matmul(put(mesh, torch.tensor(1.0)), put(mesh, torch.ones(1)))
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.matmul: a batched second tensor needs a first of the same rank: "
    ):
        api.matmul(put(mesh, torch.ones(1, 1, 5, 32)), put(mesh, torch.ones(3, 32, 8)))
    with pytest.raises(RuntimeError, match=r"^ttnn\.matmul: batch dimensions must be equal, or all 1 in one"):
        api.matmul(put(mesh, torch.ones(2, 3, 5, 32)), put(mesh, torch.ones(1, 3, 32, 8)))
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.matmul: the dimensions that the second tensor has before"
    ):
        api.matmul(put(mesh, torch.ones(5, 32)), put(mesh, torch.ones(3, 32, 8)))
    a, b = put(mesh, torch.ones(5, 32)), put(mesh, torch.ones(32, 8))
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.linear: bias \[3, 8\] does not broadcast with the product \[5, 8\]$"
    ):
        api.linear(a, b, bias=put(mesh, torch.ones(3, 8)))
    one_row = put(mesh, torch.ones(1, 32))
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.linear: bias \[3, 8\] would be added to the tile padding"
    ):
        api.linear(one_row, b, bias=put(mesh, torch.ones(3, 8)))


@pytest.mark.parametrize(
    ("k", "in_l1", "core_grid", "taken"),
    [
        (32, False, None, True),
        (32, True, None, False),
        (64, True, None, True),
        (64, False, api.CoreGrid(x=8, y=8), False),
    ],
)
def test_one_batch_of_in0_serves_all_of_in1_where_ttnn_has_a_program_for_it(
    mesh: Any, k: int, in_l1: bool, core_grid: Any, taken: bool
) -> None:
    """As ttnn 0.81.1 answered: from DRAM always, from L1 with an even number of K tiles, with a core_grid never (small shapes)."""
    memory = api.L1_MEMORY_CONFIG if in_l1 else api.DRAM_MEMORY_CONFIG
    a = api.to_memory_config(put(mesh, torch.ones(1, 1, 64, k)), memory)
    b = put(mesh, torch.ones(2, 3, k, 64))
    if taken:
        assert (api.to_torch(api.matmul(a, b, core_grid=core_grid)) == k).all()
        return
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.matmul: one batch of the first tensor for the 6 of the second"
    ):
        api.matmul(a, b, core_grid=core_grid)
