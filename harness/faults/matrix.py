"""The kill matrix: every fault planted in turn, and which suites see it.

Each fault runs in a process of its own, forked from one that has a target in place and everything imported: what a fault
patches dies with its process. Those are forked in turn, one a mesh, from a process that has no target yet.
"""

from __future__ import annotations

import gc
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

from harness import project_folder
from harness.errors import UserError
from harness.faults.planting import Fault
from harness.faults.probe import Kill, Probe

# What a fault must be seen by: the suites that `tt-harness run` takes by default (QUICK), and for several devices their own.
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
    """Runs the suites without a fault once for each mesh and precision, then with each fault.

    Raises UserError where the suites do not run without a fault.
    """
    rows: list[Row] = []
    left_out: set[str] = set()
    for mesh in dict.fromkeys(fault.mesh for fault in faults):
        on_mesh = [fault for fault in faults if fault.mesh == mesh]
        report = _forked(partial(_on_one_mesh, mesh, on_mesh, setup, say)) or {
            "error": "its process ended badly"
        }
        if "error" in report:
            raise UserError(f"faults on mesh {mesh}: {report['error']}")
        left_out |= set(report["left_out"])
        for fault, row in zip(on_mesh, report["rows"], strict=True):
            kills = {suite: Kill(**kill) for suite, kill in row["kills"].items()}
            rows.append(Row(fault, _suites_of(setup, mesh), kills, tuple(row["raised"]), row["seconds"]))
    return Matrix(tuple(rows), tuple(sorted(left_out)))


def _on_one_mesh(
    mesh: str, faults: Sequence[Fault], setup: Setup, say: Callable[[str], None]
) -> dict[str, Any]:
    """In a process of its own: puts the target in place, imports what is slow, and forks for each fault."""
    from harness.targets import activate

    activate("emulator", mesh=mesh, mode=setup.emulator_mode)
    import transformers.models.llama.modeling_llama  # noqa: F401 - once here, so that no fork has to

    import harness.plugin.run_hooks  # noqa: F401 - likewise, with the model's code and the suites' tools

    gc.freeze()  # what is here stays, in every fork: none has to walk it

    left_out: dict[str, frozenset[str]] = {}
    for precision in dict.fromkeys(fault.precision for fault in faults):
        start = time.monotonic()
        healthy = _forked(partial(_suites, setup, mesh, precision, None, Probe(early=False)), quiet=True)
        if healthy is None or not healthy["finished"]:
            reason = healthy["raised"][-1] if healthy else "the process ended badly"
            return {"error": f"under {precision} the suites do not run without one: {reason}"}
        left_out[precision] = frozenset(healthy["red"])
        tests, red, seconds = sum(healthy["tests"].values()), len(healthy["red"]), time.monotonic() - start
        say(f"no fault, {mesh} {precision}: {red} of {tests} tests red, {seconds:.0f} s")
    rows = []
    for number, fault in enumerate(faults, 1):
        start = time.monotonic()
        probe = Probe(early=True, leave_out=left_out[fault.precision])
        row = _forked(partial(_suites, setup, mesh, fault.precision, fault.name, probe), quiet=True)
        row = row or {"kills": {}, "raised": ["its process ended badly"]}
        row["seconds"] = time.monotonic() - start
        rows.append(row)
        kills = ", ".join(f"{suite}: {kill['metric']}" for suite, kill in row["kills"].items())
        say(f"{mesh} {number}/{len(faults)} {fault.name}: {kills or 'SURVIVES'}, {row['seconds']:.0f} s")
    return {"rows": rows, "left_out": sorted(frozenset().union(*left_out.values()))}


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

    report = _forked(make, quiet=True) or {
        "error": f"model {model!r}: its first {layers} layers could not be taken"
    }
    if "error" in report:
        raise UserError(report["error"])
    return str(report["folder"])


def _suites_of(setup: Setup, mesh: str) -> tuple[str, ...]:
    return setup.suites if mesh == "1x1" else (*setup.suites, MESH_SUITE)


def _suites(setup: Setup, mesh: str, precision: str, fault: str | None, probe: Probe) -> dict[str, Any]:
    """In a process of its own: runs the suites and returns what the probe saw."""
    import pytest

    # Others' plugins cost more to import than a fault to find
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    root = project_folder("suites")
    arguments = [
        *(str(root / suite) for suite in _suites_of(setup, mesh)),
        *("-q", "--tb=no", "--no-header", "-rN", "-p", "no:cacheprovider", "-m", "not slow"),
        *("-p", "harness.plugin.hooks", "-p", "no:unraisableexception", "--assert=plain"),
        f"--tt-model={setup.model}",
        f"--tt-mesh={mesh}",
        f"--tt-precision={precision}",
        f"--tt-emulator-mode={setup.emulator_mode}",
        *([f"--tt-goldens={setup.goldens}"] if setup.goldens else []),
        *(["--tt-strict"] if mesh != "1x1" else []),
        *(["-p", "harness.faults", f"--tt-fault={fault}"] if fault else ["--tt-update-goldens"]),
    ]
    status = pytest.main(arguments, plugins=[probe])
    finished = status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if not finished:
        probe.raised.append(f"pytest ended with status {int(status)}")
    kills = {suite: asdict(kill) for suite, kill in probe.kills.items()}
    return {
        "finished": finished,
        "kills": kills,
        "red": probe.red,
        "raised": probe.raised,
        "tests": probe.tests,
    }


def _forked(run: Callable[[], dict[str, Any]], quiet: bool = False) -> dict[str, Any] | None:
    """What `run` returns in a forked process; None where that ended without returning. `quiet`: its output goes to no one."""
    with tempfile.NamedTemporaryFile("r+", suffix=".json") as answer:
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            if quiet:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.dup2(nowhere, 2)
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
