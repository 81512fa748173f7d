"""`--dist loadgroup`: pytest-xdist keeps the tests of one precision on one worker, which then loads one model.

pytest-xdist 3.8 tells its scheduler a test's group by writing it behind the node id, which has no effect with pytest 9.2.
The scheduler runs in the controller, which collects no tests and is sent their node ids alone. So each worker leaves a file
with the precisions of its tests, and the scheduler reads that.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

PRECISIONS = "tt_precisions"  # in an xdist worker's input: the file in which it leaves the precision of each of its tests


class PrecisionScheduling(LoadGroupScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """A group for each precision; other tests as their own marks have it."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self._precisions: dict[str, str] = {}

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        self._precisions |= json.loads(Path(node.workerinput[PRECISIONS]).read_text(encoding="utf-8"))
        super().add_node_collection(node, collection)

    def _split_scope(self, nodeid: str) -> str:
        return self._precisions.get(nodeid) or super()._split_scope(nodeid)


class Controller:
    """In the process that hands the tests out: gives each worker its file."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tt-harness-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a worker where to leave the precisions of its tests."""
        node.workerinput[PRECISIONS] = str(Path(self._folder.name) / f"{node.gateway.id}.json")

    def pytest_unconfigure(self) -> None:
        """Removes the files."""
        self._folder.cleanup()


class Worker:
    """In the worker: leaves the precisions of the tests it collected."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @pytest.hookimpl(tryfirst=True)  # before pytest-xdist tells the controller that the tests are collected
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Writes the file."""
        precisions = {
            item.nodeid: precision for item in session.items if (precision := precision_of(item)) is not None
        }
        self._file.write_text(json.dumps(precisions), encoding="utf-8")


def precision_of(item: pytest.Item) -> str | None:
    """The precision that a test runs under; None where it asks for none."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("tt_precision") if callspec is not None else None


def without_group(nodeid: str) -> str:
    """A test's own name, without the "@" and the group that pytest-xdist writes behind it with an older pytest."""
    name, at, group = nodeid.rpartition("@")
    is_group = at and "]" not in group and "::" not in group  # else the "@" is a parameter's or a folder's
    return name if is_group else nodeid
