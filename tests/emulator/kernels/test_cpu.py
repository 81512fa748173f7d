from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from harness.emulator.kernels import cpu

KINDS = [kind.name for kind in cpu._kinds()]
LESSER = KINDS[KINDS.index(cpu._own().name) + 1 :]
ASK = """
import json
from harness.emulator import cpu_path
from harness.emulator.kernels import cpu
name = cpu.capability().name
import torch
print(json.dumps([name, torch.backends.cpu.get_cpu_capability(), cpu_path()]))
"""


def asked(name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, cpu.VARIABLE: name}
    return subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True)


def test_every_x86_kind_is_found_by_its_flags(monkeypatch):
    monkeypatch.setattr(cpu, "_kinds", lambda: cpu._X86)
    for kind in cpu._X86:
        cpu._own.cache_clear()
        monkeypatch.setattr(cpu, "_flags", lambda kind=kind: kind.flags | {"sse2", "avx"})
        assert cpu._own() is kind
    cpu._own.cache_clear()


@pytest.mark.parametrize("name", [name for name in LESSER if name != "neon"])
def test_a_lesser_cpu_is_pretended_to_torch_and_to_the_compiler(name):
    said, torch_says, path = json.loads(asked(name).stdout)
    assert said == name
    assert torch_says == {"avx512": "AVX512", "avx2": "AVX2", "plain": "DEFAULT"}[name]
    assert re.fullmatch(rf"{name} \(pretended\), products in \w+, compiled kernels", path)


@pytest.mark.parametrize("name", ["avx1024", *KINDS[: KINDS.index(cpu._own().name)]])
def test_another_cpu_is_refused_with_what_can_be_pretended(name):
    error = asked(name).stderr.splitlines()[-1]
    assert error.startswith(f"ValueError: TT_HARNESS_CPU={name}: this CPU can be taken for one of ")
    assert error.endswith(", ".join((cpu._own().name, *LESSER)))
