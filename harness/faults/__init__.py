"""Mistakes people make in an LLM, to plant in `tt_llm` on purpose and see the suites turn red.

A pytest plugin of its own: `pytest suites -p harness.faults --tt-fault swap_rope_halves`. `tt-harness faults` plants each.
"""

from __future__ import annotations

import pytest

from harness.errors import USAGE_EXIT
from harness.faults.catalogue import FAMILY_FAULTS, SLOWDOWNS, TRACE_FAULTS
from harness.faults.planting import CATALOGUE, Fault

__all__ = ["CATALOGUE", "FAMILY_FAULTS", "FAULTS", "MESH_FAULTS", "SLOWDOWNS", "TRACE_FAULTS", "Fault"]

FAULTS: dict[str, Fault] = {name: fault for name, fault in CATALOGUE.items() if fault.mesh == "1x1"}
# These need several devices to go wrong.
MESH_FAULTS: dict[str, Fault] = {name: fault for name, fault in CATALOGUE.items() if fault.mesh != "1x1"}


def pytest_addoption(parser: pytest.Parser) -> None:
    names = ", ".join(CATALOGUE | FAMILY_FAULTS | SLOWDOWNS | TRACE_FAULTS)
    parser.getgroup("tt-harness").addoption("--tt-fault", metavar="NAME", help=f"plant one of: {names}")


def pytest_sessionstart(session: pytest.Session) -> None:
    name = session.config.getoption("tt_fault")
    if name is None:
        return
    faults = CATALOGUE | FAMILY_FAULTS | SLOWDOWNS | TRACE_FAULTS
    if name not in faults:
        pytest.exit(f"fault {name!r}: choose one of {', '.join(faults)}", returncode=USAGE_EXIT)
    patch = pytest.MonkeyPatch()
    faults[name](patch)
    session.config.add_cleanup(patch.undo)
