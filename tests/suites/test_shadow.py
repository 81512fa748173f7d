"""A user's own file on target shadow: an op that the emulator lacks has values, and the report says how true they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.emulator import op_names
from harness.results.schema import Record

Run = Callable[..., object]
OP = "ttnn.hardswish"
MINE = """
import torch
import ttnn


def test_hardswish(mesh_device, compare):
    x = torch.randn(1, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    there = ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device)
    y = ttnn.hardswish(ttnn.matmul(there, ttnn.transpose(there, -2, -1)))
    compare(ttnn.to_torch(y).float(), torch.nn.functional.hardswish(x @ x.transpose(-2, -1)))


def test_matmul(mesh_device, compare):
    x = torch.randn(1, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    there = ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device)
    compare(ttnn.to_torch(ttnn.matmul(there, ttnn.transpose(there, -2, -1))).float(), x @ x.transpose(-2, -1))
"""


PLANTED = """
import torch
import ttnn
from harness.emulator import api
from harness.emulator.runtime.dispatch import CALLS

relu, tanh = CALLS["ttnn.relu"], CALLS["ttnn.tanh"]
CALLS["ttnn.relu"] = lambda x, **_: relu(x, memory_config=api.L1_MEMORY_CONFIG)
CALLS["ttnn.tanh"] = lambda x, **_: tanh(api.reshape(x, (1, 1, 64, 32)))


def on(mesh_device, x):
    return ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device)


def test_relu(mesh_device, compare):
    x = torch.randn(1, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    compare(ttnn.to_torch(ttnn.relu(on(mesh_device, x))).float(), x.relu())


def test_neither():
    assert True


def test_tanh():
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    ttnn.tanh(on(mesh, torch.zeros(1, 1, 32, 64)))
    ttnn.tanh(on(mesh, torch.zeros(1, 1, 32, 64)))
"""


@pytest.fixture
def shadow(needs_ttnn: None, run_suites: Run) -> Run:
    """shadow(*arguments) runs with values beside the real ttnn."""
    return lambda *arguments: run_suites("--tt-target=shadow", *arguments)


def test_an_op_the_emulator_lacks(shadow: Run, tmp_path: Path, model: Path) -> None:
    """Records, results and report carry the weakest source of what a test read."""
    assert OP not in op_names(), "the emulator has it now: take another op"
    tests = tmp_path / "my_test.py"
    tests.write_text(MINE)
    done = shadow(str(tests), f"--tt-model={model}")
    assert done.status == 0, done.said[-3000:]
    sources = {(record.test.rpartition("::")[2], record.source) for record in done.records}
    assert sources == {("test_hardswish", "golden"), ("test_matmul", "exact")}
    found = {(one.op, one.source): one.calls for one in done.results.sources.ops}
    assert found == {(OP, "golden"): 1, ("ttnn.matmul", "exact"): 2, ("ttnn.transpose", "exact"): 2}
    assert "How true this run is" in done.said
    (reason,) = [one.reason for one in done.results.sources.ops if one.op == OP]
    assert reason == "the emulator has no such op"


def test_the_suites_run_on_it(shadow: Run, model: Path, tmp_path: Path) -> None:
    """A module's goldens are made by the run itself, in its one worker, and every figure stands on the emulator's ops."""
    done = shadow(
        "suites/modules/test_mlp.py",
        f"--tt-model={model}",
        "--tt-update-goldens",
        f"--tt-goldens={tmp_path / 'store'}",
    )
    assert done.status == 0, done.said[-3000:]
    assert {record.verdict for record in done.records} == {"pass"}
    assert {record.source for record in done.records} == {"exact"}
    assert not done.results.sources.findings


def test_a_result_unlike_the_real_ttnns_fails_the_run(shadow: Run, tmp_path: Path, model: Path) -> None:
    """Wrong specs planted in two ops of the emulator: each is a regression with the op's name, whatever the tests say."""
    tests = tmp_path / "my_test.py"
    tests.write_text(PLANTED)
    done = shadow(str(tests), f"--tt-model={model}")
    assert "3 passed" in done.said
    assert done.status == 1, done.said[-3000:]
    found = {(r.test.rpartition("::")[2], r.module, r.metric, r.value, r.gate) for r in done.red}
    assert found == {
        ("test_relu", "ttnn.relu", "spec_conflicts", 1, 0),
        ("test_tanh", "ttnn.tanh", "spec_conflicts", 2, 0),
    }
    notes = {record.module: record.note for record in done.red}
    assert notes["ttnn.relu"].startswith("ttnn.relu: the emulator gives Layout.TILE MemoryConfig"), notes
    assert notes["ttnn.tanh"].startswith("ttnn.tanh: the emulator gives [1, 1, 64, 32]"), notes
    assert re.search(r"VERDICT: 2 of \d+ checks are not pass", done.said), done.said[-1500:]
    assert all(note in " ".join(done.said.split()) for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["1x2", "1x8", "2x4"])
def test_every_record_is_the_emulators(
    needs_ttnn: None, run_suites: Run, model: Path, tmp_path: Path, mesh: str
) -> None:
    """Modules, model, features and devices, figure by figure, on the real ttnn's meshes; every one stands on exact values."""
    filed: dict[str, list[Record]] = {}
    for target in ("emulator", "shadow"):
        done = run_suites(
            *(f"suites/{suite}" for suite in ("modules", "model", "features", "devices")),
            f"--tt-target={target}",
            f"--tt-mesh={mesh}",
            f"--tt-model={model}",
            "--tt-update-goldens",
            f"--tt-goldens={tmp_path / 'store'}",
        )
        assert done.status == 0, done.said[-3000:]
        filed[target] = list(done.records)
    assert {record.source for record in filed["shadow"]} <= {"exact", None}
    assert not done.results.sources.findings
    left = {record.test for record in filed["shadow"] if record.verdict == "not_compared"}
    ours, wanted = (
        sorted(
            (r.test, r.module, r.metric, r.note, r.value)
            for r in records
            if r.value is not None and r.test not in left
        )
        for records in (filed["shadow"], filed["emulator"])
    )
    assert len(ours) > 100
    assert ours == wanted
    assert all("has the mesh alone" in r.note for r in filed["shadow"] if r.verdict == "not_compared"), left
