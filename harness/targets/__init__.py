"""What answers `import ttnn`: `activate(name)` puts a target in place before anything imports it.

May be imported from here: `activate`, `TARGETS`, `TargetError`. Nothing here may import ttnn or tt_llm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.errors import UserError
from harness.targets import emulator


class TargetError(UserError):
    """A target that is unknown, or cannot be put in place here."""


TARGETS: dict[str, Callable[[str], None]] = {"emulator": emulator.activate}
ARCHITECTURES = ("wormhole_b0",)

_active: tuple[str, str, str] | None = None


def activate(name: str, mesh: str = "1x1", arch: str = "wormhole_b0") -> None:
    """Makes `import ttnn` mean the named target, for this process and for good.

    Calling it again with the same arguments does nothing. Raises TargetError for an unknown target or architecture,
    a mesh the target cannot offer, or when another ttnn has been imported already.
    """
    global _active
    if _active == (name, mesh, arch):
        return
    if name not in TARGETS:
        raise TargetError(f"target {name!r}: choose one of {', '.join(TARGETS)}")
    if arch not in ARCHITECTURES:
        raise TargetError(f"arch {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    if _active is not None:
        raise TargetError(
            f"target {name!r} on mesh {mesh}: this process already runs {_active[0]} on {_active[1]}"
        )
    if "ttnn" in sys.modules:
        raise TargetError(f"target {name!r}: ttnn is already imported; activate a target before importing it")
    try:
        TARGETS[name](mesh)
    except ValueError as error:
        raise TargetError(str(error)) from error
    _active = name, mesh, arch
