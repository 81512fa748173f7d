"""Two command queues: what events order goes through, what races is named with both calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.emulator import api as ttnn
from harness.emulator.errors import DeviceError, RaceError


@pytest.fixture
def device() -> Iterator[Any]:
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 20, num_command_queues=2)
    yield mesh
    ttnn.close_mesh_device(mesh)


@pytest.fixture
def host() -> Any:
    return ttnn.from_torch(torch.ones(32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)


def order(device: Any, first: int, then: int) -> None:
    """What comes on one queue from now on comes after what is on the other."""
    ttnn.wait_for_event(then, ttnn.record_event(device, first))


def test_a_read_that_races_a_write_names_both(device: Any, host: Any) -> None:
    x = ttnn.to_device(host, device)
    ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
    with pytest.raises(RaceError) as caught:
        ttnn.add(x, x)
    message = re.sub(r"\d+", "N", str(caught.value))
    assert message.startswith("ttnn.add at tests/emulator/runtime/test_queues.py:N reads on queue N")
    assert "ttnn.copy_host_to_device_tensor at tests/emulator/runtime/test_queues.py:N on queue N" in message


def test_a_write_that_races_a_read_and_a_write(device: Any, host: Any) -> None:
    x = ttnn.to_device(host, device)
    ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
    order(device, 1, 0)
    ttnn.add(x, x)
    with pytest.raises(RaceError, match=r"writes on queue 1 what is read by ttnn\.add"):
        ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
    order(device, 0, 1)
    ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
    with pytest.raises(RaceError, match=r"writes on queue 0 what is written by ttnn\.copy_host"):
        ttnn.copy_host_to_device_tensor(host, x, cq_id=0)


@pytest.mark.parametrize("wait", ["event", "event_synchronize", "synchronize_device", "blocking read"])
def test_what_is_ordered_goes_through(device: Any, host: Any, wait: str) -> None:
    """By an event between the queues, or by the host, which goes on only when the first is done."""
    x, other = ttnn.to_device(host, device), ttnn.to_device(host, device)
    ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
    if wait == "event":
        order(device, 1, 0)
    elif wait == "event_synchronize":
        ttnn.event_synchronize(ttnn.record_event(device, 1))
    elif wait == "synchronize_device":
        ttnn.synchronize_device(device)
    else:
        ttnn.to_torch(other, cq_id=1)
    ttnn.add(x, x)


def test_events_hand_on_what_they_waited_for(device: Any, host: Any) -> None:
    """Queue 1 after queue 0 after queue 1: an event recorded later covers what its queue had waited for."""
    x, y = ttnn.to_device(host, device), ttnn.to_device(host, device)
    ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
    early = ttnn.record_event(device, 1)
    ttnn.copy_host_to_device_tensor(host, y, cq_id=1)
    ttnn.wait_for_event(0, early)
    ttnn.add(x, x)
    with pytest.raises(RaceError):  # the event was recorded before y was written
        ttnn.add(x, y)


def test_traces_race_too(device: Any, host: Any) -> None:
    """A trace reads its inputs and writes its results, wherever it was captured."""
    x = ttnn.to_device(host, device)
    ttnn.add(x, x)
    trace = ttnn.begin_trace_capture(device, cq_id=0)
    y = ttnn.add(x, x)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    for _ in range(2):
        ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
        with pytest.raises(RaceError, match=r"^ttnn.execute_trace at .* reads on queue 0"):
            ttnn.execute_trace(device, trace, cq_id=0, blocking=False)
        order(device, 1, 0)
        ttnn.execute_trace(device, trace, cq_id=0, blocking=False)
        with pytest.raises(RaceError, match=r"writes on queue 1 what is read by ttnn.execute_trace at "):
            ttnn.copy_host_to_device_tensor(host, x, cq_id=1)
        with pytest.raises(RaceError, match=r"reads on queue 1 what is written by ttnn.execute_trace at "):
            ttnn.to_torch(y, cq_id=1)
        order(device, 0, 1)
        assert bool((ttnn.to_torch(y, cq_id=1) == 2).all())


def test_ops_of_a_queue_of_their_own(device: Any, host: Any) -> None:
    x = ttnn.to_device(host, device)
    with ttnn.command_queue(1):
        assert ttnn.get_current_command_queue_id_for_thread() == 1
        y = ttnn.add(x, x)
    with pytest.raises(RaceError, match=r"reads on queue 0 what is written by ttnn\.add"):
        ttnn.to_torch(y)
    assert ttnn.get_current_command_queue_id_for_thread() == 0


def test_a_queue_there_is_not(device: Any, host: Any) -> None:
    x = ttnn.to_device(host, device)
    for call in (
        lambda: ttnn.to_torch(x, cq_id=2),
        lambda: ttnn.record_event(device, 2),
        lambda: ttnn.synchronize_device(device, 2),
    ):
        with pytest.raises(DeviceError, match="cq_id 2 is out of range"):
            call()
    with pytest.raises(DeviceError, match="num_command_queues 3"):
        ttnn.open_mesh_device(ttnn.MeshShape(1, 1), num_command_queues=3)
