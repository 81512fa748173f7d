"""What answers `import ttnn`: `activate(name)` puts a target in place before anything imports it.

May be imported from here: `activate`, `active`, `TARGETS`, `DEFAULT_TARGET`, `TargetError`. Nothing here may import
ttnn before its `activate` runs, nor tt_llm ever.

A target is a module of this folder: its `TARGET` says what others need to know of it, and it is named in TARGETS.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module

from harness.errors import UserError
from harness.targets import environment
from harness.targets.target import Target


class TargetError(UserError):
    """A target that is unknown, or cannot be put in place here."""


@dataclass(frozen=True, kw_only=True)
class Active(Target):
    """The target in place. `what`: one line on it, for a report."""

    name: str
    mesh: str
    arch: str
    mode: str | None
    what: str


# By name, because the gate reads here what targets there are, and may import neither ttnn nor torch.
TARGETS: dict[str, Target] = {
    name: import_module(f"{__name__}.{name}").TARGET
    for name in ("emulator", "dryrun", "shadow", "ttsim", "silicon")
}
DEFAULT_TARGET = "emulator"
ARCHITECTURES = ("wormhole_b0", "blackhole")

_active: Active | None = None


def activate(name: str, mesh: str = "1x1", arch: str = "wormhole_b0", mode: str | None = None) -> None:
    """Makes `import ttnn` mean the named target, for this process and for good.

    `mode`: how closely the emulator computes, "fast", "device" or "exact"; None is its default, and right for all others.
    Calling it again with the same arguments does nothing. Raises TargetError for an unknown target, architecture or mode,
    a mesh the target cannot offer, or when another ttnn has been imported already.
    """
    global _active
    if name not in TARGETS:
        raise TargetError(f"target {name!r}: choose one of {', '.join(TARGETS)}")
    target = TARGETS[name]
    if target.modes:
        mode = mode or target.default_mode
    elif mode is not None:
        raise TargetError(f"emulator mode {mode!r}: target {name!r} does not emulate")
    if _active is not None and (_active.name, _active.mesh, _active.arch, _active.mode) == (
        name,
        mesh,
        arch,
        mode,
    ):
        return
    if arch not in ARCHITECTURES:
        raise TargetError(f"arch {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    if _active is not None:
        raise TargetError(
            f"target {name!r} on mesh {mesh}: this process already runs {_active.name} on {_active.mesh}"
        )
    if "ttnn" in sys.modules:
        raise TargetError(f"target {name!r}: ttnn is already imported; activate a target before importing it")
    environment.withdraw()
    try:
        what = target.activate(mesh, arch, **({"mode": mode} if target.modes else {}))
    except ValueError as error:
        raise TargetError(str(error)) from error
    _active = Active(**vars(target), name=name, mesh=mesh, arch=arch, mode=mode, what=what)


def active() -> Active:
    """The target in place. Raises TargetError before one is activated."""
    if _active is None:
        raise TargetError("no target is active: call harness.targets.activate first")
    return _active
