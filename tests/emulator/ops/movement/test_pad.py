"""`ttnn.pad` in both of its forms, held against PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulator import api


@pytest.fixture(scope="module")
def mesh() -> Any:
    device = api.open_mesh_device(api.MeshShape(1, 1))
    yield device
    api.close_mesh_device(device)


EDGE = st.sampled_from([0, 0, 1, 3, 40])


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.sampled_from([1, 2, 5, 33]), min_size=1, max_size=5).map(tuple),
    st.data(),
    st.sampled_from(["bfloat16", "float32", "int32", "uint32"]),
    st.booleans(),
)
def test_padding_is_torch_s(
    mesh: Any, shape: tuple[int, ...], data: st.DataObject, name: str, tiles: bool
) -> None:
    """Any number of the last dims, after in TILE, before too in rows; by pairs, or by a shape and a start."""
    count = data.draw(st.integers(0, len(shape)))
    padding = [(0 if tiles else data.draw(EDGE), data.draw(EDGE)) for _ in range(count)]
    value = data.draw(st.sampled_from([0, 2, -3 if name != "uint32" else 7]))
    x = torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(count))
    dtype, layout = getattr(api, name), api.TILE_LAYOUT if tiles else api.ROW_MAJOR_LAYOUT
    given = api.from_torch(x, dtype=dtype, layout=layout, device=mesh)
    expected = F.pad(x, [edge for pair in reversed(padding) for edge in pair], value=value)
    if tiles and len(shape) == 1 and expected.numel() > given.padded_shape[-1]:
        with pytest.raises(RuntimeError, match=r"^ttnn\.pad: .* cannot grow beyond its tiles"):
            api.pad(given, padding, value)
        return
    assert api.to_torch(api.pad(given, padding, value)).long().equal(expected)
    if len(shape) == 4:
        start = [0] * (4 - count) + [low for low, _ in padding]
        made = api.pad(given, tuple(expected.shape), start, value=value)
        assert api.to_torch(made).long().equal(expected)


def test_a_block_float_is_packed_again(mesh: Any) -> None:
    """A large value beside small ones in a block of 16 takes their bits, as on the device."""
    x = api.from_torch(torch.ones(32, 8), dtype=api.bfloat8_b, layout=api.TILE_LAYOUT, device=mesh)
    made = api.to_torch(api.pad(x, ((0, 0), (0, 24)), 1024.0))
    assert made[:, :8].eq(0).all()
    assert made[:, 8:].eq(1024).all()


def test_what_is_refused(mesh: Any) -> None:
    """The forms, in words; front padding of tiles; a shape too small."""
    tiles = api.from_torch(torch.ones(1, 2, 5, 40), dtype=api.bfloat16, layout=api.TILE_LAYOUT, device=mesh)
    rows = api.from_torch(torch.ones(1, 2, 5, 40), dtype=api.bfloat16, device=mesh)
    with pytest.raises(TypeError, match=r"^ttnn\.pad: expected \(padding, value\), or \(output_padded_shape"):
        api.pad(tiles, ((0, 1), (0, 1)))
    with pytest.raises(RuntimeError, match=r"^ttnn\.pad: a tensor in TILE layout cannot be padded in front"):
        api.pad(tiles, ((1, 0), (0, 0)), 0.0)
    with pytest.raises(RuntimeError, match=r"^ttnn\.pad: \[1, 2, 4, 48\] is too small for \[1, 2, 5, 40\]"):
        api.pad(rows, [1, 2, 4, 48], [0, 0, 0, 0], 0.0)
    counts = api.typecast(rows, api.uint32)
    with pytest.raises(
        RuntimeError, match=r"^ttnn\.pad: the emulator does not model padding DataType\.UINT32 with -1"
    ):
        api.pad(counts, ((0, 1),), -1)
    assert api.pad(rows, (), 1.0) is rows
