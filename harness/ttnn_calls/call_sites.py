"""Which line of model code called ttnn: found on the stack of a running call, or in the frames that an error or a crash left."""

from __future__ import annotations

import functools
import linecache
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

# Where the frames of ttnn, or of what answers for it, lie.
_TTNN_FOLDERS = ("-packages/ttnn/", "/harness/emulator/", "/harness/targets/")
# What may stand between model code and an op: the op log, a library's wrapper.
_BETWEEN = ("/ttnn_calls/op_log.py", "/functools.py", "/contextlib.py")
_CALL = re.compile(r"(?:\bttnn|\b\w+)(?:\.\w+)+(?=\()")


@functools.cache
def in_ttnn(file: str) -> bool:
    """Whether a frame's code is ttnn's, or of what answers for it."""
    return any(folder in file for folder in _TTNN_FOLDERS)


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames from this one outwards that are neither ttnn's nor between ttnn and model code, innermost first."""
    while frame is not None:
        if _is_callers(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def calling_line() -> str:
    """`<file>:<line>` of the model code whose call is running."""
    frame = next(callers(sys._getframe(1)), None)
    return "an unknown place" if frame is None else f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"


def call_site(frames: Sequence[tuple[str, int]], op: str | None = None) -> str:
    """`<op> at <file>:<line>`: the line of model code that called ttnn, or the innermost line where none did.

    `frames`: file and line, outermost first. The op is read off that line of source if it is not given.
    """
    inside = [i for i, (file, _) in enumerate(frames) if in_ttnn(file)]
    name, line = frames[max(inside[0] - 1, 0) if inside else -1]
    return f"{op or _call_on(name, line)} at {_shown(name)}:{line}"


@functools.cache
def _is_callers(file: str) -> bool:
    return not in_ttnn(file) and not file.endswith(_BETWEEN)


@functools.cache
def _shown(file: str) -> str:
    """The file as seen from the current folder."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _call_on(file: str, line: int) -> str:
    text = linecache.getline(file, line).strip()
    call = _CALL.search(text)
    return call[0] if call else text or "ttnn"
