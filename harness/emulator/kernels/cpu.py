"""What this CPU multiplies fast, read once; and the lesser CPU that the environment variable TT_HARNESS_CPU pretends.

A capability decides how products are computed, never what they mean. Pretending lets any machine check another's path: the
kernels are compiled for the lesser CPU, and torch, oneDNN and MKL are told to keep to its instructions. It must be in force
before torch computes anything, so set the variable before the process starts.
"""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TT_HARNESS_CPU"


@dataclass(frozen=True)
class Capability:
    """A kind of CPU."""

    name: str
    flags: frozenset[str]  # of /proc/cpuinfo, all of which it has
    bf16_units: bool  # it multiplies bfloat16, summing in float32, several times as fast as float32
    march: str  # the compiler's name for the least such CPU
    limits: tuple[str, str, str]  # what keeps ATen, oneDNN and MKL to it


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
# From the most capable down: a CPU is the first of its architecture whose flags it has. AVX-512's own instructions for bfloat16
# have no kind: on the Sapphire Rapids they were measured on they are slower than float32's (1024x576x1536: 14.7 ms, 10.4 ms).
_X86 = (
    Capability(
        "amx",
        _AVX512 | {"avx512_bf16", "amx_bf16", "amx_tile"},
        True,
        "sapphirerapids",
        ("avx512", "AVX512_CORE_AMX", "AVX512"),
    ),
    Capability("avx512", _AVX512, False, "skylake-avx512", ("avx512", "AVX512_CORE", "AVX512")),
    Capability("avx2", frozenset({"avx2", "fma"}), False, "x86-64-v3", ("avx2", "AVX2", "AVX2")),
    Capability("plain", frozenset(), False, "x86-64", ("default", "SSE41", "SSE4_2")),
)
_NO_LIMITS = ("default", "DEFAULT", "DEFAULT")
_ARM = (Capability("neon", frozenset(), False, "armv8-a", _NO_LIMITS),)


@functools.cache
def capability() -> Capability:
    """This CPU's, or the lesser one that TT_HARNESS_CPU names. Raises ValueError for a name it cannot pretend."""
    own = _own()
    name = os.environ.get(VARIABLE)
    if not name or name == own.name:
        return own
    lesser = {each.name: each for each in _kinds()[_kinds().index(own) + 1 :]}
    if name not in lesser:
        choices = ", ".join((own.name, *lesser))
        raise ValueError(f"{VARIABLE}={name}: this CPU can be taken for one of {choices}")
    limits = zip(
        ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"),
        lesser[name].limits,
        strict=True,
    )
    os.environ.update(limits)
    return lesser[name]


def pretended() -> bool:
    """Whether another CPU than this machine's is in force."""
    return capability() != _own()


@functools.cache
def _own() -> Capability:
    flags = _flags()
    return next(kind for kind in _kinds() if kind.flags <= flags)


def _kinds() -> tuple[Capability, ...]:
    return _ARM if platform.machine().lower() in ("aarch64", "arm64") else _X86


def _flags() -> frozenset[str]:
    """Of the first CPU; none where the system has no such file, which makes it a plain one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return frozenset(flags.partition(":")[2].split())
