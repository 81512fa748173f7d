"""A functional model of a Tenstorrent Wormhole device on the CPU that answers the ttnn 0.81.1 Python API.

Model code does `import ttnn` and runs unchanged after `install()` has put `harness.emulator.api` in its place. Outsiders
import `install`, the ops' `declarations`, `padding`, `cpu_path`, the errors, and nothing else, but for target shadow, which runs the
ops on values of its own; the emulator itself imports torch and the op log only, never ttnn.
"""

from __future__ import annotations

import sys
from types import ModuleType

from harness.emulator.errors import DeviceError
from harness.emulator.memory.allocator import OutOfMemoryError, UseAfterFreeError
from harness.emulator.runtime.declarations import Kind, Op

__all__ = [
    "DeviceError",
    "Kind",
    "Op",
    "OutOfMemoryError",
    "UseAfterFreeError",
    "cpu_path",
    "declarations",
    "install",
    "op_names",
]


def install(mode: str = "fast", mesh: tuple[int, int] = (1, 1)) -> ModuleType:
    """Make `import ttnn` (and its submodules) the emulator, in a mode of arithmetic/mode.py; returns the module.

    `mesh`: the machine is the smallest that has it. The environment's TT_EMULATOR_PADDING is read here (see runtime/padding.py). Safe to call again. Raises RuntimeError if another ttnn
    is imported already, ValueError for an unknown mode or fill, or a mesh that no machine has.
    """
    from harness.emulator import api
    from harness.emulator.arithmetic.mode import Mode, set_mode
    from harness.emulator.mesh.machine import set_machine
    from harness.emulator.runtime import padding

    set_mode(Mode(mode))
    set_machine(mesh)
    padding.set_fill(padding.chosen())

    present = sys.modules.get("ttnn")
    if present is not None and present is not api:
        raise RuntimeError(
            f"cannot install the emulator as ttnn: {getattr(present, '__file__', None) or present!r} is imported already"
        )
    sys.modules["ttnn"] = api
    for value in list(vars(api).values()):
        if isinstance(value, ModuleType) and value.__name__.startswith("ttnn."):
            sys.modules[value.__name__] = value
    return api


def op_names() -> tuple[str, ...]:
    """Every op the emulator models, by its full ttnn name; needs no target in place."""
    return tuple(declarations())


def declarations() -> dict[str, Op]:
    """What each op is, by every full ttnn name it has; needs no target in place."""
    from harness.emulator import ops  # noqa: F401 - to import them declares them
    from harness.emulator.runtime.declarations import DECLARATIONS

    return DECLARATIONS


def cpu_path() -> str:
    """The CPU's capability and the path taken for it, such as "avx2, products in float32, compiled kernels".

    Compiles the kernels if nothing has yet. Raises ValueError for a CPU that cannot be pretended.
    """
    from harness.emulator import kernels
    from harness.emulator.arithmetic.products import on_bf16_units
    from harness.emulator.kernels import cpu

    suffix = " (pretended)" if cpu.pretended() else ""
    arithmetic = "compiled kernels" if kernels.load() else "torch for want of compiled kernels"
    numbers = "bfloat16" if on_bf16_units() else "float32"
    return f"{cpu.capability().name}{suffix}, products in {numbers}, {arithmetic}"
