"""The error every refused call raises."""

from __future__ import annotations

from typing import NoReturn


class DeviceError(RuntimeError):
    """What the device or ttnn refuses; the message is one line and starts with the op's name."""


class NotModelledError(DeviceError):
    """ttnn takes it, and the emulator does not model it: no TypeError, which model code may take for an older ttnn's."""


class TraceError(DeviceError):
    """What a trace forbids: on a card it hangs, or is replayed with stale data."""


class RaceError(DeviceError):
    """Two command queues use a tensor in no order; the message names both calls."""


def refuse(op: str, message: str) -> NoReturn:
    raise DeviceError(f"{op}: {message}")
