"""The floors of the house: which package may import which, as pyproject's contracts say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("tt_llm", "goldens", "harness", "suites", "ci")
# One import a contract forbids: the file it is planted in, and the line.
PLANTED = {
    "tt_llm/config.py": "import goldens",
    "goldens/store.py": "import ttnn",
    "harness/metrics/tensors.py": "import harness.records",
    "harness/emulator/spec/types.py": "import tt_llm",
    "ci/policy.py": "import torch",
    "harness/emulator/arithmetic/formats.py": "import harness.emulator.runtime.tensor",
    "harness/emulator/runtime/tensor.py": "import harness.emulator.runtime.execution",
    "harness/emulator/ops/placement/memory.py": "import harness.emulator.ops.matmul.matmul",
}
# One that closes a circle in a room.
CIRCLE = ("harness/emulator/spec/geometry.py", "import harness.emulator.spec.memory_config")


def lint_imports(folder: Path) -> tuple[int, str]:
    """Exit status and output of import-linter over the packages in `folder`."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, " ".join((done.stdout + done.stderr).split())  # it breaks long lines


def test_every_contract_is_kept() -> None:
    """No package imports one above it."""
    status, output = lint_imports(ROOT)
    assert status == 0, output
    assert f"Contracts: {len(PLANTED) + 1} kept, 0 broken." in output


def test_every_contract_can_break(tmp_path: Path) -> None:
    """A forbidden import planted for each contract in a copy of the tree breaks each of them, and is named."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in (*PLANTED.items(), CIRCLE):
        with (tmp_path / file).open("a") as source:
            source.write(f"\n{line}\n")
    status, output = lint_imports(tmp_path)
    assert status == 1, output
    assert f"Contracts: 0 kept, {len(PLANTED) + 1} broken." in output
    for file, line in PLANTED.items():
        importer = file.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {line.removeprefix('import ')}" in output
    assert "No cycles are allowed in harness.emulator.spec." in output
