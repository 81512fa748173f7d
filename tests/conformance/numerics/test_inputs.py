"""The device inputs that were not kept are made again, bit for bit."""

from __future__ import annotations

import pytest
import torch
import ttnn

from harness.conformance.numerics.inputs import Weights, initial_cache, layer_inputs, pair_swap, permuted
from harness.conformance.numerics.recordings import Recording
from harness.conformance.numerics.replay import digest, put, read
from tt_llm.checkpoint import interleave_rope


@pytest.mark.parametrize("name", ["layer_A", "layer_P", "decode_step"])
def test_inputs_have_the_recorded_digest(name: str, weights: Weights, device: ttnn.MeshDevice) -> None:
    """Weights, RoPE tables, masks, positions and caches, put on the device, have the bits the recorded device had."""
    recording = Recording(name)
    inputs = layer_inputs(recording, weights)
    missing = {input_ for input_ in recording.inputs if input_ not in inputs}
    assert missing <= {"h_in"} | {f"{head} with head dim permuted to HF order on host" for head in "qk"}
    for input_, values in inputs.items():
        spec = recording.inputs[input_]
        assert digest(read(put(values, spec, device))) == spec.sha, input_


def test_a_changed_seed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers that are not the recorded ones are refused, not compared."""
    recording = Recording("decode")
    assert initial_cache(recording).shape == (136, 3, 32, 64)
    monkeypatch.setitem(recording.info, "page_table", [[0]])
    with pytest.raises(ValueError, match="other numbers"):
        initial_cache(recording)


def test_pair_swap_turns_pairs() -> None:
    """(a, b) becomes (-b, a)."""
    pair = torch.zeros(1, 32)
    pair[0, 4:6] = torch.tensor([2.0, 3.0])
    assert (pair @ pair_swap())[0, 4:6].tolist() == [-3.0, 2.0]


def test_permuting_undoes_the_interleaved_order() -> None:
    """A head in interleaved order comes back in half-split order."""
    heads = torch.randn(1, 3, 32, 64)
    assert torch.equal(permuted(interleave_rope(heads, 64), 64), heads)


def test_a_position_without_a_user_has_angle_0(weights: Weights) -> None:
    """Position -1 is turned by nothing, like position 0."""
    angles = weights.angles(torch.tensor([-1, 0, 3]))
    assert torch.equal(angles[0], angles[1])
    assert angles[2, 0] == 3.0
