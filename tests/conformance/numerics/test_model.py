"""The whole model's passes through recorded calls."""

from __future__ import annotations

import torch
import ttnn

from harness.conformance.numerics.decoding import Decoding
from harness.conformance.numerics.inputs import Weights
from harness.conformance.numerics.model import Calls, Model
from harness.conformance.numerics.recordings import Recording, arrays
from harness.metrics import compare_tensors


def test_a_linear_without_a_record_of_its_program_shares_its_twins() -> None:
    """ttnn found `up`'s program in its cache, where `gate`'s of the same shape was; the replay gives both the same."""
    for phase in ("prefill_u0", "decode_both"):
        steps = Recording("decode").phase(phase)
        recorded = {step.point: step.in0_block_w for step in steps if step.op == "ttnn.linear"}
        assert recorded["up"] is None
        calls = Calls(steps)
        assert {calls._steps[point].in0_block_w for point in recorded} == {2}


def test_of_calls_of_one_name_the_first_is_made() -> None:
    """The recording's second fill, into another cache, is not the one replayed."""
    steps = Recording("decode").phase("prefill_u0")
    assert sum(step.point == "k_fill" for step in steps) == 2
    assert Calls(steps)._steps["k_fill"] is next(step for step in steps if step.point == "k_fill")


def test_prefill_computes_the_model(device: ttnn.MeshDevice, weights: Weights) -> None:
    """In any mode the recorded sequence is SmolLM2: its hidden states and likeliest logits are near the recorded ones."""
    recording, golden = Recording("whole_A"), arrays("whole_golden")
    calls = Calls(recording.steps)
    model = Model(device, weights, calls)
    trace = model.prefill(calls, golden["ids"])
    assert trace.logits is not None
    logits = trace.logits.gather(1, golden["top64_ids"].long())
    assert compare_tensors(logits, recording.arrays["logits_at_golden_top64"]).pcc > 0.999
    assert trace.hidden.shape == recording.arrays["hidden"].shape
    assert torch.equal(trace.hidden[0], recording.arrays["hidden"][0])
    alone = model.layer(calls, 0, trace.hidden[0])
    assert torch.equal(alone, trace.hidden[1])


def test_decode_puts_each_user_where_it_belongs(device: ttnn.MeshDevice, weights: Weights) -> None:
    """A step's logits are near the recorded ones for each user, and a row without a user has none."""
    recording = Recording("decode")
    decoding = Decoding(recording, Model(device, weights, Calls(recording.phase("decode_both"))))
    trace = decoding.step("decode_both", 0, decoding.users, decoding.prefilled(decoding.users))
    assert trace.logits is not None
    for user in decoding.users:
        theirs = recording.arrays["logits"][0, user.row]
        assert compare_tensors(trace.logits[user.row], theirs).pcc > 0.99
    other = compare_tensors(trace.logits[0], recording.arrays["logits"][0, 1]).pcc
    assert other < 0.95
