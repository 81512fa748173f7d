"""The command-line options of the pytest plugin, read once into one value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.run.settings import Value
from harness.targets import DEFAULT_TARGET, TARGETS
from harness.targets.emulator import DEFAULT_MODE

DEFAULT_MODEL = "smollm2"


@dataclass(frozen=True)
class Options:
    """What a session was asked to do."""

    target: str = DEFAULT_TARGET
    mesh: str = "1x1"
    model: str = DEFAULT_MODEL
    model_given: bool = False  # a default model may be absent where nothing asks for it, a named one may not
    precisions: tuple[str, ...] = ("accuracy",)
    results: Path | None = None
    goldens: str | None = None  # None: the default store
    update_goldens: bool = False
    corpus: Path | None = None
    strict: bool = False  # compare the devices wherever the model takes their tensors for one
    time_limit: float = 600  # seconds a test, in a worker process
    baselines: Path | None = None  # None: those that come with the harness
    update_baselines: bool = False
    device_map: str | None = None  # of accelerate, for the golden model; None: the CPU
    emulator_mode: str | None = None  # None: the default one, or no emulator
    data_parallel: int = 2  # groups that the suites cut a mesh into where they look at groups
    resume: bool = False  # go on with the run that the journal beside `results` is of

    @classmethod
    def of(cls, arguments: Mapping[str, Any], settings: Mapping[str, Value]) -> Options:
        """Of the `--tt-*` options, and of a project's settings where an option is not given.

        Raises UserError for values that contradict each other or name nothing.
        """
        values: dict[str, Any] = {name.replace("-", "_"): value for name, value in settings.items()}
        for name, value in arguments.items():
            if value is None or value is False:  # not given
                continue
            if value == "":
                raise UserError(f"--{name.replace('_', '-')} names nothing")
            values[name.removeprefix("tt_")] = value
        fields = {field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values}
        for name in ("results", "corpus", "baselines"):
            if name in fields:
                fields[name] = Path(fields[name])
        if "precision" in values:
            fields["precisions"] = tuple(name.strip() for name in values["precision"].split(","))
        options = cls(**fields, model_given="model" in values)
        if not 0 < options.time_limit < math.inf:
            raise UserError(f"--tt-time-limit {options.time_limit:g}: must be more than 0 seconds")
        if options.data_parallel < 1:
            raise UserError(f"--tt-data-parallel {options.data_parallel}: must be at least 1 group")
        if len(set(options.precisions)) != len(options.precisions):
            raise UserError(f"--tt-precision {','.join(options.precisions)}: names one twice")
        if options.resume and options.results is None:
            raise UserError(
                "--tt-resume: needs --tt-results, beside which the journal of the earlier run lies"
            )
        return options


def add_options(parser: pytest.Parser) -> None:
    """Registers the `--tt-*` options."""
    group = parser.getgroup("tt-harness", "accuracy and regression harness for LLMs on TT-NN")
    group.addoption(
        "--tt-target",
        metavar="T",
        help=f"what answers `import ttnn`: {', '.join(TARGETS)} (default: {DEFAULT_TARGET})",
    )
    group.addoption("--tt-mesh", metavar="RxC", help="mesh shape, rows x columns (default: 1x1)")
    group.addoption("--tt-model", metavar="M", help="smollm2 (the default), a folder, or a Hugging Face id")
    group.addoption(
        "--tt-precision",
        metavar="P[,P]",
        help="precisions, comma-separated: accuracy (the default), performance, bfp4_mlp",
    )
    group.addoption("--tt-results", metavar="FILE", help="write all records to this JSON file")
    group.addoption(
        "--tt-resume",
        action="store_true",
        help="leave out the tests that an earlier run of the same, cut short, wrote to the journal beside --tt-results",
    )
    group.addoption("--tt-goldens", metavar="URL", help="the golden store: a folder or any fsspec URL")
    group.addoption(
        "--tt-update-goldens", action="store_true", help="make missing or stale goldens before the tests run"
    )
    group.addoption(
        "--tt-corpus", metavar="FILE", help="reference text (default: CPython's language reference)"
    )
    group.addoption(
        "--tt-baselines", metavar="DIR", help="baselines of exact counters (default: the harness's own)"
    )
    group.addoption(
        "--tt-update-baselines", action="store_true", help="make the counters of this run the baseline"
    )
    group.addoption(
        "--tt-strict",
        action="store_true",
        help="compare the devices of a mesh wherever the model takes their tensors for one",
    )
    group.addoption(
        "--tt-data-parallel",
        metavar="N",
        type=int,
        help="groups with users of their own that suites/devices cuts the mesh into (default: 2)",
    )
    group.addoption(
        "--tt-emulator-mode",
        metavar="MODE",
        help=f"how closely the emulator computes: fast, device, exact (default: {DEFAULT_MODE})",
    )
    group.addoption(
        "--tt-time-limit",
        type=float,
        metavar="S",
        help="seconds a test may take, its fixtures included, where tests run in a worker process (default: 600)",
    )
