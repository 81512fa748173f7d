"""What a target says of itself; each module of this folder that is one has its `TARGET`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """`activate(mesh, arch)` puts it in place and returns one line on what it is; ValueError where it cannot, as for a mesh."""

    activate: Callable[..., str]
    computes: bool  # whether what is read back from its devices are numbers to compare
    native: bool  # whether it is the real ttnn: native code, which may crash or hang, and captures graphs
    traces: bool = True  # whether decode steps can run as traces
    emulated: bool = False  # whether the emulator's kernels compute its values, on this CPU
    modes: tuple[str, ...] = ()  # how closely it can be told to compute; `activate` then takes a `mode`
    default_mode: str | None = None
    card: bool = False  # whether its clock is a card's; else times are the device model's
    doctor_meshes: tuple[str, ...] = ("1x1",)  # those that `tt-harness doctor` opens
    expected: Callable[[], bool] = lambda: True  # whether something here says that it should work
