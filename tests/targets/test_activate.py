"""Putting a target in place of `import ttnn`, once a process."""

from __future__ import annotations

import pytest

from harness.gates.policy import KNOWN_VALUES
from harness.targets import TARGETS
from harness.targets.emulator import MODES

REFUSED = """
from harness.targets import TargetError, activate
{before}
try:
    activate({arguments})
except TargetError as error:
    print(error)
    raise SystemExit(2)
"""


@pytest.mark.parametrize(
    ("before", "arguments", "says"),
    [
        ("", "'gpu'", ["target 'gpu'", "choose one of emulator"]),
        ("", "'emulator', arch='grayskull'", ["arch 'grayskull'", "choose one of wormhole_b0"]),
        ("", "'emulator', mesh='8x8'", ["mesh '8x8'", "1x1"]),
        (
            "import sys, types; sys.modules['ttnn'] = types.ModuleType('ttnn')",
            "'emulator'",
            ["ttnn is already imported"],
        ),
        (
            "import harness.targets as t; activate('emulator'); t.TARGETS['other'] = t.TARGETS['emulator']",
            "'other'",
            ["target 'other' on mesh 1x1", "this process already runs emulator on 1x1"],
        ),
        (
            "import os; os.environ['TT_HARNESS_CPU'] = 'cray1'",
            "'emulator'",
            ["TT_HARNESS_CPU=cray1", "this CPU can be taken for one of "],
        ),
    ],
    ids=["unknown target", "unknown arch", "mesh", "ttnn imported", "second target", "unknown CPU"],
)
def test_a_target_that_cannot_be_had_is_one_line(start, before: str, arguments: str, says: list[str]) -> None:
    """activate raises TargetError, and its message names what was asked and what stands against it."""
    line = start("python", REFUSED.format(before=before, arguments=arguments)).fault
    assert all(part in line for part in says), line


def test_activating_twice_does_nothing(start) -> None:
    """The same target again is no error, and `import ttnn` is still the one module."""
    result = start(
        "python",
        "from harness.targets import activate\n"
        "activate('emulator'); import ttnn; first = ttnn\n"
        "activate('emulator', mesh='1x1'); import ttnn\n"
        "assert ttnn is first\n"
        "print(ttnn.open_mesh_device(ttnn.MeshShape(1, 1)).get_num_devices())",
    )
    assert (result.status, result.out) == (0, "1\n"), result


def test_no_step_is_traced_where_the_target_runs_no_trace(judge) -> None:
    """A generator's default follows the target; the ones of a run and lm-eval's."""
    source = """
import dataclasses
import harness.targets as targets
from harness.evaluation.lm_eval_model import DeviceLM

def test_default(generator, tt_session, monkeypatch):
    assert generator.enable_trace
    monkeypatch.setattr(targets, "_active", dataclasses.replace(targets.active(), traces=False))
    tt_session._generators.clear()
    assert not tt_session.generator("accuracy").enable_trace
    model = DeviceLM(tt_session.options.model, emulator_mode=targets.active().mode, batch_size=1, max_length=64, prefix_token_id=0)
    assert not model.model._generator.enable_trace
"""
    result = judge(source)
    assert result.status == 0, result


def test_the_emulator_is_what_import_ttnn_means(start) -> None:
    """After activation the emulator answers, whether or not the real ttnn is installed."""
    code = (
        "from harness.targets import activate; activate('emulator')\nimport ttnn, ttnn as t, sys, harness.emulator\n"
        "print(ttnn.matmul.__module__.split('.')[0])"
    )
    assert start("python", code).out == "harness\n"


def test_a_policy_knows_every_target_and_mode() -> None:
    """A rule may name any of them, and nothing else."""
    assert KNOWN_VALUES["target"] == (*TARGETS, "torch")
    assert KNOWN_VALUES["mode"] == MODES
