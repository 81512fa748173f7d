"""What answers `import ttnn`: `activate(name)` puts a target in place before anything imports it.

May be imported from here: `activate`, `active`, `TARGETS`, `TargetError`. Nothing here may import
ttnn before its `activate` runs, nor tt_llm ever.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from harness.errors import UserError
from harness.targets import dryrun, emulator, shadow, silicon, ttsim


class TargetError(UserError):
    """A target that is unknown, or cannot be put in place here."""


@dataclass(frozen=True)
class Active:
    """The target in place. `what`: one line on it, for a report."""

    name: str
    mesh: str
    arch: str
    mode: str | None
    computes: bool
    captures: bool  # whether `ttnn.graph` is there
    traces: bool
    card: bool
    what: str


TARGETS = {
    "emulator": emulator.TARGET,
    "dryrun": dryrun.TARGET,
    "shadow": shadow.TARGET,
    "ttsim": ttsim.TARGET,
    "silicon": silicon.TARGET,
}
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
    if TARGETS[name].modes:
        mode = mode or emulator.DEFAULT_MODE
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
    try:
        given = {"mode": mode} if TARGETS[name].modes else {}
        what = TARGETS[name].activate(mesh, arch, **given)
    except ValueError as error:
        raise TargetError(str(error)) from error
    target = TARGETS[name]
    _active = Active(
        name,
        mesh,
        arch,
        mode,
        target.computes,
        captures=target.native,
        traces=target.traces,
        card=target.card,
        what=what,
    )


def active() -> Active:
    """The target in place. Raises TargetError before one is activated."""
    if _active is None:
        raise TargetError("no target is active: call harness.targets.activate first")
    return _active
