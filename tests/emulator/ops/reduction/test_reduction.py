"""Reductions over any dims of tensors of any rank, held against PyTorch; integers, rows, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulator import api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

MODES = st.sampled_from(list(Mode))
SHAPES = st.lists(st.sampled_from([1, 2, 3, 5, 33]), max_size=5).map(tuple)


@pytest.fixture(scope="module")
def mesh() -> Any:
    device = api.open_mesh_device(api.MeshShape(1, 1))
    yield device
    api.close_mesh_device(device)


def put(mesh: Any, x: torch.Tensor, dtype: Any = api.bfloat16, layout: Any = api.TILE_LAYOUT) -> Any:
    return api.from_torch(x, dtype=dtype, layout=layout, device=mesh)


@st.composite
def reductions(draw: st.DrawFn) -> tuple[tuple[int, ...], Any, list[int], bool]:
    """A shape, a dim argument for it, the axes that this names, and keepdim."""
    shape = draw(SHAPES)
    rank = len(shape)
    axes = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank)) if rank else []
    named: Any = [axis - draw(st.sampled_from([0, rank])) for axis in axes]
    if not axes:
        named, axes = draw(st.sampled_from([None, [], ()])), list(range(rank))
    elif len(axes) == 1 and draw(st.booleans()):
        named = named[0]
    elif draw(st.booleans()):
        named = tuple(named)
    return shape, named, axes, draw(st.booleans())


@settings(deadline=None, max_examples=150, derandomize=True)
@given(reductions(), st.sampled_from(["sum", "mean", "max", "min"]), MODES, st.integers(0, 99))
def test_floats_are_reduced_as_by_torch(
    mesh: Any, drawn: tuple[Any, ...], kind: str, how: Mode, seed: int
) -> None:
    """Values and shape, in every mode; of several dims each is packed to bfloat16, so sums are compared to that."""
    shape, named, axes, keepdim = drawn
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    torch_name = {"max": "amax", "min": "amin"}.get(kind, kind)
    expected = getattr(x.double(), torch_name)(axes, keepdim) if shape else x.double()
    with mode.using(how):
        made = getattr(api, kind)(put(mesh, x), dim=named, keepdim=keepdim)
    assert made.shape == list(expected.shape)
    size = float(x.double().abs().sum(axes, keepdim).max()) if shape else 0.0
    error = (
        0.0 if kind in ("max", "min") else 0.05 * (size if kind == "sum" else 1 + size / max(x.numel(), 1))
    )
    assert (api.to_torch(made).double() - expected).abs().max() <= error


@settings(deadline=None, max_examples=60, derandomize=True)
@given(reductions(), st.sampled_from(["sum", "max", "min"]), st.sampled_from(["int32", "uint32"]), MODES)
def test_integers_are_reduced_exactly(
    mesh: Any, drawn: tuple[Any, ...], kind: str, name: str, how: Mode
) -> None:
    """Sums wrap at 32 bits, like the device's adder."""
    shape, named, axes, keepdim = drawn
    low = -(2**31) if name == "int32" else 0
    x = torch.randint(low, low + 2**32, shape, generator=torch.Generator().manual_seed(len(shape)))
    torch_name = {"max": "amax", "min": "amin"}.get(kind, kind)
    expected = getattr(x, torch_name)(axes, keepdim) if shape else x
    with mode.using(how):
        made = getattr(api, kind)(put(mesh, x, getattr(api, name)), dim=named, keepdim=keepdim)
    assert api.to_torch(made).long().sub(expected).remainder(2**32).eq(0).all()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(reductions(), MODES)
def test_argmax_and_softmax_are_torch_s(mesh: Any, drawn: tuple[Any, ...], how: Mode) -> None:
    """Along one dim of any rank, and over all for argmax of rows."""
    shape, _, axes, keepdim = drawn
    axis = axes[0] if axes else 0
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)).bfloat16()
    with mode.using(how):
        index = api.argmax(put(mesh, x), dim=axis, keepdim=keepdim)
        whole = api.argmax(put(mesh, x, layout=api.ROW_MAJOR_LAYOUT), keepdim=keepdim)
        soft = api.softmax(put(mesh, x), dim=axis)
    assert api.to_torch(index).long().equal(x.float().argmax(axis, keepdim and bool(shape)))
    assert api.to_torch(whole).item() == x.float().argmax().item()
    assert whole.shape == ([1] * len(shape) if keepdim else [])
    assert (api.to_torch(soft).double() - torch.softmax(x.double(), axis)).abs().max() < 0.02


def test_the_scaler_and_what_is_refused(mesh: Any) -> None:
    """`scalar` counts once however many dims; a dim twice, one outside, and one that is no int are named."""
    x = put(mesh, torch.ones(2, 3, 32, 32))
    assert api.to_torch(api.sum(x, dim=(0, 1, 2, 3), scalar=0.5)).item() == 2 * 3 * 32 * 32 / 2
    assert api.to_torch(api.mean(x, scalar=4.0)).item() == 4
    with pytest.raises(RuntimeError, match=r"^ttnn\.sum: dim \[-1, 3\] names a dimension twice$"):
        api.sum(x, dim=[-1, 3])
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.max: dim 4 is outside the range \[-4, 3\] of a tensor of rank 4$"
    ):
        api.max(x, dim=4)
    with pytest.raises(TypeError, match=r"^ttnn\.mean: dim must be an int, got 1\.0$"):
        api.mean(x, dim=1.0)
    with pytest.raises(RuntimeError, match=r"^ttnn\.mean: integer inputs are not supported"):
        api.mean(put(mesh, torch.ones(5, 40), api.int32))
