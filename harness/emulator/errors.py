"""The error every refused call raises."""

from __future__ import annotations

from typing import NoReturn


class DeviceError(RuntimeError):
    """What the device or ttnn refuses; the message is one line and starts with the op's name."""


def refuse(op: str, message: str) -> NoReturn:
    raise DeviceError(f"{op}: {message}")
