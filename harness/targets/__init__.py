"""What answers `import ttnn`: `activate(name)` puts a target in place before anything imports it.

May be imported from here: `activate`, `active`, `TARGETS`, `TargetError`. Nothing here may import
ttnn before its `activate` runs, nor tt_llm ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import UserError
from harness.targets import dryrun, emulator


class TargetError(UserError):
    """A target that is unknown, or cannot be put in place here."""


@dataclass(frozen=True)
class Target:
    """`activate(mesh, arch)` puts it in place and returns one line on what it is; ValueError where it cannot."""

    activate: Callable[[str, str], str]
    computes: bool  # whether what is read back from its devices are numbers to compare


@dataclass(frozen=True)
class Active:
    """The target in place. `what`: one line on it, for a report."""

    name: str
    mesh: str
    arch: str
    computes: bool
    what: str


TARGETS = {
    "emulator": Target(emulator.activate, computes=True),
    "dryrun": Target(dryrun.activate, computes=False),
}
ARCHITECTURES = ("wormhole_b0", "blackhole")

_active: Active | None = None


def activate(name: str, mesh: str = "1x1", arch: str = "wormhole_b0") -> None:
    """Makes `import ttnn` mean the named target, for this process and for good.

    Calling it again with the same arguments does nothing. Raises TargetError for an unknown target or architecture,
    a mesh the target cannot offer, or when another ttnn has been imported already.
    """
    global _active
    if _active is not None and (_active.name, _active.mesh, _active.arch) == (name, mesh, arch):
        return
    if name not in TARGETS:
        raise TargetError(f"target {name!r}: choose one of {', '.join(TARGETS)}")
    if arch not in ARCHITECTURES:
        raise TargetError(f"arch {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    if _active is not None:
        raise TargetError(
            f"target {name!r} on mesh {mesh}: this process already runs {_active.name} on {_active.mesh}"
        )
    if "ttnn" in sys.modules:
        raise TargetError(f"target {name!r}: ttnn is already imported; activate a target before importing it")
    try:
        what = TARGETS[name].activate(mesh, arch)
    except ValueError as error:
        raise TargetError(str(error)) from error
    _active = Active(name, mesh, arch, TARGETS[name].computes, what)


def active() -> Active:
    """The target in place. Raises TargetError before one is activated."""
    if _active is None:
        raise TargetError("no target is active: call harness.targets.activate first")
    return _active
