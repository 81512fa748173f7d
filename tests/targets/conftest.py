"""A process of its own for each look at the real ttnn: a target is for good."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty harness cache, shared by the session's processes: the first of them runs cold."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def dry(kernel_cache: Path, tmp_path: Path) -> Run:
    """dry(source, mesh="1x1", arch="wormhole_b0"): runs Python source after the dry run is activated; its stdout."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: the dry run cannot be tried")

    def run(source: str, mesh: str = "1x1", arch: str = "wormhole_b0") -> subprocess.CompletedProcess[str]:
        head = f"from harness.targets import activate, active\nactivate('dryrun', mesh={mesh!r}, arch={arch!r})\n"
        return subprocess.run(
            [sys.executable, "-c", head + source],
            env=os.environ | {"TT_HARNESS_CACHE": str(kernel_cache)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
