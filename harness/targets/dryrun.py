"""The dry run as a target: the real ttnn on a mock cluster, where every op call is checked and none is computed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

from harness.targets.dry_traces import Traces
from harness.targets.standin import install

# (architecture, mesh) -> the file in clusters/ that describes it
CLUSTERS = {
    ("wormhole_b0", "1x1"): "n150",
    ("wormhole_b0", "1x2"): "n300",
    ("wormhole_b0", "1x8"): "t3k",
    ("wormhole_b0", "2x4"): "t3k",
    ("wormhole_b0", "8x4"): "galaxy",
    ("blackhole", "1x1"): "p150",
}
SYSTEM_SFPI = Path("/opt/tenstorrent/sfpi")  # where Tenstorrent's package installs it and ttnn looks second
COMPILER = Path("compiler", "bin", "riscv-tt-elf-g++")
# Left over from another target, each of these would send ttnn elsewhere than to the mock cluster.
FOREIGN_SETTINGS = (
    "TT_METAL_SIMULATOR",
    "TT_METAL_VISIBLE_DEVICES",
    "TT_VISIBLE_DEVICES",
    "TT_MESH_GRAPH_DESC_PATH",
    "TT_METAL_SLOW_DISPATCH_MODE",
)


def activate(mesh: str, arch: str) -> str:
    """Imports ttnn so that it opens a mock cluster, and answers its trace calls. Returns one line on what stands in for what.

    Raises ValueError, one line, for a mesh no cluster is described for, or where there is no ttnn that can be imported.
    """
    board = CLUSTERS.get((arch, mesh))
    if board is None:
        offered = ", ".join(shape for known, shape in CLUSTERS if known == arch)
        raise ValueError(f"mesh {mesh!r}: the dry run offers {offered} on {arch}")
    package, version = _installed_ttnn()
    folder = _cache_dir() / "dryrun"
    settings = {
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(resources.files(__package__) / "clusters" / f"{board}.yaml"),
        "TT_METAL_LOGS_PATH": str(folder / "logs"),  # else a folder `generated` in the current one
    }
    sfpi = _real_sfpi(package)
    try:
        if sfpi is None:
            root = install(package, version, folder)
            settings |= {"TT_METAL_RUNTIME_ROOT": str(root), "TT_METAL_CACHE": f"{root}.kernels/"}
            kernels = "kernels not compiled (stand-in compiler)"
        else:
            settings["TT_METAL_CACHE"] = str(folder / f"ttnn-{version}-sfpi") + "/"
            kernels = f"kernels compiled by {_version(sfpi)} in {sfpi}"
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"target 'dryrun': its folder {folder} cannot be written ({error})") from error
    for name in FOREIGN_SETTINGS:
        os.environ.pop(name, None)
    os.environ.update(settings)
    if mesh != "1x1":
        # With fast dispatch the chips of a mock mesh lose a row of worker cores that real ones, which dispatch from their
        # Ethernet cores, keep. One chip dispatches from worker cores, mock or real: 8x8 are left of an N150's 8x9.
        os.environ["TT_METAL_SLOW_DISPATCH_MODE"] = "1"
    os.environ.setdefault("TT_LOGGER_LEVEL", "off")  # what ttnn refuses it also raises
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # ttnn's Python part
    try:
        import ttnn
    except (ImportError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"target 'dryrun': ttnn {version} is installed but cannot be imported ({reason})"
        ) from error
    Traces().install(ttnn)
    return f"mock {board.upper()}, ttnn {version}, {kernels}"


def _installed_ttnn() -> tuple[Path, str]:
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ValueError(f"target 'dryrun': ttnn is not installed in this Python {python}: pip install ttnn")
    return Path(spec.origin).resolve().parent, metadata.version("ttnn")


def _real_sfpi(package: Path) -> Path | None:
    """The folder of Tenstorrent's compiler, where ttnn would find it; a script in its place is not it."""
    for folder in (package / "runtime" / "sfpi", SYSTEM_SFPI):
        compiler = folder / COMPILER
        if compiler.is_file() and compiler.read_bytes()[:4] == b"\x7fELF":
            return folder
    return None


def _version(sfpi: Path) -> str:
    command = [str(sfpi / COMPILER), "--version"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0] if lines else "sfpi"


def _cache_dir() -> Path:
    # As tt_llm's, which cannot be imported before ttnn is set up.
    return Path(os.environ.get("TT_HARNESS_CACHE") or Path.home() / ".cache" / "tt-harness")
