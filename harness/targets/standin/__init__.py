"""A stand-in for Tenstorrent's kernel compiler, for a device that never runs a kernel.

May be imported from here: `install`. Needs neither ttnn, a compiler nor a linker; must not import them.
"""

from harness.targets.standin.install import install

__all__ = ["install"]
