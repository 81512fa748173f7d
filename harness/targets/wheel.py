"""The installed ttnn: where it lies, the kernel compiler it finds, and importing it pointed at one kind of device."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType

SYSTEM_SFPI = Path("/opt/tenstorrent/sfpi")  # where Tenstorrent's package installs it and ttnn looks second
COMPILER = Path("compiler", "bin", "riscv-tt-elf-g++")
# What tells ttnn where to run. Left over from another target, each of these would send it elsewhere.
SWITCHES = (
    "TT_METAL_MOCK_CLUSTER_DESC_PATH",
    "TT_METAL_SIMULATOR",
    "TT_METAL_SLOW_DISPATCH_MODE",
    "TT_METAL_DISABLE_SFPLOADMACRO",
    "TT_METAL_VISIBLE_DEVICES",
    "TT_VISIBLE_DEVICES",
    "TT_MESH_GRAPH_DESC_PATH",
)


def installed(target: str) -> tuple[Path, str]:
    """The package's folder and its version. Raises ValueError, one line, where there is none."""
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ValueError(
            f"target {target!r}: ttnn is not installed in this Python {python}: pip install ttnn"
        )
    return Path(spec.origin).resolve().parent, metadata.version("ttnn")


def real_sfpi(package: Path) -> Path | None:
    """The folder of Tenstorrent's compiler, where ttnn would find it; a script in its place is not it."""
    for folder in (package / "runtime" / "sfpi", SYSTEM_SFPI):
        compiler = folder / COMPILER
        if compiler.is_file() and compiler.read_bytes()[:4] == b"\x7fELF":
            return folder
    return None


def compiled_by(sfpi: Path) -> str:
    """What a report says of the kernels that this compiler makes. Raises ValueError, one line, for one that does not start."""
    command = [str(sfpi / COMPILER), "--version"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except OSError as error:
        raise ValueError(f"sfpi: {command[0]} does not start ({error.strerror})") from None
    return f"kernels compiled by {lines[0] if lines else 'sfpi'} in {sfpi}"


def own_folder(target: str) -> Path:
    """Where a target keeps its kernels and ttnn's logs, made if need be. Raises ValueError, one line, if it cannot be."""
    # As tt_llm's, which cannot be imported before ttnn is set up.
    cache = Path(os.environ.get("TT_HARNESS_CACHE") or Path.home() / ".cache" / "tt-harness")
    folder = cache / target
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"target {target!r}: its folder {folder} cannot be written ({error})") from error
    return folder


def point(settings: Mapping[str, str], folder: Path, exempt: tuple[str, ...] = ()) -> None:
    """Sets the environment that ttnn reads when it is imported: `settings`, and of the SWITCHES no other but the `exempt`."""
    for name in SWITCHES:
        if name not in exempt:
            os.environ.pop(name, None)
    os.environ.update(settings)
    os.environ["TT_METAL_LOGS_PATH"] = str(folder / "logs")  # else a folder `generated` in the current one
    os.environ.setdefault("TT_LOGGER_LEVEL", "off")  # what ttnn refuses it also raises
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # ttnn's Python part


def imported(target: str, version: str) -> ModuleType:
    """ttnn. Raises ValueError, one line, where it cannot be imported."""
    try:
        import ttnn
    except (ImportError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"target {target!r}: ttnn {version} is installed but cannot be imported ({reason})"
        ) from error
    module: ModuleType = ttnn
    return module
