"""A pytest plugin: the emulator as a target that runs no trace, as the simulator is one."""

from __future__ import annotations

from dataclasses import replace

from harness.targets import TARGETS

TARGETS["emulator"] = replace(TARGETS["emulator"], traces=False)
