"""The emulator as a target: `import ttnn` becomes the functional device model on the CPU."""

from __future__ import annotations

import atexit
import gc

from harness.targets.clusters import CLUSTERS
from harness.targets.target import Target

DEFAULT_MODE = "device"
MODES = ("fast", "device", "exact")
# Those of boards, and half a T3K.
MESHES = sorted(["1x4", *(mesh for arch, mesh in CLUSTERS if arch == "wormhole_b0")])


def activate(mesh: str, arch: str, mode: str = DEFAULT_MODE) -> str:
    """Puts `harness.emulator` in place as the module `ttnn`. Raises ValueError for what it cannot emulate or pretend."""
    if mesh not in MESHES:
        raise ValueError(f"mesh {mesh!r}: the emulator offers {', '.join(MESHES)}")
    check(arch, mode)
    from harness.emulator import install
    from harness.emulator.kernels import cpu
    from harness.emulator.runtime import padding

    cpu.capability()  # another CPU that is pretended must be in force before torch computes
    rows, columns = map(int, mesh.split("x"))
    install(mode, (rows, columns))
    # The interpreter's last collections walk every object there is, a second after a run, and free what the process gives back.
    atexit.register(gc.freeze)
    fill = padding.current().value
    return f"emulated Wormhole, mode {mode}" + (f", padding {fill}" if fill != "hidden" else "")


def check(arch: str, mode: str) -> None:
    """Raises ValueError for what cannot be emulated."""
    if arch != "wormhole_b0":
        raise ValueError(f"arch {arch!r}: the emulator offers wormhole_b0 only")
    if mode not in MODES:
        raise ValueError(f"emulator mode {mode!r}: choose one of {', '.join(MODES)}")


TARGET = Target(activate, computes=True, native=False, emulated=True, modes=MODES, default_mode=DEFAULT_MODE)
