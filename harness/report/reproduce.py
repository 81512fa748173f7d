"""The one command that measures a record again."""

from __future__ import annotations

import shlex

from harness.options import Options
from harness.records import Environment, Record
from harness.report.tables import REFERENCE_TARGET

_DEFAULTS = Options()


def command(record: Record, environment: Environment) -> str:
    """`pytest` with the record's test and every option that is not the default. From the folder of the run's own start."""
    target = environment.target if record.target == REFERENCE_TARGET else record.target
    precision = record.precision if f"[{record.precision}" in record.test else _DEFAULTS.precisions[0]
    options = {
        "--tt-target": (target, _DEFAULTS.target),
        "--tt-mesh": (record.mesh, _DEFAULTS.mesh),
        "--tt-model": (environment.model, _DEFAULTS.model),
        "--tt-precision": (precision, _DEFAULTS.precisions[0]),
        "--tt-emulator-mode": (environment.emulator_mode, None),
    }
    if record.target not in ("emulator", REFERENCE_TARGET):
        del options["--tt-emulator-mode"]
    given = [f"{name}={value}" for name, (value, default) in options.items() if value not in (None, default)]
    return shlex.join(["pytest", record.test, *given])
