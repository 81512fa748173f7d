"""The plugin in runs of people who have it installed and did not ask for it, and what counts as asking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "transformers",
    "scipy",
    "pydantic",
    "rich",
    "ttnn",
    "harness.emulator",
    "tt_llm",
    "goldens",
)
OTHERS = f"""
import sys
import pytest

@pytest.fixture
def compare():
    return "mine"

@pytest.fixture
def recorder(compare):
    return compare

def test_own_fixtures(recorder):
    assert recorder == "mine"

def test_nothing_is_imported(pytestconfig):
    assert not [name for name in {HEAVY} if name in sys.modules]
    assert not [line for line in pytestconfig.getini("markers") if line.startswith(("slow", "devices"))]
"""
ASKING = """
import ttnn
import pytest

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_mlp(tt_module, tt_golden, tt_compare):
    assert ttnn.__name__ == "harness.emulator.api"
    tt_compare(tt_module(tt_golden.inputs), tt_golden.output)
"""


def test_a_run_that_does_not_ask_pays_nothing(tmp_path: Path) -> None:
    """Nothing heavy is imported, `ttnn` is nobody's, no marker is added, and fixtures of the same names are the user's own."""
    (tmp_path / "test_theirs.py").write_text(OTHERS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "harness.plugin.hooks"]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # other plugins import what they like
    result = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result
    assert "2 passed" in result.stdout
    assert "tt-harness" not in result.stdout


@pytest.mark.parametrize("settings", [None, '[tool.tt-harness]\nmesh = "1x2"\nprecision = "performance"\n'])
def test_a_marker_or_a_setting_asks(
    start, tmp_path: Path, model: Path, store: Path, monkeypatch, settings: str | None
) -> None:
    """Without an option: the target is in place before the test file imports ttnn, and the run says which it is."""
    mesh, precision = ("1x2", "performance") if settings else ("1x1", "accuracy")
    (tmp_path / "pyproject.toml").write_text(
        (settings or "[tool.tt-harness]\n") + f"model = '{model}'\ngoldens = '{store}'\n"
    )
    (tmp_path / "test_mine.py").write_text(ASKING)
    result = start("pytest", "-p", "no:cacheprovider")
    assert result.status == 0, result
    assert f"target emulator, mode device, mesh {mesh}, precision {precision}" in result.out


def test_a_marker_asks_where_nothing_else_does(start, tmp_path: Path) -> None:
    """The default target, told once while tests are collected."""
    (tmp_path / "test_mine.py").write_text(ASKING)
    result = start("pytest", "-p", "no:cacheprovider", "--collect-only")
    assert result.status == 0, result
    assert result.out.count("tt-harness: target emulator, mode device, mesh 1x1, precision accuracy") == 1


def test_a_users_fixture_takes_the_place_of_a_short_name(judge) -> None:
    """`compare` is theirs, `tt_compare` still ours."""
    own = """
import pytest

@pytest.fixture
def compare():
    return "mine"

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_mlp(tt_module, golden, compare, tt_compare):
    assert compare == "mine"
    tt_compare(tt_module(golden.inputs), golden.output)
"""
    result = judge(own)
    assert result.status == 0, result
    assert {record["verdict"] for record in result.records} == {"pass"}


def test_asking_too_late_is_one_line(start, tmp_path: Path) -> None:
    """Where a conftest has imported a ttnn, or tests run in several processes, the target has to be named."""
    (tmp_path / "test_mine.py").write_text(ASKING)
    result = start("pytest", "-p", "no:cacheprovider", "-n", "2")
    assert result.status != 0, result  # xdist makes a collection error 1
    assert "in a run of several processes: name the target, such as --tt-target emulator" in result.out
    (tmp_path / "conftest.py").write_text(
        "import sys, types\nsys.modules['ttnn'] = types.ModuleType('ttnn')\n"
    )
    result = start("pytest", "-p", "no:cacheprovider")
    assert result.status == 2, result
    assert "after ttnn was imported: name the target, such as --tt-target emulator" in result.out


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("mseh = '1x2'", "has 'mseh'; it may have target, mesh,"),
        ("mesh = 12", "mesh = 12, it must be str"),
        ("strict = 1", "strict = 1, it must be bool"),
        ("data-parallel = true", "data-parallel = True, it must be int"),
    ],
)
def test_a_setting_that_means_nothing_is_one_line(start, tmp_path: Path, table: str, message: str) -> None:
    """It names the file, the setting, its value and what would be right."""
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[tool.tt-harness]\n{table}\n")
    fault = start("pytest").fault
    assert fault.startswith(f"error: {path}: ")
    assert message in fault


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--tt-time-limit=0", "must be more than 0 seconds"),
        ("--tt-time-limit=nan", "must be more than 0 seconds"),
        ("--tt-data-parallel=0", "must be at least 1 group"),
        ("--tt-model=", "--tt-model names nothing"),
        ("--tt-results=", "--tt-results names nothing"),
    ],
)
def test_an_option_that_means_nothing_is_one_line(start, option: str, message: str) -> None:
    assert message in start("pytest", option).fault
