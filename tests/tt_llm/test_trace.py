"""Traced decoding: when a step is compiled, captured and replayed, what ends a trace, and what is sent for each step."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import ttnn

import tt_llm
from harness.faults.catalogue.tracing import TRACE_FAULTS
from tt_llm.decoding import Decoding
from tt_llm.kv_cache import PagedKVCache
from tt_llm.mesh import open_mesh
from tt_llm.trace import TracedStep, command_queues


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[dict[str, int]]:
    """How often each of these functions of ttnn is called meanwhile."""
    calls = dict.fromkeys(names, 0)
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(ttnn, name, functools.partial(_counting, calls, name, getattr(ttnn, name)))
        yield calls


def _counting(calls: dict[str, int], name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    calls[name] += 1
    return function(*args, **kwargs)


CALLS = ("begin_trace_capture", "execute_trace", "release_trace", "rms_norm", "copy_host_to_device_tensor")


@pytest.fixture
def generator(tiny: Any, mesh_device: Any) -> tt_llm.Generator:
    """One of its own: traces are kept from test to test otherwise."""
    return tt_llm.load(str(tiny("mha").folder), mesh_device, max_batch_size=4, max_seq_len=256)


def step(generator: tt_llm.Generator, at: int, **options: Any) -> torch.Tensor:
    positions = torch.tensor([at, -1, at + 3], dtype=torch.int32)
    return generator.decode_forward(torch.tensor([[at], [1], [9]]), positions, **options)


def test_the_first_step_compiles_the_second_captures_the_rest_is_replayed(
    generator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a step whose positions follow on is sent its tokens alone."""
    seen = []
    for at in range(4):
        with counted(monkeypatch, *CALLS) as calls:
            step(generator, at)
        seen.append(tuple(calls.values()))
    norms = 2 * len(generator.model.layers) + 1
    assert seen == [(0, 0, 0, norms, 4), (1, 1, 0, norms, 1), (0, 1, 0, 0, 1), (0, 1, 0, 0, 1)]
    with counted(monkeypatch, *CALLS) as calls:
        step(generator, 9)
    assert calls["copy_host_to_device_tensor"] == 3


@pytest.mark.parametrize("precision", ["accuracy", "performance", "bfp4_mlp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2)])
def test_every_value_is_that_of_the_step_op_by_op(tiny: Any, precision: str, shape: tuple[int, int]) -> None:
    """Logits of traced steps, and greedy text that never leaves the devices."""
    mesh = open_mesh(shape)
    model = tiny("narrow_heads")
    generator = tt_llm.load(str(model.folder), mesh, precision, max_batch_size=4, max_seq_len=128)
    prompts = [model.prompt(length)[0].tolist() for length in (5, 40)]
    generator.prefill_forward(model.prompt(40, users=3))
    for at in range(20, 24):
        traced = step(generator, at)
        assert torch.equal(traced, step(generator, at, enable_trace=False))
    texts = [generator.generate(prompts, 6, stop_at_eos=False, enable_trace=on) for on in (False, True, True)]
    assert texts[1:] == texts[:1] * 2
    ttnn.close_mesh_device(mesh)


def test_what_must_stay_ends_the_traces_that_could_write_there(
    generator: Any, tiny: Any, mesh_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model loaded, a cache made, a page table of another width: each lets no trace live, and the next step is right."""
    table = generator.page_table[:3]
    makers: list[Callable[[], object]] = [
        lambda: tt_llm.load(str(tiny("mha").folder), mesh_device, max_batch_size=1, max_seq_len=32),
        lambda: PagedKVCache(mesh_device=mesh_device, tp=generator.model.tp, n_blocks=4, dtype=ttnn.bfloat16),
        lambda: step(generator, 0, page_table=table[:, :2]),
    ]
    for make in makers:
        for at in range(3):
            step(generator, at)
        assert len(mesh_device.traces) == 1
        kept = make()
        assert not mesh_device.traces
        assert torch.equal(step(generator, 3), step(generator, 3, enable_trace=False))
        del kept


def test_a_program_compiled_meanwhile_ends_the_trace(
    generator: Any, mesh_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays on the device, maybe where the trace works: the next step runs op by op, the one after is captured."""
    for at in range(3):
        step(generator, at)
    generator.prefill_forward(torch.ones(1, 200, dtype=torch.int32))  # longer than any before
    with counted(monkeypatch, *CALLS) as calls:
        step(generator, 3)
        step(generator, 4)
    assert (calls["release_trace"], calls["begin_trace_capture"], calls["execute_trace"]) == (1, 1, 1)
    generator.prefill_forward(torch.ones(1, 200, dtype=torch.int32))
    with counted(monkeypatch, *CALLS) as calls:
        step(generator, 5)
    assert (calls["release_trace"], calls["execute_trace"]) == (0, 1)


def test_a_body_that_fails_leaves_no_capture_behind(mesh_device: Any) -> None:
    """What it raised comes through, and the next capture can begin."""
    runs = []

    def body() -> Any:
        runs.append(None)
        if len(runs) == 2:
            raise ZeroDivisionError
        return ttnn.zeros((32, 32), device=mesh_device) if len(runs) == 1 else None

    traced = TracedStep(mesh_device, body)
    traced.run()
    with pytest.raises(ZeroDivisionError):
        traced.run()
    assert not ttnn.is_trace_capture_active(mesh_device)
    assert traced.run() is None


@pytest.mark.parametrize(
    ("fault", "call"),
    [
        ("host_read_in_the_step", "ttnn.from_device"),
        ("upload_in_the_step", "ttnn.from_torch"),
    ],
)
def test_a_step_that_needs_the_host_is_refused_by_name(
    generator: Any, monkeypatch: pytest.MonkeyPatch, fault: str, call: str
) -> None:
    """Op by op it runs; captured, the call is named, and the next step can be tried."""
    with monkeypatch.context() as patch:
        TRACE_FAULTS[fault](patch)
        step(generator, 0)
        for _ in range(2):
            with pytest.raises(
                RuntimeError, match=rf"^{call}: inside the capture of trace \d+ no data may move"
            ):
                step(generator, 1)
    assert torch.equal(step(generator, 1), step(generator, 1, enable_trace=False))


def test_a_mesh_with_one_queue_does_without_events(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 20)
    assert command_queues(mesh) == 1
    generator = tt_llm.load(str(tiny("mha").folder), mesh, max_batch_size=4, max_seq_len=64)
    with counted(monkeypatch, "wait_for_event") as calls:
        for at in range(3):
            assert torch.equal(step(generator, at), step(generator, at, enable_trace=False))
    assert calls == {"wait_for_event": 0}
    ttnn.close_mesh_device(mesh)


def test_a_mesh_without_room_for_traces_says_what_to_do(tiny: Any, one_line: Any) -> None:
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    generator = tt_llm.load(str(tiny("mha").folder), mesh, max_batch_size=4, max_seq_len=64)
    step(generator, 0)
    with pytest.raises(RuntimeError, match="open the mesh with trace_region_size") as caught:
        step(generator, 1)
    assert one_line(caught.value)
    generator.enable_trace = False
    step(generator, 1)
    ttnn.close_mesh_device(mesh)


def test_a_replay_makes_less_than_half_of_the_steps_python_calls(generator: Any) -> None:
    """What is counted is calls of Python functions, which do not vary; benchmarks/trace_costs.py has the time."""

    def calls_of(run: Callable[[], object]) -> int:
        count = 0

        def note(frame: Any, event: str, _: object) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(note)
        try:
            run()
        finally:
            sys.setprofile(None)
        return count

    for at in range(3):
        step(generator, at)
    decoding = generator._decoding
    assert isinstance(decoding, Decoding)
    replayed = calls_of(decoding.logits)
    assert replayed < 0.5 * calls_of(decoding._compute_logits)
