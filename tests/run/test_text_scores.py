"""What the accuracy suites make of logits: right ones pass, and none of the outputs that are plainly wrong does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from goldens.sketch import sketch
from harness.gates.policy import Policy
from harness.metrics import ShapeMismatch, kl_bounds, sketched_agreement
from harness.results.schema import Record
from harness.run.recorder import Recorder
from harness.run.text_scores import judge, score

USERS, LENGTH, VOCAB = 2, 300, 500
Damage = Callable[[torch.Tensor], torch.Tensor]


def nan_in_one_head(logits: torch.Tensor) -> torch.Tensor:
    """A NaN in one head reaches every later token of its user."""
    broken = logits.clone()
    broken[1, 37:] = torch.nan
    return broken


WRONG: dict[str, Damage] = {
    "a constant output": lambda logits: torch.full_like(logits, 0.5),
    "zeros": torch.zeros_like,
    "a NaN in one head": nan_in_one_head,
    "a scale of 2": lambda logits: 2 * logits,
    "permuted users": lambda logits: logits.flip(0),
    "positions off by one": lambda logits: logits.roll(1, dims=1),
}


@pytest.fixture(scope="module")
def golden() -> torch.Tensor:
    return 3 * torch.randn(USERS, LENGTH, VOCAB, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tokens(golden: torch.Tensor) -> torch.Tensor:
    """A text as the golden itself would write it."""
    drawn = torch.multinomial(
        golden.softmax(-1).reshape(-1, VOCAB), 1, generator=torch.Generator().manual_seed(1)
    )
    return drawn.reshape(USERS, LENGTH).roll(1, dims=1)


def judged(golden: torch.Tensor, device: torch.Tensor, tokens: torch.Tensor) -> list[Record]:
    """The records filed; AssertionError where a gate fails the test at once."""
    filed: list[Record] = []
    base = Record(
        test="test_text",
        module="model",
        metric="none",
        value=None,
        verdict="not_compared",
        target="emulator",
        precision="accuracy",
        phase="prefill",
    )
    scores = score(golden, device, tokens, lambda ids: " ".join(map(str, ids)))
    judge(Recorder(base, Policy.load(), filed.append), golden, device, scores)
    return filed


def test_right_logits_pass_with_all_their_figures(golden: torch.Tensor, tokens: torch.Tensor) -> None:
    """bfloat16's rounding passes what is absolute; each statistical gate has its test's figures, and the KL its worst tokens."""
    filed = {record.metric: record for record in judged(golden, golden.bfloat16().float(), tokens)}
    assert {r.verdict for name, r in filed.items() if name not in ("perplexity_error", "top1_loss")} == {
        "pass"
    }
    for metric in ("perplexity_error", "top1_loss"):
        assert {"p_value", "detectable", "alpha", "power"} <= set(filed[metric].details)
    assert str(filed["kl"].details["worst_token_1"]).startswith("KL ")
    assert "worst_token_1" not in filed["top5"].details
    assert filed["perplexity_error"].details["tokens_scored"] == USERS * (LENGTH - 1)


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_output_passes(golden: torch.Tensor, tokens: torch.Tensor, name: str) -> None:
    """Each fails the test at once, without waiting for the statistics."""
    with pytest.raises(AssertionError, match="gate"):
        judged(golden, WRONG[name](golden), tokens)


def test_a_truncated_decode_is_refused(golden: torch.Tensor, tokens: torch.Tensor) -> None:
    """A device that stopped early is not scored on what it has."""
    with pytest.raises(ShapeMismatch):
        judged(golden, golden[:, :-1], tokens)


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_output_passes_beside_a_sketch(
    golden: torch.Tensor, tokens: torch.Tensor, name: str
) -> None:
    """Where the golden's logits were kept as a sketch, the KL's upper bound or the agreement is outside its gate."""
    policy = Policy.load()
    sketched = sketch(golden, torch.full_like(tokens, -1))
    device = WRONG[name](golden)
    kl = kl_bounds(sketched, device).high
    top1 = sketched_agreement(sketched, device).top1
    gates = [policy.resolve(metric=metric, precision="accuracy").gate for metric in ("kl", "top1")]
    assert not (kl <= gates[0] and top1 >= gates[1])


def test_flips_are_shown_both_ways(golden: torch.Tensor, tokens: torch.Tensor) -> None:
    """A token the device loses and one it gains stand in their text, with what the other side had."""
    true = tokens[:, 1:]
    right = (golden.argmax(-1)[:, :-1] == true).nonzero()
    wrong = (golden.argmax(-1)[:, :-1] != true).nonzero()
    device = golden.clone()
    (lost, gained) = right[0].tolist(), wrong[0].tolist()
    device[lost[0], lost[1], true[lost[0], lost[1]]] = -50.0
    device[gained[0], gained[1], true[gained[0], gained[1]]] = 50.0
    scores = score(golden, device, tokens, lambda ids: " ".join(map(str, ids)))
    output = scores.paired["top1_loss"](0.01, 0.8)
    assert (output["lost"], output["gained"]) == (1.0, 1.0)
    assert f"-> '{int(true[lost[0], lost[1]])}', not" in str(output["lost_1"])
    assert f"-> '{int(true[gained[0], gained[1]])}', not" in str(output["gained_1"])
