"""The stand-in compiler, by itself: no ttnn is needed."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from harness.targets.standin import install
from harness.targets.standin.elf import kernel_elf
from harness.targets.standin.install import COMPILER


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folders of an installed ttnn that matter here."""
    package = tmp_path / "ttnn"
    (package / "runtime" / "hw").mkdir(parents=True)
    (package / "tt_metal").mkdir()
    (package / "tt_metal" / "kernel.cpp").write_text("void kernel_main() {}\n")
    return package


@pytest.fixture
def compiler(package: Path, tmp_path: Path) -> Path:
    return install(package, "1.0", tmp_path / "cache") / COMPILER


def run(compiler: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([compiler, *arguments], capture_output=True, text=True)


def test_the_root_shows_the_package_and_leaves_it_alone(package: Path, compiler: Path) -> None:
    """Everything but the compiler is the package's own, and the package gains no file."""
    root = compiler.parents[len(COMPILER.parts) - 1]
    assert (root / "tt_metal" / "kernel.cpp").read_text() == "void kernel_main() {}\n"
    assert (root / "runtime" / "hw").resolve() == package / "runtime" / "hw"
    assert not (package / "runtime" / "sfpi").exists()


def test_a_root_is_made_once_and_never_for_another_ttnn(package: Path, tmp_path: Path) -> None:
    """The same package finds the same root; another version or place gets another."""
    below = tmp_path / "cache"
    first = install(package, "1.0", below)
    assert install(package, "1.0", below) == first
    assert install(package, "1.1", below) != first
    elsewhere = package.rename(tmp_path / "other")
    assert install(elsewhere, "1.0", below) != first
    assert len(list(below.iterdir())) == 3, "no partial folder is left"


def test_it_names_itself(compiler: Path) -> None:
    """ttnn reads one line of `--version`; it must not look like Tenstorrent's compiler."""
    lines = run(compiler, "--version").stdout.splitlines()
    assert len(lines) == 1
    assert "stand-in" in lines[0]


def test_compiling_writes_the_object_and_its_dependencies(compiler: Path, tmp_path: Path) -> None:
    """The dependency file names the source, in a folder with a space too."""
    folder = tmp_path / "a b"
    folder.mkdir()
    source, out, dependencies = folder / "k.cc", folder / "k.o", folder / "k.d"
    result = run(compiler, "-O2", "-DX=1", "-c", "-o", out, source, "-MF", dependencies)
    assert (result.returncode, result.stderr) == (0, "")
    assert out.exists()
    assert dependencies.read_text() == f"{out}: {source}\n"


def test_linking_copies_the_executable(compiler: Path, tmp_path: Path) -> None:
    """A linker script among the arguments makes it a link."""
    out = tmp_path / "k.elf"
    result = run(compiler, "-O2", "-T/some/kernel_brisc.ld", "-Wl,--emit-relocs", tmp_path / "k.o", "-o", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert out.read_bytes() == kernel_elf()


def test_without_an_output_it_fails(compiler: Path, tmp_path: Path) -> None:
    """What it does not understand is an error, not a success that wrote nothing."""
    result = run(compiler, "-c", tmp_path / "k.cc")
    assert result.returncode != 0
    assert "no -o" in result.stderr


def test_the_data_are_packed_behind_the_text() -> None:
    """ELF32 RISC-V with two segments, the second's load address where the first ends, as ttnn demands."""
    elf = kernel_elf()
    assert elf[:6] == b"\x7fELF\x01\x01"
    assert struct.unpack_from("<2H", elf, 16) == (2, 243)
    text, data = (struct.unpack_from("<8I", elf, 52 + 32 * i) for i in range(2))
    assert (text[0], data[0]) == (1, 1)
    assert data[3] == text[3] + text[4]
