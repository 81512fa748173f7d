"""How closely the emulator follows a Wormhole's arithmetic: one choice for the process, read by the ops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Mode(Enum):
    """What is modelled beyond the rounding of operands and results, which every mode has."""

    FAST = "fast"  # nothing: one float32 accumulation on the CPU's matrix units
    DEVICE = "device"  # each kernel's own steps, bit for bit; `accumulate.EXACT_ROWS` says where long prompts are not
    EXACT = "exact"  # all of it, bit for bit


_mode = Mode.FAST


def current() -> Mode:
    """The mode in force."""
    return _mode


def set_mode(mode: Mode) -> None:
    """Puts a mode in force from the next op on."""
    global _mode
    _mode = mode


@contextmanager
def using(mode: Mode) -> Iterator[None]:
    """A mode for the length of a `with` block."""
    before = _mode
    set_mode(mode)
    try:
        yield
    finally:
        set_mode(before)
