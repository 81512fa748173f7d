"""A crash or a hang in native code as one failed test: tests run in a worker process, which leaves its last words.

pytest-xdist gives the worker and replaces one that died. Python's faulthandler writes where it was: its handlers and its
watchdog need neither the interpreter nor its lock, which a crash has lost and a hang in C++ may never give back.
"""

from __future__ import annotations

import faulthandler
import re
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.ttnn_calls.call_sites import call_site

LAST_WORDS = "tt_last_words"  # in an xdist worker's input: the file its faulthandler writes to
RESTARTS = 20  # workers; a model that crashes in every test is not worth more
_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_TIMEOUT = re.compile(r"^Timeout \(", re.MULTILINE)
_THREAD = re.compile(r"^(?:Thread|Current thread) ", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in ', re.MULTILINE)


def isolate(config: pytest.Config) -> None:
    """Has this run's tests run in one worker process, unless there are workers already or a debugger wants to see them."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist"):
        return  # turned off by whoever runs this: the tests then share one process with what may crash
    if option.numprocesses is None and not (option.usepdb or option.collectonly):
        option.numprocesses, option.dist, option.tx = 1, "load", ["popen"]
    if option.numprocesses and option.maxworkerrestart is None:
        option.maxworkerrestart = str(RESTARTS)


class Worker:
    """In the worker: crashes, and tests that take longer than `limit` seconds, end the process and say where it was."""

    def __init__(self, last_words: Path, limit: float) -> None:
        self._file = last_words.open("w")
        self._limit = limit

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Listens while one test runs, its fixtures included."""
        self._file.truncate(0)
        faulthandler.enable(self._file)
        faulthandler.dump_traceback_later(self._limit, file=self._file, exit=True)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()


class Controller:
    """In the process that gathers the reports: a worker's death becomes a failure whose first line names the call."""

    def __init__(self, limit: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tt-harness-")
        self._limit = limit

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a worker where to leave its last words."""
        node.workerinput[LAST_WORDS] = str(Path(self._folder.name) / f"{node.gateway.id}.txt")

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: Any) -> None:
        """Explains the death of the worker that ran the report's test."""
        path = Path(report.node.workerinput[LAST_WORDS])
        stderr = path.read_text(errors="replace") if path.exists() else ""
        report.longrepr = explain(stderr, self._limit)

    def pytest_unconfigure(self) -> None:
        """Removes the files."""
        self._folder.cleanup()


def explain(stderr: str, limit: float) -> str:
    """What faulthandler wrote as a failure: a line with the call, its file and line, and how it ended; then the stack."""
    fatal = _FATAL.search(stderr)
    if fatal:
        end = f"the process crashed ({fatal[1]})"
    elif _TIMEOUT.search(stderr):
        end = f"no answer within {limit:g} s (--tt-time-limit)"
    else:
        return "the process that ran this test was killed, and left no word of where it was"
    stack = _stack_of_the_test(stderr)
    if not stack:
        return end
    frames = "".join(f"\n  {file}:{line}" for file, line in stack)
    return f"{call_site(stack)}: {end}\n{frames}"


def _stack_of_the_test(stderr: str) -> list[tuple[str, int]]:
    """File and line of each frame, outermost first, of the thread that ran the test and not of one that served it."""
    for thread in _THREAD.split(stderr):
        frames = [(file, int(line)) for file, line in _FRAME.findall(thread)]  # innermost first
        runner = next((i for i, (file, _) in enumerate(frames) if "_pytest" in file), None)
        if runner is not None:
            return frames[:runner][::-1]
    return []
