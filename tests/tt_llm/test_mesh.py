"""Mesh shapes, and tensors to a mesh and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from tt_llm import InputError
from tt_llm.mesh import open_mesh, parse_mesh_shape, replicate, to_host


@pytest.mark.parametrize(
    ("text", "shape"), [("1x1", (1, 1)), ("1x8", (1, 8)), ("8x4", (8, 4)), ("10x12", (10, 12))]
)
def test_a_mesh_shape_is_rows_by_columns(text: str, shape: tuple[int, int]) -> None:
    """ "RxC" is read as (R, C)."""
    assert parse_mesh_shape(text) == shape


@pytest.mark.parametrize(
    "text", ["", "1", "1x", "x1", "0x1", "1x0", "-1x1", "1X1", "1x1x1", "1 x 1", "axb", "1x1\n", "01x1"]
)
def test_anything_else_is_refused(one_line: Any, text: str) -> None:
    """What is not two whole numbers with an x between is named, with an example."""
    with pytest.raises(InputError) as caught:
        parse_mesh_shape(text)
    assert one_line(caught.value) == f"mesh {text!r}: give rows x columns, such as 1x1"


def test_a_mesh_the_model_cannot_be_split_over_is_refused(one_line: Any) -> None:
    """So far the model runs on one device; the message says which mesh to give."""
    with pytest.raises(InputError) as caught:
        open_mesh((1, 2))
    assert "mesh 1x2" in one_line(caught.value)
    assert "mesh 1x1" in str(caught.value)


@pytest.mark.parametrize("shape", [(32, 32), (5, 7), (1, 1, 3, 70)])
def test_a_replicated_tensor_comes_back_in_its_own_shape(mesh_device: Any, shape: tuple[int, ...]) -> None:
    """The tile padding is not seen on the host."""
    tensor = torch.randn(shape).bfloat16()
    there = replicate(tensor, mesh_device, ttnn.bfloat16)
    assert there.storage_type() == ttnn.StorageType.DEVICE
    assert torch.equal(to_host(there), tensor)
