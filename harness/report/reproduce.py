"""The one command that measures a record again."""

from __future__ import annotations

import shlex

from harness.results.schema import REFERENCE_TARGET, Environment, Record
from harness.run.options import Options
from harness.targets import TARGETS

ARGUMENTS = "arguments"  # in the details of a record that lm-eval measured: lm-eval's own
_DEFAULTS = Options()


def command(record: Record, environment: Environment) -> str:
    """`pytest` with the record's test and every option that is not the default, or `tt-harness lm-eval` where that measured it.

    From the folder of the run's own start.
    """
    if ARGUMENTS in record.details:
        return _lm_eval(record, environment)
    target = environment.target if record.target == REFERENCE_TARGET else record.target
    precision = record.precision if f"[{record.precision}" in record.test else _DEFAULTS.precisions[0]
    options = {
        "--tt-target": (target, _DEFAULTS.target),
        "--tt-mesh": (record.mesh, _DEFAULTS.mesh),
        "--tt-model": (environment.model, _DEFAULTS.model),
        "--tt-precision": (precision, _DEFAULTS.precisions[0]),
        "--tt-emulator-mode": (environment.emulator_mode, None),
    }
    if record.target in TARGETS and not TARGETS[record.target].modes:
        del options["--tt-emulator-mode"]
    arguments = [
        f"{name}={value}" for name, (value, default) in options.items() if value not in (None, default)
    ]
    return shlex.join(["pytest", record.test, *arguments])


def _lm_eval(record: Record, environment: Environment) -> str:
    """`tt-harness lm-eval` with lm-eval's arguments and the precision of the record."""
    options = {
        "--model": environment.model,
        "--target": record.target,
        "--mesh": record.mesh,
        "--precision": record.precision,
        "--emulator-mode": environment.emulator_mode,
    }
    arguments = [f"{name}={value}" for name, value in options.items() if value is not None]
    return shlex.join(["tt-harness", "lm-eval", *shlex.split(str(record.details[ARGUMENTS])), *arguments])
