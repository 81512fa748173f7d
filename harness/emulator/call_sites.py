"""Which line of model code called the emulator."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import FrameType

_EMULATOR = str(Path(__file__).parent)
# What may stand between model code and an op: the op log, a library's wrapper.
_BETWEEN = ("functools.py", "contextlib.py", "op_log.py")


def call_site() -> str:
    """`<file>:<line>` of the innermost frame that is not the emulator's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _inside(frame.f_code.co_filename):
        frame = frame.f_back
    return "an unknown place" if frame is None else f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"


@functools.cache
def _inside(file: str) -> bool:
    return file.startswith(_EMULATOR) or file.endswith(_BETWEEN)


@functools.cache
def _shown(file: str) -> str:
    """The file as seen from the current folder."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
