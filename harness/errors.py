"""The exception for what a user gave wrongly, and how a program of the harness ends: 0, 1 for a regression, 2 for all else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USAGE_EXIT = 2
OURS = ("harness", "tt_llm", "goldens")  # whose errors are a line already


class UserError(ValueError):
    """Bad input. The message is one line that names the thing, its value and what would be right."""


@contextmanager
def ending() -> Iterator[None]:
    """Around a program. An exception becomes a line on stderr and status 2, its traceback a file that the line names."""
    import typer

    # Of the command line; Typer has no public name for it.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(USAGE_EXIT) from None
    except SystemExit as error:  # of a library; our own commands raise typer.Exit
        if error.code in (None, 0, USAGE_EXIT):
            raise
        reason = (
            error.code if isinstance(error.code, str) else f"a library ended the program with {error.code}"
        )
        _leave(" ".join(reason.split()))
    except Exception as error:
        if isinstance(error, usage_error):  # shown with the usage, status 2
            raise
        if type(error).__module__.partition(".")[0] in OURS:
            _leave(_line(error))
        _leave(f"{type(error).__name__}: {_line(error)} (not foreseen; {_kept()})")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or "it says nothing"


def _leave(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(USAGE_EXIT) from None


def _kept() -> str:
    """Writes the traceback at hand; where it is."""
    import tempfile
    import traceback

    text = traceback.format_exc()
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="tt-harness-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
    except OSError as error:
        return f"its traceback could not be kept: {error.strerror}"
    return f"traceback in {file.name}"
