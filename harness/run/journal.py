"""The journal of a run: what each finished test filed, a line a test, so that a run killed half-way goes on where it was.

It stands beside the results file: ``results.jsonl`` for ``results.json``. The first line says what the run is of; a journal
of anything else is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import pytest
from pydantic import ValidationError

from harness.results.schema import (
    Environment,
    Record,
    ResultsError,
    record_from_json,
    record_to_json,
    write_text_atomically,
)
from harness.run.options import Options
from harness.run.worker_groups import without_group

Head = dict[str, Any]
FINISHED = "tt_finished"  # in an xdist worker's input: the tests not to run again
# Options that change no figure
NOT_OF_THE_RUN = (
    "results",
    "resume",
    "time_limit",
    "update_goldens",
    "update_baselines",
)


def beside(results: Path) -> Path:
    """The journal of a results file."""
    return results.with_suffix(".jsonl")


def head(environment: Callable[[], Environment], options: Options, selection: Sequence[str]) -> Head:
    """What two runs must share for one to go on with the other: machine, commit, model, goldens, options, tests asked for."""
    asked = {name: str(value) for name, value in asdict(options).items() if name not in NOT_OF_THE_RUN}
    return asdict(environment()) | asked | {"tests": " ".join(selection)}


def read(path: Path, expected: Head) -> dict[str, list[Record]]:
    """The records of each finished test. A last line that was cut short is a test that had not finished.

    Raises ResultsError, one line, for no journal, for one of another run, and for a line that is not a test's.
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").split("\n")[:-1] or [""]
    except OSError as error:
        raise ResultsError(f"cannot resume from {path}: {error.strerror}") from error
    try:
        header = json.loads(first)
        finished = [json.loads(line) for line in lines]
        tests = {test["test"]: [record_from_json(record) for record in test["records"]] for test in finished}
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ResultsError(f"cannot resume from {path}: it is not a whole journal ({reason})") from error
    for name, ours in json.loads(json.dumps(expected)).items():
        theirs = header.get(name) if isinstance(header, dict) else None
        if theirs != ours:
            raise ResultsError(
                f"cannot resume from {path}: its {name} is {theirs!s:.60}, this run's is {ours!s:.60};"
                " leave out --tt-resume to start anew"
            )
    return tests


class Journal:
    """Takes what tests filed; the file is made with the first of them, and every line is in it before the next test ends.

    Where it can no longer be written, `fault` says so in one line, and the run goes on without one.
    """

    def __init__(self, path: Path, head: Callable[[], Head], finished: dict[str, list[Record]]) -> None:
        self.fault: str | None = None
        self._path = path
        self._head = head
        self.finished = finished
        self._file: TextIO | None = None

    def add(self, test: str, records: Sequence[Record]) -> None:
        """Keeps a finished test."""
        if self.fault is not None:
            return
        try:
            if self._file is None:
                self._file = self._begun()
            self._file.write(_line(test, records))
            self._file.flush()
        except (OSError, ResultsError) as error:
            self.fault = f"{self._path} cannot be written, so this run cannot be resumed: {error}"
            self.close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def close(self) -> None:
        """Closes the file, which stays."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # of a full disk, which `fault` tells
                self._file.close()

    def _begun(self) -> TextIO:
        lines = [_line(test, records) for test, records in self.finished.items()]
        write_text_atomically(self._path, f"{json.dumps(self._head())}\n{''.join(lines)}")
        return self._path.open("a", encoding="utf-8")


def _line(test: str, records: Sequence[Record]) -> str:
    filed = [record_to_json(record) for record in records]
    return json.dumps({"test": test, "records": filed}, allow_nan=False) + "\n"


class Resumption:
    """Leaves out the tests that an earlier run finished, here and in the workers of pytest-xdist."""

    def __init__(self, finished: Iterable[str]) -> None:
        self._finished = set(finished)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a worker, one that replaces a dead one too, the same tests as every other."""
        node.workerinput[FINISHED] = sorted(self._finished)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """After every other plugin has selected."""
        yield
        finished = [item for item in items if without_group(item.nodeid) in self._finished]
        if finished:
            config.hook.pytest_deselected(items=finished)
            items[:] = [item for item in items if without_group(item.nodeid) not in self._finished]
