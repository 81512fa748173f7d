"""The emulator's arithmetic in C++, compiled on first use for this machine's CPU.

Every *.cpp in the folders here goes into one shared library, kept in the user's cache folder under a name made of the sources,
the compiler and the CPU, so a change of any of them compiles anew. Functions are plain C, called through ctypes. Whoever
calls one has the same rules in torch for a machine without a compiler.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch

from harness.emulator.kernels import cpu

Library = ctypes.CDLL

_SOURCES = Path(__file__).parent
_COMPILERS = ("g++", "c++", "clang++")
# Contraction off: whether a product and a sum are fused is part of what is modelled, and written out where it is wanted.
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared", "-pthread")


@functools.cache
def load(march: str | None = None) -> Library | None:
    """The library compiled for `march` (a value of the compiler's -march), or None where no compiler is found or it fails.

    None comes with one warning. Without `march` it is for the CPU that `cpu.capability` says; only tests ask for another.
    """
    if march is None:
        march = cpu.capability().march if cpu.pretended() else "native"
    compiler = next((path for name in _COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        warnings.warn(
            "no C++ compiler found: the emulator's arithmetic runs in torch, many times slower", stacklevel=2
        )
        return None
    target = _cache_dir() / f"{_key(compiler, march)}.so"
    try:
        if not target.exists():
            _compile(compiler, march, target)
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        warnings.warn(
            f"the emulator's kernels did not compile, its arithmetic runs in torch, many times slower: {reason}",
            stacklevel=2,
        )
        return None


def threads() -> int:
    """How many threads a kernel may use: as many as torch."""
    return torch.get_num_threads()


def _compile(compiler: str, march: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        sources, headers = _files("*.cpp"), _files("*.h")
        folders = sorted({f"-I{header.parent}" for header in headers})
        command = [compiler, *_FLAGS, *folders, f"-march={march}", *map(str, sources), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        built.replace(target)  # another process may be doing the same


def _key(compiler: str, march: str) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256(repr((compiler, version, march, _FLAGS, _cpu())).encode())
    for path in _files("*.cpp", "*.h"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def _files(*patterns: str) -> list[Path]:
    """Those of all folders, by name."""
    return sorted(
        (path for pattern in patterns for path in _SOURCES.rglob(pattern)), key=lambda path: path.name
    )


def _cpu() -> str:
    """What -march=native depends on, so that a home folder shared by several machines works."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = info.read_text().splitlines()
    return "".join(line for line in lines[:40] if line.startswith(("flags", "model name", "Features")))


def _cache_dir() -> Path:
    root = os.environ.get("TT_HARNESS_CACHE") or Path.home() / ".cache" / "tt-harness"
    return Path(root) / "kernels"
