"""Real text through the whole model, judged token by token against the golden's distribution."""

from __future__ import annotations

import pytest
import torch

from harness.metrics import kl_divergence, perplexity, perplexity_change, token_agreement
from harness.recorder import Regression

WINDOW, WINDOWS = 1024, 2
PREFILL, USERS = 512, 4


def figures(golden: torch.Tensor, device: torch.Tensor, tokens: torch.Tensor) -> tuple[dict, int, dict]:
    """All accuracy metrics of logits [B, S, vocab] whose row i predicts tokens[:, i + 1]; tokens is [B, S]."""
    agreement = token_agreement(golden, device)
    divergence = kl_divergence(golden, device, tokens)
    before, after = perplexity(golden, tokens), perplexity(device, tokens)
    change = perplexity_change(before, after)
    values = {
        "top1": agreement.top1,
        "top5": agreement.top5,
        "kl": divergence.mean,
        "perplexity_error": abs(change.change),
    }
    details = {
        "stderr": divergence.stderr,
        "kl_max": divergence.max,
        **{f"kl_q{percent:g}": nats for percent, nats in divergence.quantiles.items()},
        "rms_delta_p": divergence.rms_delta_p,
        "same_top_p": divergence.same_top_p,
        "worst_token": float(divergence.worst_row),
        "perplexity": after.value,
        "golden_perplexity": before.value,
        "change": change.change,
        "change_stderr": change.stderr,
    }
    return values, agreement.n, details


@pytest.mark.tt_golden("model", seq_len=WINDOW, batch=WINDOWS)
def test_prefill(generator, golden, recorder):
    """A window of text in one prefill, every position scored."""
    tokens = golden.inputs["tokens"]
    logits = generator.prefill_forward(tokens.int(), all_logits=True)
    judge(recorder, golden.output, logits, tokens)


@pytest.mark.tt_golden("teacher_forced", phase="decode", seq_len=PREFILL, steps=64, batch=USERS)
def test_teacher_forced_decode(generator, golden, recorder):
    """Prefill half a page, then feed the true tokens one by one and score what each step predicts."""
    judge_teacher_forced(generator, golden, recorder)


@pytest.mark.slow
@pytest.mark.tt_golden("teacher_forced", phase="decode", seq_len=PREFILL, steps=256, batch=USERS)
def test_long_teacher_forced_decode(generator, golden, recorder):
    """The same over four times as many steps, for tighter figures and for errors that only build up in the cache."""
    judge_teacher_forced(generator, golden, recorder)


def judge_teacher_forced(generator, golden, recorder):
    tokens, steps = golden.inputs["tokens"], golden.output.shape[1]
    assert tokens.shape[1] == PREFILL + steps
    rows = [generator.prefill_forward(tokens[:, :PREFILL].int())]
    for at in range(PREFILL, PREFILL + steps - 1):
        positions = torch.full((USERS,), at, dtype=torch.int32)
        rows.append(generator.decode_forward(tokens[:, at : at + 1].int(), positions))
    logits = torch.cat(rows, dim=1)
    # Row i of the logits predicts token PREFILL + i, so the tokens before them start one earlier.
    judge(recorder, golden.output, logits, tokens[:, PREFILL - 1 : -1])


def judge(recorder, golden: torch.Tensor, logits: torch.Tensor, tokens: torch.Tensor) -> None:
    """Files the tensor metrics and the accuracy metrics, all of them, before any of them fails the test."""
    values, n, details = figures(golden, logits, tokens)
    failures = []
    for check in (
        lambda: recorder.compare(logits, golden, "model"),
        lambda: recorder.judge(values, n, "model", details=details),
    ):
        try:
            check()
        except Regression as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)
