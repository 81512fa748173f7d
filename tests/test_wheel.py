"""What an installed wheel holds: every file of the packages, and no top-level name that a user's own folder may have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.results.schema import Environment, Record, write_results

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
TT_HARNESS = "import sys; sys.path.insert(0, sys.argv.pop(1)); from harness.cli.app import app; app()"
# Folder or file of the wheel: of the checkout.
CARRIED = {
    "harness/suites/": "suites/",
    "harness/ci/": "ci/",
    "tt_harness_target.pth": "harness/targets/tt_harness_target.pth",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is unpacked in, which is what installing it does."""
    folder = tmp_path_factory.mktemp("wheel")
    process = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    with zipfile.ZipFile(folder / process.stdout.strip().splitlines()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_no_top_level_name_but_the_packages(installed: Path) -> None:
    """A user's own folder `ci` or `suites` neither hides a part of the harness nor is hidden."""
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names == {"harness", "tt_llm", "goldens", "tt_harness_target.pth"}


def test_installed_it_answers_import_ttnn_where_the_environment_names_a_target(
    installed: Path, tmp_path: Path
) -> None:
    """In any process, with no line of code; where nothing is named, Python starts as if it were not there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    packages = tmp_path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    shutil.copytree(installed, packages, dirs_exist_ok=True)
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "of_the_tests.pth").write_text("\n".join(theirs))

    def python(code: str, **environment: str) -> str:
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(tmp_path / "bin" / "python"), "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env={**outside, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    where = "import ttnn; from harness.targets import active; print(ttnn.__file__, active().mode)"
    assert (
        python(where, TT_HARNESS_TARGET="emulator mode=exact")
        == f"{packages / 'harness' / 'emulator' / 'api.py'} exact"
    )
    untouched = "import sys; print([n for n in sys.modules if n.startswith('harness')], len(sys.meta_path))"
    assert python(untouched) == "[] 3"


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    """Data files too; of `ci` those that the gate reads."""
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    for inside, outside in CARRIED.items():
        files = {name.replace(inside, outside, 1) if name.startswith(inside) else name for name in files}
    tracked = subprocess.run(
        ["git", "ls-files", "harness", "tt_llm", "goldens", "suites", "ci/policy.yaml", "ci/baselines"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert tracked
    assert set(tracked) <= files


def test_installed_it_finds_policy_baselines_and_suites(installed: Path, tmp_path: Path) -> None:
    """Where a user's project has folders of the same names."""
    for name in ("ci", "suites"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the user')")
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
from harness import project_folder
from harness.gates.policy import Policy
rules = Policy.load()
print(json.dumps([str(project_folder("suites")), str(project_folder("ci")), len(rules.gates)]))
"""
    process = subprocess.run(
        [sys.executable, "-c", code, str(installed)], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    suites, ci, gates = json.loads(process.stdout)
    assert Path(suites) == installed / "harness" / "suites"
    assert (Path(suites) / "accuracy" / "test_text.py").exists()
    assert any((Path(ci) / "baselines" / "counters").glob("smollm2-1x1-*.json"))
    assert gates > 0


def test_the_gate_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """The command as a user's CI calls it: figures become a baseline, and pass against it and the packaged policy."""
    record = Record(
        test="suites/modules/test_mlp.py::test_prefill",
        module="mlp",
        metric="pcc",
        value=0.9999,
        verdict="pass",
        target="emulator",
        precision="accuracy",
        gate=0.999,
        direction="higher",
    )
    results = tmp_path / "results.json"
    environment = Environment.collect(target="emulator", mesh="1x1", model="smollm2", emulator_mode="fast")
    write_results(results, environment, [record])
    for arguments, output in (
        (["baseline", "update", "results.json", "--reason", "the first"], "0 changed, 1 new"),
        (["gate", "results.json"], "GATE: pass"),
    ):
        command = [sys.executable, "-c", TT_HARNESS, str(installed), *arguments, "--baseline=baseline.json"]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == 0, process
        assert output in process.stdout
