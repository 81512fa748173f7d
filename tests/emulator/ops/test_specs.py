"""What the real ttnn 0.81.1 answers to a call (shape, padded shape, dtype, layout, place, or a refusal), recorded in
specs/cases.json from ttnn on a mock N150 without kernels (graph capture, NO_DISPATCH); the emulator must answer the same."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.emulator import DeviceError, api

FOLDER = Path(__file__).parent / "specs"
CASES: dict[str, dict[str, str]] = json.loads((FOLDER / "cases.json").read_text())
# ttnn takes these and reads past what it was given; the emulator has no such memory to read and refuses.
STRICTER = {"rope cos short", "upd heads"}

_REAL = """
from harness.targets import activate
activate("dryrun")
import json, sys
import torch
import ttnn
setup, cases = open(sys.argv[1]).read(), json.load(open(sys.argv[2]))
names = {"ttnn": ttnn, "torch": torch, "device": ttnn.open_mesh_device(ttnn.MeshShape(1, 1))}
exec(setup, names)
outcomes = {}
for name, case in cases.items():
    ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NO_DISPATCH)
    try:
        outcomes[name] = names["describe"](eval(case["call"], names))
    except Exception:
        outcomes[name] = "refused"
    ttnn.graph.end_graph_capture()
json.dump(outcomes, open(sys.argv[3], "w"))
"""


@cache
def names() -> dict[str, Any]:
    scope: dict[str, Any] = {"ttnn": api, "torch": torch, "device": api.open_mesh_device(api.MeshShape(1, 1))}
    exec((FOLDER / "setup.py").read_text(), scope)
    return scope


@pytest.mark.parametrize("name", CASES)
def test_emulator_answers_as_recorded_from_ttnn(name: str) -> None:
    """The result's spec, or the refusal, is the one recorded from the real ttnn."""
    scope, case = names(), CASES[name]
    if case["outcome"] == "refused" or name in STRICTER:
        with pytest.raises((DeviceError, TypeError), match=r"^ttnn\.[a-z_.0-9A-Z]+: [^\n]+$"):
            eval(case["call"], scope)
    else:
        assert scope["describe"](eval(case["call"], scope)) == case["outcome"]


def test_the_record_is_what_the_installed_ttnn_answers(tmp_path: Path) -> None:
    """Every recorded outcome is what the installed ttnn gives today."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed: compared with recorded outcomes only")
    outcomes = tmp_path / "outcomes.json"
    arguments = [str(FOLDER / "setup.py"), str(FOLDER / "cases.json"), str(outcomes)]
    done = subprocess.run(
        [sys.executable, "-c", _REAL, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(outcomes.read_text()) == {name: case["outcome"] for name, case in CASES.items()}
