"""Mesh shapes, and tensors to a mesh and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from tt_llm import InputError
from tt_llm.mesh import (
    all_gather,
    all_reduce,
    concat_to_host,
    open_mesh,
    parse_mesh_shape,
    replicate,
    scatter,
    to_host,
)


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


@pytest.fixture(scope="module")
def pair() -> Any:
    """Two devices in a line."""
    device = open_mesh((1, 2))
    yield device
    ttnn.close_mesh_device(device)


def test_slices_go_to_the_devices_in_order_and_come_back(pair: Any) -> None:
    """Device 0 has the first half; joined along the same dimension they are the whole."""
    tensor = torch.randn(1, 1, 32, 128).bfloat16()
    there = scatter(tensor, pair, -1, ttnn.bfloat16)
    assert torch.equal(to_host(there, 1), tensor[..., 64:])
    assert torch.equal(concat_to_host(there, -1), tensor)


def test_a_sum_over_devices_is_the_same_on_all_and_stays_where_it_was(pair: Any) -> None:
    """Whole numbers add exactly, interleaved or in shards; one device's sum is the tensor itself."""
    tensor = torch.randint(-8, 8, (1, 1, 32, 128)).bfloat16()
    cores = ttnn.num_cores_to_corerangeset(2, ttnn.CoreCoord(8, 8), True)
    sharded = ttnn.create_sharded_memory_config(
        (32, 32),
        cores,
        ttnn.ShardStrategy.WIDTH,
        ttnn.ShardOrientation.ROW_MAJOR,
        use_height_and_width_as_shard_shape=True,
    )
    for memory in (ttnn.DRAM_MEMORY_CONFIG, sharded):
        summed = all_reduce(scatter(tensor, pair, -1, ttnn.bfloat16, memory))
        assert summed.memory_config() == memory
        for device in (0, 1):
            assert torch.equal(to_host(summed, device), tensor[..., :64] + tensor[..., 64:])


def test_gathered_columns_are_all_devices_without_the_padding(pair: Any) -> None:
    """The first columns of both devices' side by side, on both, wherever they lay and wherever they are wanted."""
    tensor = torch.randn(1, 1, 32, 128).bfloat16()
    cores = ttnn.num_cores_to_corerangeset(2, ttnn.CoreCoord(8, 8), True)
    sharded = ttnn.create_sharded_memory_config(
        (32, 32),
        cores,
        ttnn.ShardStrategy.WIDTH,
        ttnn.ShardOrientation.ROW_MAJOR,
        use_height_and_width_as_shard_shape=True,
    )
    for there, wanted, width in (
        (sharded, ttnn.DRAM_MEMORY_CONFIG, 128),
        (ttnn.L1_MEMORY_CONFIG, sharded, 64),
    ):
        gathered = all_gather(scatter(tensor, pair, -1, ttnn.bfloat16, there), width, wanted)
        assert gathered.memory_config() == wanted
        for device in (0, 1):
            assert torch.equal(to_host(gathered, device), tensor[..., :width])


@pytest.mark.parametrize("shape", [(32, 32), (5, 7), (1, 1, 3, 70)])
def test_a_replicated_tensor_comes_back_in_its_own_shape(mesh_device: Any, shape: tuple[int, ...]) -> None:
    """The tile padding is not seen on the host."""
    tensor = torch.randn(shape).bfloat16()
    there = replicate(tensor, mesh_device, ttnn.bfloat16)
    assert there.storage_type() == ttnn.StorageType.DEVICE
    assert torch.equal(to_host(there), tensor)
