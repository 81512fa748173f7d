"""The simulator as a target: what it refuses, what it sets, and what the real ttnn makes of that. No simulator is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from harness.targets import ttsim, wheel

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def simulator(tmp_path: Path, environment: pytest.MonkeyPatch, wheel_folder: Path) -> Path:
    """A simulator's file that TT_METAL_SIMULATOR names, its chip beside it, and a compiler: nothing is missing."""
    simulator = tmp_path / "sim" / "libttsim.so"
    simulator.parent.mkdir()
    simulator.write_text("no library")
    (simulator.parent / "soc_descriptor.yaml").write_text("grid:\n  x_size: 10\narch_name: WORMHOLE_B0\n")
    compiler = wheel_folder / "runtime" / "sfpi" / wheel.COMPILER
    compiler.parent.mkdir(parents=True)
    shutil.copy("/bin/true", compiler)
    os.environ["TT_METAL_SIMULATOR"] = str(simulator)
    return simulator


def refusal(mesh: str = "1x1", arch: str = "wormhole_b0") -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        ttsim.activate(mesh, arch)
    return str(caught.value)


def test_it_sets_what_the_simulator_needs(simulator: Path, tmp_path: Path) -> None:
    """ttnn is sent to the simulator and nowhere else, and told what it cannot do."""
    for name in wheel.SWITCHES:
        os.environ[name] = str(simulator) if name == ttsim.SIMULATOR else "left over"
    what = ttsim.activate("1x1", "wormhole_b0")
    assert {name: os.environ[name] for name in wheel.SWITCHES if name in os.environ} == {
        "TT_METAL_SIMULATOR": str(simulator),
        "TT_METAL_SLOW_DISPATCH_MODE": "1",
        "TT_METAL_DISABLE_SFPLOADMACRO": "1",
    }
    assert os.environ["TT_METAL_CACHE"] == f"{tmp_path}/cache/ttsim/ttnn-0.81.1/"
    assert os.environ["TT_METAL_LOGS_PATH"] == f"{tmp_path}/cache/ttsim/logs"
    sfpi = tmp_path / "ttnn" / "runtime" / "sfpi"
    assert what.startswith("simulated Wormhole (libttsim.so), ttnn 0.81.1, kernels compiled by ")
    assert what.endswith(f" in {sfpi}")


@pytest.mark.parametrize(
    ("mesh", "arch", "says"),
    [
        ("1x2", "wormhole_b0", "mesh '1x2': target 'ttsim' offers 1x1 only: a simulator is one chip"),
        ("1x1", "blackhole", "arch 'blackhole': target 'ttsim' offers wormhole_b0 only"),
    ],
)
def test_what_is_not_offered_is_refused(mesh: str, arch: str, says: str) -> None:
    """Before anything is looked for."""
    assert refusal(mesh, arch) == says


def test_each_missing_piece_is_refused(simulator: Path, wheel_folder: Path) -> None:
    """One line each, that says what mends it."""
    chip = wheel_folder / "tt_metal" / "soc_descriptors" / "wormhole_b0_80_arch.yaml"
    descriptor = simulator.parent / "soc_descriptor.yaml"

    compiler = wheel_folder / "runtime" / "sfpi" / wheel.COMPILER
    compiler.write_bytes(b"\x7fELF and so on")
    assert refusal() == f"sfpi: {compiler} does not start (Exec format error)"
    compiler.unlink()
    assert refusal().startswith("target 'ttsim': sfpi, Tenstorrent's kernel compiler, is neither in")
    assert refusal().endswith(f"install the release that {wheel_folder}/tt_metal/sfpi-version names")

    descriptor.write_text("arch_name: BLACKHOLE\n")
    assert (
        refusal() == f"target 'ttsim': {descriptor} has arch_name BLACKHOLE, a Wormhole's is that of {chip}"
    )
    descriptor.unlink()
    assert refusal() == f"target 'ttsim': {descriptor} cannot be read: cp {chip} {descriptor}"

    simulator.unlink()
    assert refusal() == (
        f"target 'ttsim': TT_METAL_SIMULATOR is {str(simulator)!r}, where there is no file: give libttsim.so's path"
    )
    del os.environ["TT_METAL_SIMULATOR"]
    assert refusal().startswith("target 'ttsim': TT_METAL_SIMULATOR is not set: set it to the libttsim.so of")


def test_the_real_ttnn_asks_that_simulator(
    simulator: Path, needs_ttnn: None, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is set reaches ttnn: a file that is no library is refused by name once devices are asked for."""
    environment.undo()
    chip = "ttnn/tt_metal/soc_descriptors/wormhole_b0_80_arch.yaml"
    shutil.copy(
        str(metadata.distribution("ttnn").locate_file(chip)), simulator.parent / "soc_descriptor.yaml"
    )
    code = (
        "from pathlib import Path\nfrom harness.targets import activate, active, wheel\n"
        f"wheel.SYSTEM_SFPI = Path({str(tmp_path / 'ttnn' / 'runtime' / 'sfpi')!r})\n"
        "activate('ttsim')\nimport ttnn\n"
        "print(active().computes, active().native, active().traces, active().mode)\nttnn.get_num_devices()"
    )
    variables = {"TT_METAL_SIMULATOR": str(simulator), "TT_HARNESS_CACHE": str(tmp_path / "cache")}
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, timeout=120
    )
    assert process.stdout == "True True False None\n", process.stderr[-2000:]
    assert "RuntimeError: Failed to dlopen simulator library" in process.stderr
    assert str(simulator) in process.stderr


def test_ttnn_captures_no_trace_as_the_simulator_is_driven(dry: Run) -> None:
    """With slow dispatch the real ttnn refuses at once, so the target says that it runs none; a mock device shows it."""
    result = dry(
        "import os, ttnn\nmesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 20)\n"
        "print(os.environ['TT_METAL_SLOW_DISPATCH_MODE'])\n"
        "try:\n    ttnn._ttnn.operations.trace.begin_trace_capture(mesh, cq_id=ttnn.QueueId(0))\n"
        "except RuntimeError as error:\n    print(error)",
        mesh="1x2",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith("1\n")
    assert "Not supported for slow dispatch" in result.stdout


def test_the_simulator_computes(tmp_path: Path) -> None:
    """On a machine that has it: a matmul's numbers, and its graph."""
    if not os.environ.get("TT_METAL_SIMULATOR"):
        pytest.skip("TT_METAL_SIMULATOR is not set: ttsim was not checked")
    code = """
from harness.targets import activate
activate("ttsim")
import torch, ttnn
from harness.timing.counters import captured, ops
from tt_llm.mesh import open_mesh, replicate, to_host
device = open_mesh((1, 1))
a, b = (replicate(torch.full((1, 1, 32, 32), value), device, ttnn.bfloat16) for value in (0.5, 3.0))
graph = captured(ttnn, lambda: ttnn.matmul(a, b), ttnn.graph.RunMode.NORMAL)
print([op.name for op in ops(graph)], to_host(ttnn.matmul(a, b)).unique().tolist())
ttnn.close_mesh_device(device)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout == "['Matmul'] [48.0]\n"
