"""What random calls (tests/emulator/properties) found of values: each kind once. Specs and refusals are in suites/conformance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.emulator import api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import DeviceError


@pytest.fixture(params=list(Mode), ids=lambda each: each.value)
def arithmetic(request: pytest.FixtureRequest) -> Iterator[Mode]:
    """Each mode in force once."""
    with mode.using(request.param):
        yield request.param


@pytest.mark.parametrize("op", ["rms_norm", "layer_norm", "softmax"])
def test_a_vector_is_its_one_row(
    op: str, arithmetic: Mode, ttnn: ModuleType, put: Callable[..., Any]
) -> None:
    """[W] has the values of [1, W], in every mode."""
    x = torch.randn(50)
    vector, row = (ttnn.to_torch(getattr(ttnn, op)(put(each))) for each in (x, x[None]))
    assert vector.shape == (50,)
    assert torch.equal(vector, row[0])


@pytest.mark.parametrize("dtype", [api.bfloat8_b, api.bfloat4_b])
def test_a_block_float_may_have_no_dimension(
    dtype: Any, arithmetic: Mode, ttnn: ModuleType, put: Callable[..., Any]
) -> None:
    """One number is a block of its own, on its way in and packed by an op."""
    x = put(torch.tensor(1.5), dtype)
    assert ttnn.to_torch(x).item() == 1.5
    assert ttnn.to_torch(ttnn.neg(x)).item() == -1.5


def test_a_fraction_times_integers_is_a_float(
    arithmetic: Mode, ttnn: ModuleType, put: Callable[..., Any]
) -> None:
    """The number is not cut to an integer: the product is FLOAT32, as ttnn's, from either side."""
    x = put(torch.tensor([[3, -4]]), api.int32)
    for product in (ttnn.multiply(x, 2.5), ttnn.multiply(2.5, x)):
        assert product.dtype is api.float32
        assert ttnn.to_torch(product).tolist() == [[7.5, -10.0]]


def test_integers_are_computed_as_integers(ttnn: ModuleType, put: Callable[..., Any]) -> None:
    """Magnitude, sign and square of what ttnn takes; unsigned squares and sums keep their low bits."""
    x = torch.tensor([[3, -4]])
    assert ttnn.to_torch(ttnn.abs(put(x, api.int32))).tolist() == [[3, 4]]
    assert ttnn.to_torch(ttnn.neg(put(x, api.int32))).tolist() == [[-3, 4]]
    assert ttnn.to_torch(ttnn.relu(put(x, api.int32))).tolist() == [[3, 0]]
    large = put(torch.tensor([[300, 65535]]), api.uint16)
    assert ttnn.to_torch(ttnn.square(large)).long().tolist() == [[90000 % 65536, 1]]
    assert ttnn.to_torch(ttnn.add(large, large)).long().tolist() == [[600, 65534]]


def test_a_fused_activation_of_integers_is_not_dropped(ttnn: ModuleType, put: Callable[..., Any]) -> None:
    """It was: the sum came back without it. Now it is refused, and so is a result in a format of another kind."""
    x = put(torch.tensor([[3, -4]]), api.int32)
    with pytest.raises(
        DeviceError, match=r"^ttnn\.add: the emulator does not model activations of an integer"
    ):
        ttnn.add(x, x, activations=[api.UnaryOpType.RELU])
    with pytest.raises(DeviceError, match=r"^ttnn\.add: the emulator does not model a result of"):
        ttnn.add(x, x, dtype=api.bfloat16)


def test_a_cut_that_breaks_tiles_leaves_bfloat8_b(ttnn: ModuleType, put: Callable[..., Any]) -> None:
    """Rows are cut in ROW_MAJOR, which is bfloat16: the values are those that were there."""
    x = put(torch.randn(64, 64), api.bfloat8_b)
    part = ttnn.slice(x, [5, 0], [64, 64])
    assert part.dtype is api.bfloat16
    assert torch.equal(ttnn.to_torch(part).float(), ttnn.to_torch(x)[5:])


def test_ids_beyond_two_dimensions_are_not_looked_up_in_part(
    ttnn: ModuleType, put: Callable[..., Any]
) -> None:
    """Of [2, 2, 3] ids ttnn returns [2, 3, W] rows: refused here."""
    table = put(torch.randn(64, 32), api.bfloat16, api.ROW_MAJOR_LAYOUT)
    ids = put(torch.zeros(2, 2, 3, dtype=torch.int32), api.uint32, api.ROW_MAJOR_LAYOUT)
    with pytest.raises(DeviceError, match=r"^ttnn\.embedding: the emulator does not model ids of shape"):
        ttnn.embedding(ids, table)


def test_gathered_pages_that_must_be_joined_come_to_dram(ttnn: ModuleType) -> None:
    """Along a padded dimension ttnn gathers beside and concatenates, in DRAM, whatever was asked for."""
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2))
    where = {
        "dtype": api.bfloat16,
        "layout": api.TILE_LAYOUT,
        "device": mesh,
        "memory_config": api.L1_MEMORY_CONFIG,
    }
    for rows, buffer in ((5, api.BufferType.DRAM), (32, api.BufferType.L1)):
        gathered = ttnn.all_gather(ttnn.from_torch(torch.zeros(rows, 32), **where), 0)
        assert gathered.memory_config().buffer_type is buffer
    ttnn.close_mesh_device(mesh)
