"""The simulator as a target: the real ttnn on Tenstorrent's functional simulator, which computes as a Wormhole does.

The simulator is a library, `libttsim.so`, of which the environment variable TT_METAL_SIMULATOR names the file; beside it lies
the description of its chip. It runs real kernels, so it needs Tenstorrent's kernel compiler, sfpi. It has no fast dispatch and
so no traces, and its wall time says nothing of a device's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.targets import wheel
from harness.targets.target import Target

SIMULATOR = "TT_METAL_SIMULATOR"
DESCRIPTOR = "soc_descriptor.yaml"  # ttnn looks for it beside the simulator, by this name
CHIP = "wormhole_b0_80_arch.yaml"  # what the wheel calls the description of a Wormhole
_ARCH = re.compile(r"^arch_name:\s*(\S+)", re.MULTILINE)


def activate(mesh: str, arch: str) -> str:
    """Imports ttnn so that it opens the simulator. Returns one line on what computes.

    Raises ValueError, one line, for a mesh or architecture that is not offered, and for each thing that is missing.
    """
    if arch != "wormhole_b0":
        raise ValueError(f"arch {arch!r}: target 'ttsim' offers wormhole_b0 only")
    if mesh != "1x1":
        raise ValueError(f"mesh {mesh!r}: target 'ttsim' offers 1x1 only: a simulator is one chip")
    package, version = wheel.installed("ttsim")
    simulator = _simulator()
    _check_descriptor(simulator.parent / DESCRIPTOR, package / "tt_metal" / "soc_descriptors" / CHIP)
    sfpi = wheel.real_sfpi(package)
    if sfpi is None:
        raise ValueError(
            f"target 'ttsim': sfpi, Tenstorrent's kernel compiler, is neither in {package / 'runtime' / 'sfpi'} nor in"
            f" {wheel.SYSTEM_SFPI}: install the release that {package / 'tt_metal' / 'sfpi-version'} names"
        )
    kernels = wheel.compiled_by(sfpi)
    folder = wheel.own_folder("ttsim")
    settings = {
        SIMULATOR: str(simulator),
        "TT_METAL_SLOW_DISPATCH_MODE": "1",
        "TT_METAL_DISABLE_SFPLOADMACRO": "1",  # an instruction that the simulator does not have
        # Of its own: kernels without that instruction are for no card.
        "TT_METAL_CACHE": f"{folder / f'ttnn-{version}'}/",
    }
    wheel.point(settings, folder)
    wheel.imported("ttsim", version)
    return f"simulated Wormhole ({simulator.name}), ttnn {version}, {kernels}"


def _simulator() -> Path:
    library = os.environ.get(SIMULATOR)
    if not library:
        raise ValueError(
            f"target 'ttsim': {SIMULATOR} is not set: set it to the libttsim.so of a release of Tenstorrent's ttsim"
        )
    simulator = Path(library)
    if not simulator.is_file():
        raise ValueError(
            f"target 'ttsim': {SIMULATOR} is {library!r}, where there is no file: give libttsim.so's path"
        )
    return simulator.absolute()


def _check_descriptor(descriptor: Path, wormhole: Path) -> None:
    try:
        match = _ARCH.search(descriptor.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        raise ValueError(f"target 'ttsim': {descriptor} cannot be read: cp {wormhole} {descriptor}") from None
    chip = match[1] if match else "none"
    if chip.lower() != "wormhole_b0":
        raise ValueError(
            f"target 'ttsim': {descriptor} has arch_name {chip}, a Wormhole's is that of {wormhole}"
        )


TARGET = Target(
    activate,
    computes=True,
    native=True,
    traces=False,
    expected=lambda: bool(os.environ.get(SIMULATOR)),
)
