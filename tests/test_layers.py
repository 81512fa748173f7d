"""Which package may import which, as pyproject's contracts say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from importlinter.application.use_cases import read_user_options
from importlinter.configuration import configure

ROOT = Path(__file__).parents[1]
PACKAGES = ("tt_llm", "goldens", "harness", "suites")
# One import that each contract forbids: the file it is planted in, and the line.
PLANTED = {
    "tt_llm/config.py": "import goldens",
    "goldens/store.py": "import ttnn",
    "harness/metrics/tensors.py": "import tt_llm",
    "harness/emulator/spec/types.py": "import tt_llm",
    "harness/gates/policy.py": "import torch",
    "harness/run/session.py": "import harness.report.tables.accuracy",
    "harness/emulator/arithmetic/formats.py": "import harness.emulator.runtime.tensor",
    "harness/emulator/runtime/tensor.py": "import harness.emulator.runtime.execution",
    "harness/emulator/ops/placement/memory.py": "import harness.emulator.ops.matmul.matmul",
}
ROOMS = "the rooms of the harness lie in layers"
# One that closes a circle in a room.
CIRCLE = ("harness/emulator/spec/geometry.py", "import harness.emulator.spec.memory_config")


def lint_imports(folder: Path) -> tuple[int, str]:
    """Exit status and output of import-linter over the packages in `folder`."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return process.returncode, " ".join((process.stdout + process.stderr).split())  # it breaks long lines


def copy_packages(folder: Path) -> None:
    """The packages and their contracts, to plant imports in."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def test_every_contract_is_kept() -> None:
    """No package imports one above it."""
    status, output = lint_imports(ROOT)
    assert status == 0, output
    assert f"Contracts: {len(PLANTED) + 1} kept, 0 broken." in output


def test_every_contract_can_break(tmp_path: Path) -> None:
    """A forbidden import planted for each contract in a copy of the tree breaks each of them, and is named."""
    copy_packages(tmp_path)
    for file, line in (*PLANTED.items(), CIRCLE):
        with (tmp_path / file).open("a") as source:
            source.write(f"\n{line}\n")
    status, output = lint_imports(tmp_path)
    assert status == 1, output
    assert f"Contracts: 0 kept, {len(PLANTED) + 1} broken." in output
    for file, line in PLANTED.items():
        importer = file.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {line.removeprefix('import ')}" in output


def rooms() -> list[list[str]]:
    """The layers of the harness as pyproject has them, the topmost first; rooms of one layer beside one another."""
    configure()
    contracts = read_user_options(str(ROOT / "pyproject.toml")).contracts_options
    (layers,) = (contract["layers"] for contract in contracts if contract["name"] == ROOMS)
    return [layer.split(" | ") for layer in layers]


def test_every_room_has_its_layer() -> None:
    """A new room must be put somewhere, or it could import anything."""
    layered = {room.removeprefix("harness.") for layer in rooms() for room in layer}
    lying = {path.stem for path in (ROOT / "harness").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert layered == lying - {"__init__", "__pycache__"} | {"suites"}


def test_no_room_imports_the_one_above_it(tmp_path: Path) -> None:
    """The layers break at each of their borders, not only at the one that is tried above."""
    copy_packages(tmp_path)
    layers = rooms()
    for above, below in pairwise(layers):
        for room in below:
            path = tmp_path.joinpath(*room.split("."))
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            with file.open("a") as source:
                source.write(f"\nimport {above[0]}\n")
    _, output = lint_imports(tmp_path)
    for above, below in pairwise(layers):
        for room in below:
            assert f"{room} is not allowed to import {above[0]}" in output
