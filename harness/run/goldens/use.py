"""Which goldens the suites need, and which of a store's nobody does."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import pytest

from goldens import GoldenSpec
from harness import project_folder
from harness.errors import UserError
from harness.run.goldens.marks import FIXTURE

if TYPE_CHECKING:
    from harness.run.session import Session  # at run time only after a target is in place

Use = Literal["needed", "stale", "unused"]


class _Collector:
    """A plugin that keeps the goldens of the tests collected."""

    def __init__(self) -> None:
        self.specs: list[GoldenSpec] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            callspec = getattr(item, "callspec", None)
            if callspec is not None and FIXTURE in callspec.params:
                self.specs.append(callspec.params[FIXTURE])


def suites_goldens(model: str) -> list[GoldenSpec]:
    """The goldens that the tests of `suites` name, each once, slow tests included. Raises UserError if they do not load."""
    collector = _Collector()
    said = io.StringIO()
    arguments = [str(project_folder("suites")), "--collect-only", "-q", f"--tt-model={model}"]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*arguments, "-p", "no:cacheprovider"], plugins=[collector])
    if status != pytest.ExitCode.OK:
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        raise UserError(f"the suites cannot be collected: {lines[-1] if lines else f'status {status}'}")
    return list(dict.fromkeys(collector.specs))


def uses(session: Session, specs: Iterable[GoldenSpec]) -> Sequence[tuple[str, str, Use]]:
    """Name, key and use of every stored golden: "stale" is one that `specs` name, made for other weights or another text."""
    keys = {spec.name: session.golden_key(spec) for spec in specs}
    found: list[tuple[str, str, Use]] = []
    for name, key in session.store.list():
        use: Use = "unused" if name not in keys else "needed" if keys[name] == key else "stale"
        found.append((name, key, use))
    return found
