"""The shadow as a target: the real ttnn on a mock cluster answers every call, and values are carried beside its buffers.

May be imported from here: what `__all__` names. Which file does what: `calls` is the hook on all ops, `below` what is called below
those, `values` the values by buffer, `golden` those of ops that the emulator lacks, `transfers` what moves tensors, `traces` traces
and queues, `conversion` real types to the emulator's, `mesh` a mesh without memory, `coverage` how true it all is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.targets import dryrun, emulator
from harness.targets.shadow.coverage import UNSEEN, Coverage, Source
from harness.targets.target import Target

if TYPE_CHECKING:
    from harness.targets.shadow.calls import Calls, Listener

__all__ = ["TARGET", "UNSEEN", "Coverage", "Source", "activate", "coverage", "listening", "take_coverage"]

_coverage = Coverage()
_calls: Calls | None = None  # of this process, once the target is active


def coverage() -> Coverage:
    """What is being counted now."""
    return _coverage


def take_coverage() -> Coverage:
    """What was counted since the last time; it starts anew."""
    global _coverage
    taken, _coverage = _coverage, Coverage()
    return taken


@contextmanager
def listening(listener: Listener) -> Iterator[Calls]:
    """While it lasts the listener is told of every op; raises UserError on another target."""
    if _calls is None:
        raise UserError("target: ops are watched on shadow alone, with --tt-target shadow")
    _calls.listener = listener
    try:
        yield _calls
    finally:
        _calls.listener = None


def activate(mesh: str, arch: str, mode: str = emulator.DEFAULT_MODE) -> str:
    """Imports ttnn on a mock cluster and has values carried beside it. Returns one line on what stands in for what.

    Raises ValueError, one line, as the dry run does, and for an architecture or mode that the emulator does not have.
    """
    emulator.check(arch, mode)
    ttnn, what = dryrun.opened("shadow", mesh, arch)
    _install(ttnn, mode)
    return f"{what}; values by the emulator, mode {mode}, else by goldens"


def _install(ttnn: Any, mode: str) -> None:
    from harness.emulator import ops  # noqa: F401 - to import them declares them
    from harness.emulator.arithmetic.mode import Mode, set_mode
    from harness.emulator.kernels import cpu
    from harness.emulator.runtime import padding
    from harness.targets.shadow.below import Below
    from harness.targets.shadow.calls import Calls
    from harness.targets.shadow.graphs import Graphs
    from harness.targets.shadow.traces import ShadowTraces
    from harness.targets.shadow.transfers import Transfers
    from harness.targets.shadow.values import Values

    cpu.capability()  # another CPU that is pretended must be in force before torch computes
    set_mode(Mode(mode))
    padding.set_fill(padding.chosen())
    graphs, values = Graphs(), Values(ttnn, coverage)
    graphs.install(ttnn)
    transfers = Transfers(values, coverage, graphs)
    calls = Calls(values, coverage, graphs, transfers.host)
    transfers.install(calls)
    global _calls
    _calls = calls
    ttnn.decorators.FastOperation.__call__ = lambda op, *args, **kwargs: calls(op, args, kwargs)
    ShadowTraces(values, coverage).install(ttnn)
    Below(calls, transfers, coverage).install()


TARGET = Target(
    activate,
    computes=True,
    native=True,
    emulated=True,
    modes=emulator.MODES,
    default_mode=emulator.DEFAULT_MODE,
    doctor_meshes=("1x1", "1x2"),
)
