"""The recorded data and its reader."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import torch

from harness.conformance.numerics import recordings
from harness.conformance.numerics.recordings import Recording, arrays

WITH_STEPS = ("ops", "layer_A", "layer_P", "decode_step", "sdpa", "whole_A", "whole_P8", "whole_P")
DATA = importlib.resources.files("harness.conformance.numerics") / "data"


def test_stored_words_are_bf16_values() -> None:
    """uint16 words come back as the float32 values whose upper halves they are, infinities and signed zeros too."""
    words = np.array([0x3F80, 0x8000, 0x7F80, 0xC2F7], dtype=np.uint16)
    values = recordings._values(words)
    assert values.tolist() == [1.0, 0.0, float("inf"), -123.5]
    assert values.view(torch.int32)[1] == -(2**31)


@pytest.mark.parametrize("name", WITH_STEPS)
def test_every_step_names_its_op_and_outputs(name: str) -> None:
    """Each recorded call has a ttnn op, at least one tensor and one output; a linear's K block is named or left to ttnn."""
    steps = Recording(name).steps
    assert steps
    for step in steps:
        assert step.op.startswith("ttnn.")
        assert step.tensors
        assert step.outputs


def test_single_calls_have_all_their_arrays() -> None:
    """Every operand and output of the single calls was kept, in its recorded shape."""
    recording = Recording("ops")
    for step in recording.steps:
        for spec in (*step.tensors, *step.outputs):
            assert recording.arrays[spec.name].numel() == torch.Size(spec.shape).numel(), spec.name


def test_equal_outputs_are_kept_once() -> None:
    """An output that equals another one bit for bit is found under that one's name."""
    recording = Recording("decode_step")
    same = recording.recorded("qkv")
    assert same is not None
    assert torch.equal(same, recording.arrays["qkv~1D_in0_block_w2"])
    assert recording.recorded("no such tensor") is None


def test_phases_of_the_decode_run() -> None:
    """The decode recording has its calls in phases, every one a whole layer."""
    recording = Recording("decode")
    for phase in (
        "prefill_u0",
        "prefill_u1",
        "decode_both",
        "decode_solo",
        "prefill64_u0",
        "decode_slots_17_3",
    ):
        assert {"attn_norm", "qkv", "h_out"} <= {step.point for step in recording.phase(phase)}


def test_hidden_states_of_the_decode_run_and_the_whole_run_agree() -> None:
    """User 0's prompt is the whole run's text: both recordings start from the same tokens."""
    ids = arrays("whole_golden")["ids"].tolist()
    assert Recording("decode").info["users"][0]["ids"][: len(ids)] == ids


def test_data_is_small() -> None:
    """The folder stays below 10 MB."""
    assert sum(len(file.read_bytes()) for file in DATA.iterdir()) < 10_000_000
