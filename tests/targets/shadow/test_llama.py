"""The model on the shadow is the model on the emulator, bit for bit: prefill, decode, traced decode, collectives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

RUN = """
import sys
from pathlib import Path
from harness.targets import activate
target, mesh, mode, precision, folder, out = sys.argv[1:]
activate(target, mesh, mode=mode)
import torch, ttnn, tt_llm
rows, columns = map(int, mesh.split("x"))
if rows * columns > 1:
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
device = ttnn.open_mesh_device(ttnn.MeshShape(rows, columns), trace_region_size=1 << 24)
model = tt_llm.load(Path(folder), device, precision=precision, max_batch_size=2, max_seq_len=256)
torch.manual_seed(1)
tokens, start = torch.randint(0, 256, (2, 64)), torch.tensor([64, 40])
logits = [model.prefill_forward(tokens, prompt_lens=[64, 40], all_logits=True)]
for step in range(4):
    logits.append(model.decode_forward(torch.randint(0, 256, (2, 1)), start + step, enable_trace=step >= 2))
torch.save(logits, out)
if target == "shadow":
    from harness.targets.shadow import Source, coverage
    weak = {op for op, source in coverage().counts if source is not Source.EXACT}
    assert not weak, coverage().reasons
    assert not coverage().findings, coverage().findings
    assert coverage().weakest_read is Source.EXACT
"""


@pytest.mark.parametrize(
    ("mesh", "mode", "precision"),
    [
        ("1x1", "exact", "performance"),
        ("1x2", "device", "accuracy"),
        pytest.param("1x1", "device", "accuracy", marks=pytest.mark.slow),
        pytest.param("1x2", "exact", "performance", marks=pytest.mark.slow),
    ],
)
def test_logits_are_the_emulators(
    needs_ttnn: None, kernel_cache: Path, tmp_path: Path, model: Path, mesh: str, mode: str, precision: str
) -> None:
    """Every op is the emulator's, and the emulator's results have the spec of the real ttnn's, call by call."""
    logits = []
    for target in ("emulator", "shadow"):
        done = subprocess.run(
            [sys.executable, "-c", RUN, target, mesh, mode, precision, str(model), target],
            env=os.environ | {"TT_HARNESS_CACHE": str(kernel_cache)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        logits.append(torch.load(tmp_path / target))
    for emulated, shadowed in zip(*logits, strict=True):
        assert torch.equal(emulated, shadowed)
    assert all(step.isfinite().all() for step in logits[0])
