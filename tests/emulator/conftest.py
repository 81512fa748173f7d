"""The real ttnn, in a process of its own, to hold the emulator against."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

RealTtnn = Callable[[str, dict[str, Any]], dict[str, Any]]

_MOCK_N150 = """\
arch: {0: Wormhole}
chips: {0: [0, 0, 0, 0]}
ethernet_connections: []
chips_with_mmio: [0: 0]
harvesting: {0: {noc_translation: true, harvest_mask: 32}}
boards: [[board_id: 72059269075173377, board_type: n150, chips: [0]]]
"""
_HEAD = "import sys, torch, ttnn\ninputs, outputs = torch.load(sys.argv[1]), {}\n"
_TAIL = "\ntorch.save(outputs, sys.argv[2])\n"


@pytest.fixture
def real_ttnn(tmp_path: Path) -> RealTtnn:
    """Run Python source under the real ttnn on a mock N150: it reads `inputs` and fills `outputs`, which come back."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed: not compared with the real ttnn, with recorded results only")

    def run(source: str, inputs: dict[str, Any]) -> dict[str, Any]:
        cluster, script, given, result = (
            tmp_path / name for name in ("n150.yaml", "script.py", "in.pt", "out.pt")
        )
        cluster.write_text(_MOCK_N150)
        script.write_text(_HEAD + source + _TAIL)
        torch.save(inputs, given)
        environment = os.environ | {
            "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(cluster),
            "TT_LOGGER_LEVEL": "fatal",
        }
        environment.pop("TT_METAL_SLOW_DISPATCH_MODE", None)
        done = subprocess.run(
            [sys.executable, str(script), str(given), str(result)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode and "sfpi not found" in done.stdout + done.stderr:
            pytest.skip("no kernel compiler (sfpi) for the real ttnn to open a device: recorded results only")
        assert done.returncode == 0, done.stderr[-2000:]
        outputs: dict[str, Any] = torch.load(result)
        return outputs

    return run
