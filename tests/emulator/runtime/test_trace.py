"""Traces of the emulator: what a capture takes down, what a replay does, what is refused, and what is overwritten."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from harness.emulator import api as ttnn
from harness.emulator.errors import DeviceError, TraceError
from harness.emulator.memory.allocator import UseAfterFreeError

BF16, U32, I32 = ttnn.bfloat16, ttnn.uint32, ttnn.int32
ROWS = ttnn.ROW_MAJOR_LAYOUT


@pytest.fixture
def device() -> Iterator[Any]:
    torch.manual_seed(3)
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 20)
    yield mesh
    ttnn.close_mesh_device(mesh)


def put(device: Any, values: torch.Tensor, dtype: Any = BF16, layout: Any = ttnn.TILE_LAYOUT) -> Any:
    return ttnn.from_torch(values, dtype=dtype, layout=layout, device=device)


def captured(device: Any, body: Callable[[], Any]) -> tuple[int, Any]:
    """The body run once, then captured."""
    body()
    trace = ttnn.begin_trace_capture(device, cq_id=0)
    output = body()
    ttnn.end_trace_capture(device, trace, cq_id=0)
    return trace, output


def renew(tensor: Any, values: torch.Tensor) -> None:
    host = ttnn.from_torch(values, dtype=tensor.dtype, layout=tensor.layout)
    ttnn.copy_host_to_device_tensor(host, tensor)


def test_a_replay_computes_what_the_ops_do_on_the_inputs_of_now(device: Any) -> None:
    """Views, copies, fused ops and ops that write in place; what a replay gives is what the ops give op by op."""
    x, weight = put(device, torch.randn(1, 1, 32, 64)), put(device, torch.randn(64, 96))
    count = put(device, torch.tensor([4, -1, 7]), I32, ROWS)

    def body() -> Any:
        hidden = ttnn.linear(x, weight, activation="silu")
        turned = ttnn.transpose(ttnn.reshape(hidden, (1, 2, 16, 96)), 1, 2)
        best = ttnn.argmax(ttnn.untilize(ttnn.add(hidden, hidden)), dim=-1)
        ttnn.plus_one(count, skip_negative_entries=True)
        return turned, best, ttnn.get_device_tensors(hidden)[0]

    trace, outputs = captured(device, body)
    seen = [ttnn.to_torch(output) for output in outputs[:1]]
    assert all(values.isnan().all() for values in seen)  # nothing was computed
    assert ttnn.to_torch(count).tolist() == [5, -1, 8]  # by the run before
    for _ in range(2):
        renew(x, torch.randn(1, 1, 32, 64))
        ttnn.execute_trace(device, trace, cq_id=0, blocking=False)
        replayed = [ttnn.to_torch(output) for output in outputs]
        assert all(map(torch.equal, replayed, [ttnn.to_torch(made) for made in body()]))
    assert ttnn.to_torch(count).tolist() == [9, -1, 12]


def test_views_of_a_result_see_each_replay(device: Any) -> None:
    """A result stays where it is, so a tensor of one device that was taken of it before holds the new values."""
    x = put(device, torch.zeros(32, 32))
    trace, y = captured(device, lambda: ttnn.add(x, x))
    (view,) = ttnn.get_device_tensors(y)
    renew(x, torch.full((32, 32), 2.0))
    ttnn.execute_trace(device, trace)
    assert bool((ttnn.to_torch(view) == 4).all())


def test_a_capture_frees_what_the_model_drops(device: Any) -> None:
    """Intermediates give their memory back during the capture, as op by op; only the result and the inputs stay."""
    x = put(device, torch.zeros(32, 32))

    def body() -> Any:
        y = ttnn.add(x, x)
        for _ in range(5):
            y = ttnn.add(y, x)
        return y

    used = device.allocator.usage(ttnn.DRAM).allocated
    _, y = captured(device, body)
    assert device.allocator.usage(ttnn.DRAM).allocated - used == y.buffer("test").size_per_bank


FORBIDDEN = {
    "to_torch": lambda d, x, h: ttnn.to_torch(x),
    "cpu": lambda d, x, h: x.cpu(),
    "copy_host_to_device_tensor": lambda d, x, h: ttnn.copy_host_to_device_tensor(h, x),
    "to_device": lambda d, x, h: h.to(d),
    "from_torch": lambda d, x, h: ttnn.from_torch(torch.zeros(2, 2), device=d),
    "zeros": lambda d, x, h: ttnn.zeros((32, 32), device=d),
    "allocate_tensor_on_device": lambda d, x, h: ttnn.allocate_tensor_on_device(
        ttnn.Shape((32, 32)), BF16, ttnn.TILE_LAYOUT, d
    ),
    "synchronize_device": lambda d, x, h: ttnn.synchronize_device(d),
    "record_event": lambda d, x, h: ttnn.record_event(d, 0),
    "begin_trace_capture": lambda d, x, h: ttnn.begin_trace_capture(d),
    "execute_trace": lambda d, x, h: ttnn.execute_trace(d, 0),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_card_would_hang_on_is_refused_by_name(device: Any, name: str) -> None:
    """Nothing moves to or from the host, waits, or allocates from it inside a capture; the capture goes on."""
    host = ttnn.from_torch(torch.ones(32, 32), dtype=BF16, layout=ttnn.TILE_LAYOUT)
    x = ttnn.to_device(host, device)
    ttnn.add(x, x)
    trace = ttnn.begin_trace_capture(device)
    assert ttnn.is_trace_capture_active(device)
    with pytest.raises(TraceError, match=rf"^ttnn\.\w+: .*trace {trace}\b"):
        FORBIDDEN[name](device, x, host)
    y = ttnn.add(x, x)
    ttnn.end_trace_capture(device, trace)
    ttnn.execute_trace(device, trace)
    assert bool((ttnn.to_torch(y) == 2).all())


def test_a_program_compiled_inside_is_refused(device: Any) -> None:
    """Another op, another shape, and an op that writes in place."""
    x, n = put(device, torch.ones(32, 32)), put(device, torch.zeros(4), U32, ROWS)
    ttnn.add(x, x)
    entries = device.num_program_cache_entries()
    trace = ttnn.begin_trace_capture(device)
    for call in (
        lambda: ttnn.multiply(x, x),
        lambda: ttnn.add(x, x, memory_config=ttnn.L1_MEMORY_CONFIG),
        lambda: ttnn.plus_one(n),
    ):
        with pytest.raises(TraceError, match="compiled inside the capture"):
            call()
    ttnn.end_trace_capture(device, trace)
    assert device.num_program_cache_entries() == entries
    device.set_program_cache_misses_allowed(False)
    ttnn.add(x, x)
    with pytest.raises(DeviceError, match=r"^ttnn.multiply: program cache miss"):
        ttnn.multiply(x, x)


def test_a_trace_that_is_not_there(device: Any) -> None:
    """Never captured, released, or captured where no memory is kept for traces."""
    trace, _ = captured(device, lambda: None)
    ttnn.release_trace(device, trace)
    for call in (ttnn.execute_trace, ttnn.release_trace):
        with pytest.raises(TraceError, match=f"no trace {trace} was captured, or it was released"):
            call(device, trace)
    bare = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    with pytest.raises(TraceError, match="open the mesh with trace_region_size"):
        captured(bare, lambda: None)
    with pytest.raises(DeviceError, match="cq_id 1 is out of range"):
        ttnn.begin_trace_capture(device, cq_id=1)


def test_memory_a_trace_ran_over_is_named_with_both_sites(device: Any) -> None:
    """A tensor made while a trace lives, in memory that its intermediates had, is lost when it runs: until written whole."""
    x = put(device, torch.ones(32, 32))
    trace, _kept = captured(device, lambda: ttnn.add(ttnn.multiply(x, x), x))
    late = put(device, torch.ones(32, 32))  # where the product was
    assert bool((ttnn.to_torch(late) == 1).all())
    ttnn.execute_trace(device, trace)
    with pytest.raises(DeviceError) as caught:
        ttnn.add(late, late)
    message = re.sub(r"\d+", "N", str(caught.value))
    assert (
        "made by ttnn.from_torch at tests/emulator/runtime/test_trace.py:N while trace N was alive" in message
    )
    assert "the trace's ttnn.multiply at tests/emulator/runtime/test_trace.py:N writes" in message
    renew(late, torch.ones(32, 32))
    assert bool((ttnn.to_torch(ttnn.add(late, late)) == 2).all())
    ttnn.execute_trace(device, trace)
    ttnn.copy(x, late)
    assert bool((ttnn.to_torch(ttnn.add(late, late)) == 2).all())


def test_what_is_freed_before_the_trace_runs_is_no_matter(device: Any) -> None:
    """A prefill's activations may lie where the trace works; so may everything once the trace is released."""
    x = put(device, torch.ones(32, 32))
    trace, _kept = captured(device, lambda: ttnn.add(ttnn.multiply(x, x), x))
    ttnn.add(x, ttnn.add(x, x))
    ttnn.execute_trace(device, trace)
    ttnn.release_trace(device, trace)
    late = put(device, torch.ones(32, 32))
    assert bool((ttnn.to_torch(late) == 1).all())


def test_inputs_that_are_gone_are_named(device: Any) -> None:
    x = put(device, torch.ones(32, 32))
    trace, _ = captured(device, lambda: ttnn.add(x, x))
    x.deallocate()
    with pytest.raises(TraceError, match=r"reads in ttnn.add at .*test_trace.py:\d+, was deallocated"):
        ttnn.execute_trace(device, trace)
    with pytest.raises(UseAfterFreeError):
        ttnn.to_torch(x)


def test_devices_that_are_alike_compute_once_and_others_each_for_itself() -> None:
    """On a mesh a replay gives each device its own; replicas stay replicas."""
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2), trace_region_size=1 << 20)
    values = torch.randn(32, 128).bfloat16()
    split = ttnn.from_torch(
        values, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=ttnn.ShardTensorToMesh(mesh, dim=1)
    )
    same = ttnn.from_torch(values[:, :64], layout=ttnn.TILE_LAYOUT, device=mesh)

    def bodies():
        return ttnn.add(split, same), ttnn.add(same, same), ttnn.all_gather(split, 1)

    trace, outputs = captured(mesh, bodies)
    for _ in range(2):
        ttnn.execute_trace(mesh, trace)
        for output, expected in zip(outputs, bodies(), strict=True):
            assert all(map(torch.equal, output.shards, expected.shards))
    assert outputs[1].shards[0] is outputs[1].shards[1]
    assert not torch.equal(*outputs[0].shards)
    ttnn.close_mesh_device(mesh)
