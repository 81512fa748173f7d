"""What ttnn refused, in one line: the op, the line of model code that called it, and ttnn's own reason."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harness.ttnn_calls.call_sites import call_site, in_ttnn

_REASON = re.compile(r"^info:\n(.+?)(?:\nbacktrace:|\Z)", re.DOTALL | re.MULTILINE)
_ASSERTION = re.compile(r"^TT_(?:FATAL|THROW) @ [^:]+:\d+: (.+)$", re.MULTILINE)
_WRONG_ARGUMENTS = "incompatible function arguments"  # nanobind's
# What follows a reason that is neither's: nanobind's signatures, which the cause shows in full, the driver's backtrace.
_OTHERS_END = re.compile(r"Available signatures:|^Location: ", re.MULTILINE)
_NAMED = re.compile(r"^\s*(ttnn(?:\.\w+)+)(?:\(\))?: ")  # a message that starts with the op


class OpRefused(RuntimeError):
    """ttnn refused a call. The first line: `<op> at <file>:<line>: <reason>`; the cause is ttnn's own error."""


@contextmanager
def explained() -> Iterator[None]:
    """Turns what ttnn raises inside into OpRefused; lets everything else pass."""
    try:
        yield
    except Exception as error:  # what is not ttnn's goes on as it came
        line = explain(error)
        if line is None:
            raise
        raise OpRefused(line) from error


def explain(error: Exception) -> str | None:
    """The line, or None for an error that no ttnn call raised."""
    wrong_arguments = isinstance(error, TypeError) and _WRONG_ARGUMENTS in str(error)
    if not wrong_arguments and not isinstance(error, RuntimeError):
        return None
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    inside = [i for i, (frame, _) in enumerate(frames) if in_ttnn(frame.f_code.co_filename)]
    # An op bound straight to C++ has no Python frame of its own; its error then names itself.
    native = wrong_arguments or str(error).startswith(("TT_FATAL", "TT_THROW"))
    if (not inside and not native) or not frames:
        return None
    if inside[:1] == [0]:
        return None
    match = _NAMED.match(str(error))
    op = match[1] if match else _op(frames[inside[0]][0]) if inside else None
    site = call_site([(frame.f_code.co_filename, line) for frame, line in frames], op)
    return f"{site}: {_NAMED.sub('', reason(str(error)))}"


def _op(frame: FrameType) -> str | None:
    """ttnn runs each op through one callable object, which knows the op's full name."""
    name = getattr(frame.f_locals.get("self"), "python_fully_qualified_name", None)
    return name if isinstance(name, str) else None


def reason(message: str) -> str:
    """ttnn's message without its backtrace and the place in its own sources, on one line."""
    match = _REASON.search(message) or _ASSERTION.search(message)
    text = match[1] if match else _OTHERS_END.split(message)[0]
    return " ".join(text.split())
