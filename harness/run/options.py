"""The command-line options of the pytest plugin, read once into one value."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import UserError
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
    def from_namespace(cls, namespace: argparse.Namespace) -> Options:
        """Raises UserError for values that contradict each other or name nothing."""
        if namespace.tt_time_limit <= 0:
            raise UserError(f"--tt-time-limit {namespace.tt_time_limit:g}: must be more than 0 seconds")
        precisions = tuple(name.strip() for name in namespace.tt_precision.split(","))
        if len(set(precisions)) != len(precisions):
            raise UserError(f"--tt-precision {','.join(precisions)}: names one twice")
        if namespace.tt_resume and not namespace.tt_results:
            raise UserError(
                "--tt-resume: needs --tt-results, beside which the journal of the earlier run lies"
            )
        return cls(
            target=namespace.tt_target,
            mesh=namespace.tt_mesh,
            model=namespace.tt_model or DEFAULT_MODEL,
            model_given=namespace.tt_model is not None,
            precisions=precisions,
            results=Path(namespace.tt_results) if namespace.tt_results else None,
            goldens=namespace.tt_goldens,
            update_goldens=namespace.tt_update_goldens,
            corpus=Path(namespace.tt_corpus) if namespace.tt_corpus else None,
            baselines=Path(namespace.tt_baselines) if namespace.tt_baselines else None,
            update_baselines=namespace.tt_update_baselines,
            strict=namespace.tt_strict,
            time_limit=namespace.tt_time_limit,
            emulator_mode=namespace.tt_emulator_mode,
            data_parallel=namespace.tt_data_parallel,
            resume=namespace.tt_resume,
        )


def add_options(parser: pytest.Parser) -> None:
    """Registers the `--tt-*` options."""
    group = parser.getgroup("tt-harness", "accuracy and regression harness for LLMs on TT-NN")
    group.addoption(
        "--tt-target",
        default=DEFAULT_TARGET,
        metavar="T",
        help=f"what answers `import ttnn`: {', '.join(TARGETS)}",
    )
    group.addoption("--tt-mesh", default="1x1", metavar="RxC", help="mesh shape, rows x columns")
    group.addoption("--tt-model", metavar="M", help="smollm2 (the default), a folder, or a Hugging Face id")
    group.addoption(
        "--tt-precision",
        default="accuracy",
        metavar="P[,P]",
        help="precisions, comma-separated: accuracy, performance, bfp4_mlp",
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
        default=2,
        help="groups with users of their own that suites/devices cuts the mesh into (default: %(default)s)",
    )
    group.addoption(
        "--tt-emulator-mode",
        metavar="MODE",
        help=f"how closely the emulator computes: fast, device, exact (default: {DEFAULT_MODE})",
    )
    group.addoption(
        "--tt-time-limit",
        type=float,
        default=600,
        metavar="S",
        help="seconds a test may take, its fixtures included, where tests run in a worker process (default: 600)",
    )
