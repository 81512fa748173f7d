"""Holding two op streams against one another."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import ttnn

from harness.conformance.stream import StreamError, differences, stream
from harness.emulator import op_names
from harness.gates.policy import Policy, judge
from harness.ttnn_calls.op_log import recorded

SPEC = {
    "shape": [1, 1, 32, 64],
    "padded_shape": [1, 1, 32, 64],
    "dtype": "BFLOAT16",
    "layout": "TILE",
    "memory": "HOST",
}
STREAM = [
    {"name": f"ttnn.{op}", "inputs": [dict(SPEC)], "outputs": [dict(SPEC)]}
    for op in ("add", "rms_norm", "linear")
]


def test_equal_streams_have_no_difference() -> None:
    """The same ops with the same specs are no difference."""
    assert differences(STREAM, copy.deepcopy(STREAM)) == []


@pytest.mark.parametrize("field", ["shape", "padded_shape", "dtype", "layout", "memory"])
def test_every_part_of_a_spec_counts(field: str) -> None:
    """One other value in one output is one difference, which names the op, its place and both sides."""
    other = copy.deepcopy(STREAM)
    other[1]["outputs"][0][field] = "changed"
    (difference,) = differences(other, STREAM)
    assert difference.index == 1
    assert str(difference).startswith("op 1 (ttnn.rms_norm): outputs: emulator [{")
    assert "changed" in str(difference)


def test_a_missing_or_additional_op_is_a_difference() -> None:
    """A stream that ends early, or takes an op more, is not the same."""
    assert len(differences(STREAM[:2], STREAM)) == 1
    assert "op 2 (ttnn.linear)" in str(differences(STREAM[:2], STREAM)[0])
    assert len(differences([STREAM[0], *STREAM], STREAM)) == 3


def test_a_run_that_ends_badly_is_one_line() -> None:
    """A target's own process that fails says which target and its last words."""
    with pytest.raises(
        StreamError, match=r"^target emulator: ended with status 2, and said: .*no-such-model"
    ) as error:
        stream("emulator", "1x1", "no-such-model", "accuracy")
    assert "\n" not in str(error.value)


def test_a_broken_emulator_op_misses_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """An op that gives another dtype than before is a difference, and the packaged policy makes that a regression."""
    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    x = ttnn.from_torch(
        torch.zeros(1, 1, 32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device
    )

    def logged() -> list[dict[str, Any]]:
        with recorded(ttnn, op_names()) as log:
            ttnn.add(x, x)
        return [record.to_json() for record in log]

    rule = Policy.load().resolve(metric="op_differences", module="model")
    right = logged()
    assert judge(float(len(differences(logged(), right))), rule) == "pass"
    add = ttnn.add
    monkeypatch.setattr(ttnn, "add", lambda a, b: add(a, b, dtype=ttnn.float32))
    assert judge(float(len(differences(logged(), right))), rule) == "regression"
    ttnn.close_mesh_device(device)
