"""The real ttnn, in a process of its own, to hold the emulator against; a device and short-hands for tests of ops.

They use the api module itself, so that no `ttnn` in sys.modules is touched.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.emulator import api

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


@pytest.fixture
def ttnn() -> ModuleType:
    return api


@pytest.fixture
def device() -> Iterator[Any]:
    torch.manual_seed(7)
    mesh = api.open_mesh_device(api.MeshShape(1, 1))
    yield mesh
    api.close_mesh_device(mesh)


@pytest.fixture
def put(device: Any) -> Callable[..., Any]:
    """put(x, dtype, layout, memory_config): a torch tensor on the device, bfloat16 tiles unless told otherwise."""

    def put(
        x: torch.Tensor, dtype: Any = api.bfloat16, layout: Any = api.TILE_LAYOUT, memory: Any = None
    ) -> Any:
        return api.from_torch(x, dtype=dtype, layout=layout, device=device, memory_config=memory)

    return put


@pytest.fixture
def rows_on_cores() -> Callable[[int, int], Any]:
    """rows_on_cores(users, width): one user a core, 32 padded rows each, in L1."""

    def config(users: int, width: int) -> Any:
        grid = api.num_cores_to_corerangeset(users, api.CoreCoord(8, 8), True)
        return api.create_sharded_memory_config(
            (32, width), grid, api.ShardStrategy.HEIGHT, use_height_and_width_as_shard_shape=True
        )

    return config


@pytest.fixture
def exact_config() -> Any:
    """HiFi4 with a float32 destination: no operand bit of a bf16 product is lost."""
    return api.WormholeComputeKernelConfig(
        math_fidelity=api.MathFidelity.HiFi4,
        fp32_dest_acc_en=True,
        packer_l1_acc=True,
        math_approx_mode=False,
    )
