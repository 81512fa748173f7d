"""`judge_model` in a test of somebody's own: a right model passes all metrics, a wrong one is a regression by name."""

from __future__ import annotations

import pytest

SOURCE = """
import pytest
from transformers import AutoModelForCausalLM


@pytest.mark.tt_golden("model", seq_len=512, batch=2)
@pytest.mark.tt_golden("teacher_forced", phase="decode", seq_len=32, steps=24, batch=8)
def test_model(tt_session, judge_model):
    model = AutoModelForCausalLM.from_pretrained(tt_session.folder)
    judge_model(lambda tokens, positions: {expression})
"""
RIGHT = "model(tokens).logits.detach()"
WRONG = {
    "no_context": "model(tokens.reshape(-1, 1)).logits.detach().reshape(*tokens.shape, -1)",
    "too_sure": "2 * model(tokens).logits.detach()",
    "one_token_late": "model(tokens).logits.detach().roll(1, 1)",
}


def test_a_right_model_passes(judge) -> None:
    """All metrics, in prefill and step by step."""
    result = judge(SOURCE.format(expression=RIGHT), "--tt-update-goldens")
    assert result.status == 0, result
    metrics = {(record["phase"], record["metric"]) for record in result.records}
    assert {
        (phase, metric)
        for phase in ("prefill", "decode")
        for metric in ("pcc", "kl", "top1", "top5", "perplexity_error")
    } <= metrics
    assert {record["verdict"] for record in result.records} == {"pass"}, [
        record for record in result.records if record["verdict"] != "pass"
    ]


@pytest.mark.parametrize("mistake", sorted(WRONG))
def test_a_wrong_model_is_a_regression(judge, mistake: str) -> None:
    """In prefill and in decode."""
    result = judge(SOURCE.format(expression=WRONG[mistake]), "--tt-update-goldens")
    assert result.status == 1, result
    red = {record["phase"] for record in result.records if record["verdict"] == "regression"}
    assert red == {"prefill", "decode"}
    assert {record["module"] for record in result.records} == {"model"}
