"""Runs chosen tests of the suites, each choice with a fault of its own, in forks of one process that has imported everything.

On stdin a JSON of `options`, pytest's for all runs, and `runs`: a list of {"fault": a name or null, "tests": node ids}. On
stdout the answers in that order: `ran` (how many), `red` (node ids) and `raised` (failures that no figure and no assertion
made); null for a run that died. What pytest prints goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from functools import partial
from typing import Any

import pytest
import torch

from harness.faults.matrix import _forked
from harness.faults.probe import Probe
from harness.targets import activate


def judged(fault: str | None, tests: list[str], options: list[str]) -> dict[str, Any]:
    """What a healthy model, or one with a fault, makes of the tests."""
    probe = Probe(early=False)
    planted = ["-p", "harness.faults", f"--tt-fault={fault}"] if fault else []
    quiet = ["-q", "--tb=no", "-rN", "-p", "no:cacheprovider", "-p", "harness.plugin.hooks", "--assert=plain"]
    pytest.main([*tests, *quiet, *options, *planted], plugins=[probe])
    return {"ran": sum(probe.tests.values()), "red": probe.red, "raised": probe.raised}


def main() -> None:
    asked = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(1)  # a pool of threads would not survive the forks
    activate("emulator", mode="fast")
    import transformers.models.llama.modeling_llama  # noqa: F401 - once here, so that no fork has to

    import harness.plugin.run_hooks  # noqa: F401 - likewise

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.freeze()
    runs = [partial(judged, run["fault"], run["tests"], asked["options"]) for run in asked["runs"]]
    with answers:
        json.dump([_forked(run) for run in runs], answers)


if __name__ == "__main__":
    main()
