"""Baselines of exact counters: one JSON file for a model, mesh and precision, in a folder that is under version control."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import project_folder
from harness.errors import UserError
from harness.results.schema import write_text_atomically
from harness.run.options import Options
from harness.timing.counters import Counts

Modules = dict[str, Counts]
SCHEMA = 1


class BaselineError(UserError):
    """A baseline file that cannot be read; the message is one line that names it."""


@dataclass(frozen=True)
class Baselines:
    """The baselines of one model, mesh and precision. `folder`: where the files lie."""

    folder: Path
    model: str
    mesh: str
    precision: str

    @classmethod
    def of_run(cls, options: Options, precision: str) -> Baselines:
        """Those of a run's model and mesh, in the folder it names, or among those that come with the harness."""
        folder = options.baselines or project_folder("ci") / "baselines" / "counters"
        return cls(folder, Path(options.model).name, options.mesh, precision)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.model}-{self.mesh}-{self.precision}.json"

    def get(self, phase: str) -> Modules | None:
        """The counters of a phase ("decode B32 S128") by module, None where there is no baseline.

        Raises BaselineError for a file that is not one.
        """
        phases = self._read()["phases"]
        if phase not in phases:
            return None
        modules: Modules = {}
        for module, counts in phases[phase].items():
            modules[module] = Counts()
            modules[module].values.update(counts["values"])
            modules[module].by_op.update(counts["by_op"])
        return modules

    def made_with(self) -> str:
        """The version of ttnn the baselines were made with."""
        return str(self._read()["ttnn"])

    @staticmethod
    def installed() -> str:
        """The version of ttnn that is installed here."""
        return importlib.metadata.version("ttnn")

    def put(self, phase: str, modules: Modules) -> None:
        """Makes these counters the baseline of a phase; the file is replaced whole."""
        content = self._read()
        content["ttnn"] = self.installed()
        content["phases"][phase] = {
            name: {"values": dict(counts.values), "by_op": dict(sorted(counts.by_op.items()))}
            for name, counts in sorted(modules.items())
        }
        write_text_atomically(self.path, json.dumps(content, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"schema": SCHEMA, "ttnn": "", "phases": {}}
        except (OSError, ValueError) as error:
            raise BaselineError(f"baseline {self.path} cannot be read: {error}") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA or "phases" not in content:
            raise BaselineError(f"baseline {self.path} is not one of schema {SCHEMA}")
        return content
