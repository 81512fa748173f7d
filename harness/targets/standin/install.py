"""Putting the stand-in where ttnn looks for its compiler, without touching the installed ttnn.

ttnn looks in `runtime/sfpi` below its root folder. TT_METAL_RUNTIME_ROOT moves the root: ours is a folder of links into the
package, in which only `runtime/sfpi` is not the package's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from harness.targets.standin.elf import kernel_elf

COMPILER = Path("runtime", "sfpi", "compiler", "bin", "riscv-tt-elf-g++")


def install(package: Path, version: str, below: Path) -> Path:
    """Makes, or finds, the root folder for the ttnn of that folder and version in `below`; returns it.

    Its name depends on the version, the place and the stand-in, so that none is used with another's kernels.
    Raises OSError if it cannot be written.
    """
    script = (resources.files(__package__) / "riscv-tt-elf-g++.sh").read_bytes()
    elf = kernel_elf()
    digest = hashlib.sha256(b"\0".join((str(package).encode(), script, elf))).hexdigest()
    root = below / f"ttnn-{version}-{digest[:16]}"
    if root.is_dir():
        return root
    below.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{root.name}.", dir=below))
    try:
        _link_all(package, partial, but="runtime")
        (partial / "runtime").mkdir()
        _link_all(package / "runtime", partial / "runtime", but="sfpi")
        compiler = partial / COMPILER
        compiler.parent.mkdir(parents=True)
        compiler.write_bytes(script)
        compiler.chmod(0o755)
        (compiler.parent / "kernel.elf").write_bytes(elf)
        os.rename(partial, root)
    except OSError:
        if not root.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _link_all(source: Path, target: Path, but: str) -> None:
    for path in source.iterdir():
        if path.name != but:
            (target / path.name).symlink_to(path)
