"""`topk` and `sort`: values whole, indices that lead to them, ties by the lower index."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode


@pytest.fixture(params=list(Mode), ids=lambda m: m.value)
def every_mode(request):
    with mode.using(request.param):
        yield request.param


@pytest.mark.parametrize(("shape", "dim"), [((2, 3, 32, 200), -1), ((64, 40), 0), ((100,), 0)])
@pytest.mark.parametrize("largest", [True, False])
def test_topk_is_torchs(ttnn, put, every_mode, shape, dim, largest):
    """Values equal torch's; where values are equal the lowest index comes first."""
    x = torch.randn(shape).bfloat16()
    values, indices = ttnn.topk(put(x), 7, dim, largest)
    expected = x.float().sort(dim=dim, descending=largest, stable=True)
    assert indices.dtype is ttnn.uint16
    assert torch.equal(ttnn.to_torch(values).float(), expected.values.narrow(dim, 0, 7))
    assert torch.equal(ttnn.to_torch(indices).long(), expected.indices.narrow(dim, 0, 7))


def test_ties_and_special_numbers(ttnn, put, every_mode):
    """-0 lies below 0, as SFPSWAP orders; of equal numbers the first comes first, largest or smallest."""
    x = torch.tensor([1.0, float("inf"), 0.0, 1.0, 2.0, -0.0, -float("inf"), 1.0])[None].repeat(32, 1)
    values, indices = ttnn.topk(put(x), 8)
    assert ttnn.to_torch(indices)[0].tolist() == [1, 4, 0, 3, 7, 2, 5, 6]
    assert ttnn.to_torch(values)[0].tolist() == [float("inf"), 2.0, 1.0, 1.0, 1.0, 0.0, 0.0, -float("inf")]
    _, ascending = ttnn.sort(put(x))
    assert ttnn.to_torch(ascending)[0].tolist() == [6, 5, 2, 0, 3, 7, 4, 1]


def test_indices_are_as_wide_as_they_must_be(ttnn, put):
    """Of float32, and of more than 65,536 elements, they have 32 bits."""
    x = torch.zeros(32, 2**16 + 32)
    x[:, 2**16 + 5] = 1
    for dtype, width, kind in (
        (ttnn.bfloat16, 2**16 + 32, ttnn.uint32),
        (ttnn.bfloat16, 2**16, ttnn.uint16),
        (ttnn.float32, 64, ttnn.uint32),
    ):
        _, indices = ttnn.topk(put(x[:, :width], dtype), 2)
        assert indices.dtype is kind
        assert ttnn.to_torch(indices)[3, 0].item() == (2**16 + 5 if width > 2**16 else 0)


def test_block_floats_are_packed_again(ttnn, put, every_mode):
    """The selected values share exponents anew: they are torch's within a block's last bit."""
    x = ttnn.from_torch(torch.randn(32, 128), dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT)
    held = ttnn.to_torch(x)
    values, _ = ttnn.topk(put(held, ttnn.bfloat8_b), 32)
    expected = held.topk(32).values
    assert (ttnn.to_torch(values).float() - expected.float()).abs().max() <= expected.abs().max() * 2.0**-7


@pytest.mark.parametrize("descending", [True, False])
def test_sort_is_torchs(ttnn, put, every_mode, descending):
    x = torch.randn(2, 33, 70)
    values, indices = ttnn.sort(put(x, ttnn.float32), -1, descending)
    expected = x.sort(descending=descending)
    assert torch.equal(ttnn.to_torch(values), expected.values)
    assert torch.equal(ttnn.to_torch(indices).long(), expected.indices)
    rows = put(x.bfloat16(), layout=ttnn.ROW_MAJOR_LAYOUT)
    values, indices = ttnn.sort(rows, 1, descending)
    assert values.layout is indices.layout is ttnn.ROW_MAJOR_LAYOUT
    assert torch.equal(ttnn.to_torch(values).float(), x.bfloat16().float().sort(1, descending).values)


def test_they_say_what_they_do_not_take(ttnn, put):
    x = put(torch.zeros(32, 64))
    with pytest.raises(
        DeviceError, match=r"ttnn\.topk: k must be from 1 to the dimension's size, 64; got 65"
    ):
        ttnn.topk(x, 65)
    with pytest.raises(DeviceError, match=r"ttnn\.topk: dtype .*INT32 is not one of"):
        ttnn.topk(put(torch.zeros(32, 64).int(), ttnn.int32), 4)
    with pytest.raises(DeviceError, match=r"ttnn\.sort: dim 2 is outside the range"):
        ttnn.sort(x, 2)


def test_topk_on_a_mesh_and_in_a_trace(ttnn):
    """Each device orders its own; a trace orders what its input holds when it runs."""
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2), trace_region_size=2**20)
    try:
        first, second = torch.randn(2, 32, 64).bfloat16(), torch.randn(2, 32, 64).bfloat16()
        split = {"mesh_mapper": ttnn.ShardTensorToMesh(mesh, 0), "layout": ttnn.TILE_LAYOUT}
        x = ttnn.from_torch(first, device=mesh, **split)
        ttnn.topk(x, 4)
        trace = ttnn.begin_trace_capture(mesh, cq_id=0)
        values, _ = ttnn.topk(x, 4)
        ttnn.end_trace_capture(mesh, trace, cq_id=0)
        for given in (first, second):
            ttnn.copy_host_to_device_tensor(ttnn.from_torch(given, **split), x)
            ttnn.execute_trace(mesh, trace, cq_id=0, blocking=True)
            out = ttnn.to_torch(values, mesh_composer=ttnn.ConcatMeshToTensor(mesh, 0))
            assert torch.equal(out.float(), given.float().topk(4).values)
    finally:
        ttnn.close_mesh_device(mesh)


def test_indices_may_be_named(ttnn, put, every_mode):
    """indices_tensor says what stands for each place, as for a shard of a vocabulary; its dtype is the result's."""
    x = torch.randn(32, 128).bfloat16()
    names = torch.arange(5000, 5128, dtype=torch.int32).expand(32, 128)
    values, plain = ttnn.topk(put(x), 8)
    same, named = ttnn.topk(put(x), 8, indices_tensor=put(names, ttnn.uint32))
    assert named.dtype is ttnn.uint32
    assert torch.equal(ttnn.to_torch(named).long(), ttnn.to_torch(plain).long() + 5000)
    assert torch.equal(ttnn.to_torch(same), ttnn.to_torch(values))


def test_it_writes_to_tensors_there_are(ttnn, put, every_mode):
    """output_tensor takes values and indices; a wrong shape is refused."""
    x = put(torch.randn(32, 128))
    values, indices = ttnn.topk(x, 32)
    targets = put(torch.zeros(32, 32)), put(torch.zeros(32, 32), ttnn.uint16)
    written = ttnn.topk(x, 32, output_tensor=targets)
    assert written[0] is targets[0]
    assert torch.equal(ttnn.to_torch(targets[0]), ttnn.to_torch(values))
    assert torch.equal(ttnn.to_torch(targets[1]), ttnn.to_torch(indices))
    with pytest.raises(DeviceError, match="output_tensor must be"):
        ttnn.topk(x, 16, output_tensor=targets)
