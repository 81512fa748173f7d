"""The command-line options of the pytest plugin, read once into one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import UserError

DEFAULT_MODEL = "smollm2"


@dataclass(frozen=True)
class Options:
    """What a session was asked to do."""

    target: str = "emulator"
    mesh: str = "1x1"
    model: str = DEFAULT_MODEL
    precisions: tuple[str, ...] = ("accuracy",)
    results: Path | None = None
    goldens: str | None = None  # None: the default store
    update_goldens: bool = False
    corpus: Path | None = None

    @classmethod
    def from_config(cls, config: pytest.Config) -> Options:
        """Raises UserError for values that contradict each other or name nothing."""
        precisions = tuple(name.strip() for name in config.getoption("tt_precision").split(","))
        if len(set(precisions)) != len(precisions):
            raise UserError(f"--tt-precision {','.join(precisions)}: names a policy twice")
        results, corpus = config.getoption("tt_results"), config.getoption("tt_corpus")
        return cls(
            target=config.getoption("tt_target"),
            mesh=config.getoption("tt_mesh"),
            model=config.getoption("tt_model"),
            precisions=precisions,
            results=Path(results) if results else None,
            goldens=config.getoption("tt_goldens"),
            update_goldens=config.getoption("tt_update_goldens"),
            corpus=Path(corpus) if corpus else None,
        )


def add_options(parser: pytest.Parser) -> None:
    """Registers the `--tt-*` options."""
    group = parser.getgroup("tt-harness", "accuracy and regression harness for LLMs on TT-NN")
    group.addoption(
        "--tt-target", default="emulator", metavar="T", help="what answers `import ttnn`: emulator"
    )
    group.addoption("--tt-mesh", default="1x1", metavar="RxC", help="mesh shape, rows x columns")
    group.addoption(
        "--tt-model", default=DEFAULT_MODEL, metavar="M", help="smollm2, a folder, or a Hugging Face id"
    )
    group.addoption(
        "--tt-precision",
        default="accuracy",
        metavar="P[,P]",
        help="precision policies, comma-separated: accuracy, performance, bfp4_mlp",
    )
    group.addoption("--tt-results", metavar="FILE", help="write all records to this JSON file")
    group.addoption("--tt-goldens", metavar="URL", help="the golden store: a folder or any fsspec URL")
    group.addoption(
        "--tt-update-goldens", action="store_true", help="make missing or stale goldens before the tests run"
    )
    group.addoption(
        "--tt-corpus", metavar="FILE", help="reference text (default: CPython's language reference)"
    )
