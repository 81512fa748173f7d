"""The kill matrix: every fault planted in turn, and which suites see it.

Each fault runs in a process of its own, forked from one that has imported the slow libraries and nothing of the model: a
fork has no target in place yet, and what a fault patches dies with it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.faults.planting import Fault
from harness.faults.probe import Kill, Probe

# What a fault must be seen by: the suites that `tt-harness run` takes by default, and for several devices their own.
DEFAULT_SUITES = ("modules", "model", "metamorphic", "accuracy")
MESH_SUITE = "devices"
MODULE_SUITE = "modules"
# Where a fault must be seen by a module's own tests: what suites/modules has a file for. A whole model or a cache has none.
MODULES = (
    "embedding",
    "rope",
    "attention_norm",
    "attention",
    "mlp_norm",
    "mlp",
    "decoder",
    "final_norm",
    "lm_head",
)


@dataclass(frozen=True)
class Setup:
    """What the suites run on."""

    model: str
    goldens: str | None
    emulator_mode: str
    suites: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A fault and what saw it. `raised`: exceptions that were no verdict; `seconds` of wall time."""

    fault: Fault
    suites: tuple[str, ...]
    kills: dict[str, Kill]
    raised: tuple[str, ...]
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether any suite saw it."""
        return bool(self.kills)

    @property
    def missed_by_its_module(self) -> bool:
        """Whether it lies in a module whose own tests do not see it."""
        ran = MODULE_SUITE in self.suites
        return ran and self.fault.module in MODULES and MODULE_SUITE not in self.kills


@dataclass(frozen=True)
class Matrix:
    """All rows, and the tests that were red without a fault and so were left out."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]

    @property
    def holes(self) -> list[Row]:
        """Faults that no suite saw, or not their module's."""
        return [row for row in self.rows if not row.killed or row.missed_by_its_module]


def run_matrix(faults: Sequence[Fault], setup: Setup, say: Callable[[str], None]) -> Matrix:
    """Runs the suites without a fault once for each mesh and policy, then with each fault.

    Raises UserError where the suites do not run without a fault.
    """
    _import_slow_libraries()
    left_out: dict[tuple[str, str], frozenset[str]] = {}
    for at in dict.fromkeys((fault.mesh, fault.precision) for fault in faults):
        start = time.monotonic()
        healthy = _forked(partial(_suites, setup, *at, None, Probe(early=False)))
        if healthy is None or healthy["raised"]:
            reason = healthy["raised"][0] if healthy else "the run ended badly"
            raise UserError(f"the suites do not run without a fault on {at[0]} under {at[1]}: {reason}")
        left_out[at] = frozenset(healthy["red"])
        tests = sum(healthy["tests"].values())
        say(
            f"no fault, {at[0]} {at[1]}: {len(healthy['red'])} of {tests} tests red, {time.monotonic() - start:.0f} s"
        )
    rows = []
    for number, fault in enumerate(faults, 1):
        start = time.monotonic()
        at = fault.mesh, fault.precision
        probe = Probe(early=True, leave_out=left_out[at])
        found = _forked(partial(_suites, setup, *at, fault.name, probe))
        kills = {suite: Kill(**kill) for suite, kill in found["kills"].items()} if found else {}
        raised = tuple(found["raised"]) if found else ("the process ended badly",)
        row = Row(fault, _suites_of(setup, fault.mesh), kills, raised, time.monotonic() - start)
        rows.append(row)
        seen = ", ".join(f"{suite}: {kill.metric}" for suite, kill in kills.items()) or "SURVIVES"
        say(f"{number}/{len(faults)} {fault.name}: {seen}, {row.seconds:.0f} s")
    return Matrix(tuple(rows), tuple(sorted(frozenset().union(*left_out.values()))))


def prepared_model(model: str, layers: int | None) -> str:
    """The model, or a folder of its first layers. Raises UserError, one line."""
    if layers is None:
        return model

    def make() -> dict[str, str]:
        from harness.targets import activate

        activate("emulator", mode="fast")
        from harness.faults.truncated import truncated
        from tt_llm import InputError
        from tt_llm.checkpoint import locate

        try:
            return {"folder": str(truncated(locate(model), layers))}
        except InputError as error:
            return {"error": str(error)}

    made = _forked(make) or {"error": f"model {model!r}: its first {layers} layers could not be taken"}
    if "error" in made:
        raise UserError(made["error"])
    return str(made["folder"])


def _suites_of(setup: Setup, mesh: str) -> tuple[str, ...]:
    return setup.suites if mesh == "1x1" else (*setup.suites, MESH_SUITE)


def _suites(setup: Setup, mesh: str, precision: str, fault: str | None, probe: Probe) -> dict[str, Any]:
    """In a process of its own: runs the suites and returns what the probe saw."""
    import pytest

    import suites

    root = Path(suites.__path__[0])
    arguments = [
        *(str(root / suite) for suite in _suites_of(setup, mesh)),
        *("-q", "--tb=no", "--no-header", "-rN", "-p", "no:cacheprovider", "-m", "not slow"),
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
        f"--tt-model={setup.model}",
        f"--tt-mesh={mesh}",
        f"--tt-precision={precision}",
        f"--tt-emulator-mode={setup.emulator_mode}",
        *([f"--tt-goldens={setup.goldens}"] if setup.goldens else []),
        *(["--tt-strict"] if mesh != "1x1" else []),
        *(["-p", "harness.faults", f"--tt-fault={fault}"] if fault else ["--tt-update-goldens"]),
    ]
    status = pytest.main(arguments, plugins=[probe])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        probe.raised.append(f"pytest ended with status {int(status)}")
    found = asdict(probe)
    found["leave_out"] = []
    return found


def _import_slow_libraries() -> None:
    import torch  # noqa: F401 - so that no fork has to
    import transformers.models.llama.modeling_llama  # noqa: F401 - likewise


def _forked(run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What `run` returns in a forked process; None where that ended without returning. Its output goes to no one."""
    with tempfile.NamedTemporaryFile("r+", suffix=".json") as answer:
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            try:
                result = run()
                Path(answer.name).write_text(json.dumps(result), encoding="utf-8")
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.waitpid(process, 0)
        text = Path(answer.name).read_text(encoding="utf-8")
    loaded: dict[str, Any] | None = json.loads(text) if text else None
    return loaded
