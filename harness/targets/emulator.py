"""The emulator as a target: `import ttnn` becomes the functional device model on the CPU."""

from __future__ import annotations


def activate(mesh: str) -> None:
    """Puts `harness.emulator` in place as the module `ttnn`. Raises ValueError for a mesh it cannot emulate."""
    if mesh != "1x1":
        raise ValueError(f"mesh {mesh!r}: the emulator offers one device so far, mesh 1x1")
    from harness.emulator import install

    install()
