"""Runs that a gate is asked about: their records, their files, and the command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from harness.cli.app import app
from harness.results.schema import Environment, Record, write_results

ENVIRONMENT = Environment(
    python="3.12",
    platform="Linux",
    cpu_count=2,
    cpu_model="some CPU",
    versions={},
    target="emulator",
    mesh="1x1",
    model="smollm2",
    weights_digest="abc",
    emulator_mode="fast",
    commit="0123",
    goldens="def",
)
MLP = "suites/modules/test_mlp.py::test_prefill[accuracy-mlp.layer0.prefill.S128.B1]"
NORM = "suites/modules/test_norm.py::test_prefill[accuracy-norm.layer0.prefill.S128.B1]"
COUNTED = "suites/counters/test_passes.py::test_decode[accuracy]"


def record(test: str = MLP, metric: str = "pcc", value: float | None = 0.9999, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "module": "mlp",
        "layer": 0,
        "phase": "prefill",
        "seq_len": 128,
        "gate": 0.999,
        "direction": "higher",
        "verdict": "pass",
        "target": "emulator",
        "precision": "accuracy",
    }
    return Record(test=test, metric=metric, value=value, **fields | changes)


def counter(value: float = 7, **by_op: float) -> Record:
    """A counter as CounterGate files it."""
    return record(COUNTED, "ops", value, module="attention", gate=7.0, direction=None, details=by_op)


RECORDS = (record(), record(NORM, module="norm"), counter(Matmul=5.0, SDPA=2.0))


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    text: str


def command(*arguments: object) -> Said:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, result.output)


def results(path: Path, records: Iterable[Record] = RECORDS, **changes: Any) -> Path:
    write_results(path, replace(ENVIRONMENT, **changes), list(records))
    return path
