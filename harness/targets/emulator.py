"""The emulator as a target: `import ttnn` becomes the functional device model on the CPU."""

from __future__ import annotations

DEFAULT_MODE = "fast"
MODES = ("fast", "device", "exact")


def activate(mesh: str, arch: str, mode: str = DEFAULT_MODE) -> str:
    """Puts `harness.emulator` in place as the module `ttnn`. Raises ValueError for what it cannot emulate."""
    if mesh != "1x1":
        raise ValueError(f"mesh {mesh!r}: the emulator offers one device so far, mesh 1x1")
    if arch != "wormhole_b0":
        raise ValueError(f"arch {arch!r}: the emulator offers wormhole_b0 only")
    if mode not in MODES:
        raise ValueError(f"emulator mode {mode!r}: choose one of {', '.join(MODES)}")
    from harness.emulator import install

    install(mode)
    return f"emulated Wormhole, mode {mode}"
