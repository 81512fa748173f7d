"""The real ttnn, in a process of its own, to hold the emulator against."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

RealTtnn = Callable[[str, dict[str, Any]], dict[str, Any]]

_HEAD = "from harness.targets import activate; activate('dryrun')\nimport sys, torch, ttnn\ninputs, outputs = torch.load(sys.argv[1]), {}\n"
_TAIL = "\ntorch.save(outputs, sys.argv[2])\n"


@pytest.fixture
def real_ttnn(tmp_path: Path) -> RealTtnn:
    """Run Python source under the real ttnn on a mock N150: it reads `inputs` and fills `outputs`, which come back."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed: not compared with the real ttnn, with recorded results only")

    def run(source: str, inputs: dict[str, Any]) -> dict[str, Any]:
        script, given, result = (tmp_path / name for name in ("script.py", "in.pt", "out.pt"))
        script.write_text(_HEAD + source + _TAIL)
        torch.save(inputs, given)
        done = subprocess.run(
            [sys.executable, str(script), str(given), str(result)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        outputs: dict[str, Any] = torch.load(result)
        return outputs

    return run
