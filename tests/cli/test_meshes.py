"""One command, several meshes: one report, and a mesh that cannot be run is no pass."""

from __future__ import annotations

import json
from pathlib import Path


def test_several_meshes_are_one_report(start, model: Path, store: Path, tmp_path: Path) -> None:
    """Each mesh runs in a process of its own; the joined records know their mesh, and the table shows both."""
    options = ("--suite", "modules", "--model", str(model), "--goldens", str(store), "--out", "out")
    result = start("tt-harness", "run", "--mesh", "1x1,1x2", *options)
    assert result.status == 0, result
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {record["mesh"] for record in results["records"]} == {"1x1", "1x2"}
    assert results["environment"]["mesh"] == "1x1,1x2"
    assert "By device count" in result.out
    assert (tmp_path / "out" / "report.html").exists()
    alone = [json.loads((tmp_path / "out" / mesh / "results.json").read_text()) for mesh in ("1x1", "1x2")]
    assert sum(len(part["records"]) for part in alone) == len(results["records"])

    result = start("tt-harness", "run", "--mesh", "1x1,3x5", *options)
    assert result.status == 2
    assert "mesh 3x5" in result.out + result.err
    assert not (tmp_path / "out" / "results.json").exists(), "no half of a run looks whole"


def test_a_mesh_named_twice_is_refused(start) -> None:
    """One line, before anything runs."""
    result = start("tt-harness", "run", "--mesh", "1x2,1x2")
    assert result.fault.startswith("error: mesh '1x2,1x2': names a shape twice")
