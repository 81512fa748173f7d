"""The fixture that checks a family, and the line that says with which seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata

import pytest

from tests.emulator.properties.judging import Emulator, Family, opened
from tests.emulator.properties.real import RealTtnn
from tests.emulator.properties.running import checked

EXAMPLES = int(os.environ.get("TT_PROPERTY_EXAMPLES") or 60)  # a family
# The same calls on every run, so that a push is red for what it changed; TT_PROPERTY_SEED=random draws others.
_ASKED = os.environ.get("TT_PROPERTY_SEED") or "1"
SEED = random.randrange(2**32) if _ASKED == "random" else int(_ASKED)


class Properties:
    """check(family): random calls of it until one differs, which fails the test with the smallest such call found."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._opened: dict[str, tuple[Emulator, RealTtnn]] = {}

    def check(self, family: Family) -> None:
        if family.mesh not in self._opened:
            self._opened[family.mesh] = self._stack.enter_context(opened(family.mesh))
        checked(family, EXAMPLES, SEED, *self._opened[family.mesh])


@pytest.fixture(scope="session")
def properties() -> Iterator[Properties]:
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: nothing to hold the emulator against")
    with ExitStack() as stack:
        yield Properties(stack)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"properties: TT_PROPERTY_SEED={SEED} TT_PROPERTY_EXAMPLES={EXAMPLES}")
