"""The profiler's file of ops, written and read, and regressions planted in the model found in it with their cause."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ttnn

from harness.faults import SLOWDOWNS
from harness.timing.device_model.architectures import WORMHOLE
from harness.timing.device_model.pass_time import PassTime, pass_time
from harness.timing.device_model.roofline import Setting
from harness.timing.passes import Pass
from harness.timing.profiler.op_diff import changes
from harness.timing.profiler.op_report import profiler_name, write
from harness.timing.profiler.profiler_file import OpReport, read, seconds_of
from harness.timing.shapes import model_pass
from tt_llm.config import ModelConfig
from tt_llm.mesh import open_mesh
from tt_llm.rope_types import RopeSettings

LAYERS = 4
# Of Llama-3.2-1B, but for the vocabulary, which no change here is about.
CONFIG = ModelConfig(
    name="1b",
    dim=2048,
    hidden_dim=8192,
    n_layers=LAYERS,
    n_heads=32,
    n_kv_heads=8,
    head_dim=64,
    vocab_size=8192,
    norm_eps=1e-5,
    rope=RopeSettings(5e5),
    max_position=4096,
    eos_token_ids=(),
)
Reported = Callable[..., OpReport]


def modelled(mesh: tuple[int, int], traced: bool) -> tuple[Pass, PassTime]:
    device = open_mesh(mesh)
    try:
        logged = model_pass(CONFIG, device, "performance", "decode", batch=32, seq_len=128)
    finally:
        ttnn.close_mesh_device(device)
    return logged, pass_time(logged.ops, Setting(32, 128, mesh, traced), WORMHOLE)


@pytest.fixture
def reported(tmp_path: Path) -> Reported:
    """reported(mesh, traced): a decode step of 32 users, written to the profiler's file and read back."""

    def report(mesh: tuple[int, int] = (1, 1), traced: bool = True) -> OpReport:
        path = tmp_path / "ops.csv"
        write(path, *modelled(mesh, traced), WORMHOLE, "decode")
        return read(path)

    return report


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


def causes(before: OpReport, after: OpReport) -> list[str]:
    assert seconds_of(after.ops) > seconds_of(before.ops)
    return [str(change) for change in changes(before.ops, after.ops)]


def test_the_file_says_what_the_model_says(reported: Reported) -> None:
    """Times, layers and what an op works on come back; the clock is named."""
    logged, time = modelled((1, 1), True)
    ops = reported()
    assert (ops.signpost, ops.clock) == ("decode clock=model", "model")
    assert len(ops.ops) == len(time.ops)
    device_seconds = sum(op.seconds + op.gap for op in time.ops if op.bound != "host")
    ours = sum(op.seconds + (op.gap or 0.0) for op in ops.ops if not op.on_host)
    assert ours == pytest.approx(device_seconds, rel=1e-4)
    gate = next(op for op in ops.ops if op.code.startswith("Matmul") and op.inputs[1].shape[-1] == 8192)
    assert gate.inputs[1].dtype == "BFLOAT8_B"
    assert gate.inputs[1].memory == "DEV_0_DRAM_WIDTH_SHARDED"
    assert gate.fidelity == "HiFi2"
    assert {op.layer for op in ops.ops} == {None, *range(LAYERS)}
    assert len(logged.layers) == LAYERS


def test_tt_perf_report_reads_it_unmodified(tmp_path: Path) -> None:
    """Its table has our matmuls with their DRAM bandwidth, and a host read as such."""
    path, table = tmp_path / "ops.csv", tmp_path / "table.csv"
    write(path, *modelled((1, 1), True), WORMHOLE, "decode")
    tool = Path(sys.executable).with_name("tt-perf-report")
    process = subprocess.run([tool, path, "--csv", table, "--no-color"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "Using last signpost: decode clock=model" in process.stdout
    text = table.read_text()
    assert "MatmulDeviceOperation 32 x 2048 x 8192" in text
    assert "to_torch (torch)" in text
    assert "invalid" not in process.stdout.lower()


def test_the_same_pass_has_not_changed(reported: Reported) -> None:
    """No change is named."""
    assert changes(reported().ops, reported().ops) == []


def test_an_extra_reshard_in_every_layer(reported: Reported, patch: pytest.MonkeyPatch) -> None:
    """Both ops are named as added, once a layer."""
    before = reported()
    SLOWDOWNS["reshard_in_every_layer"](patch)
    lines = causes(before, reported())
    assert len(lines) == 2
    assert any(
        line.startswith(f"ShardedToInterleaved: added, {LAYERS} times in {LAYERS} layers") for line in lines
    )


def test_weights_back_to_bf16(reported: Reported, patch: pytest.MonkeyPatch) -> None:
    """The matmuls of gate and up, and the format that changed."""
    before = reported()
    SLOWDOWNS["bf16_gate_weights"](patch)
    (lines,) = causes(before, reported())
    assert lines.startswith(
        f"Matmul 32 x 2048 x 8192: input 1 BFLOAT8_B -> BFLOAT16, {2 * LAYERS} times in {LAYERS} layers, +"
    )


def test_lost_dram_sharding(reported: Reported, patch: pytest.MonkeyPatch) -> None:
    """Weights interleaved over the banks, read by a 1D matmul: slower, and where they lie is the cause."""
    before = reported()
    SLOWDOWNS["lost_dram_sharding"](patch)
    lines = causes(before, reported())
    assert lines[0].startswith("Matmul ")
    assert "input 1 DRAM width sharded -> DRAM interleaved, sharding lost" in lines[0]


def test_tracing_off(reported: Reported) -> None:
    """No op changed; the gaps between them did."""
    (lines,) = causes(reported(), reported(traced=False))
    assert lines.startswith("gaps between ops grew from 9.3 to 8")
    assert lines.endswith("dispatched op by op, not as a trace")


def test_a_host_read_in_every_step(reported: Reported, patch: pytest.MonkeyPatch) -> None:
    """The read is named, and costs what its bytes do."""
    before = reported()
    SLOWDOWNS["host_read_every_step"](patch)
    (lines,) = causes(before, reported())
    assert lines.startswith("to_torch (torch): added, 1 time, +")


def test_one_more_collective(reported: Reported, patch: pytest.MonkeyPatch) -> None:
    """On two devices each layer gathers what is there already."""
    before = reported((1, 2))
    SLOWDOWNS["one_more_collective"](patch)
    lines = causes(before, reported((1, 2)))
    assert any(line.startswith(f"AllGather: added, {LAYERS} times in {LAYERS} layers") for line in lines)


def test_a_changed_fidelity_is_named(reported: Reported) -> None:
    """And an op that is only slower, as a card may show, is that."""
    before = reported().ops
    place = next(i for i, op in enumerate(before) if op.code.startswith("Matmul"))
    after = list(before)
    after[place] = replace(before[place], fidelity="HiFi4", seconds=2 * before[place].seconds)
    assert "fidelity HiFi2 -> HiFi4" in str(changes(before, after)[0])
    after[place] = replace(before[place], seconds=2 * before[place].seconds)
    assert "slower, and nothing else of it changed" in str(changes(before, after)[0])


def test_names_of_ops_are_the_profilers() -> None:
    """As its files and tt-perf-report's categories have them."""
    assert profiler_name("sharded_to_interleaved") == "ShardedToInterleavedDeviceOperation"
    assert profiler_name("linear") == "MatmulDeviceOperation"
    assert profiler_name("to_torch") == "to_torch (torch)"
