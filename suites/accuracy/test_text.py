"""Real text through the whole model, judged token by token against the golden's distribution."""

from __future__ import annotations

import pytest
import torch

from harness.run.text_scores import judge, score

WINDOW, WINDOWS = 1024, 2
PREFILL = 512


@pytest.mark.tt_golden("model", seq_len=WINDOW, batch=WINDOWS)
def test_prefill(generator, golden, recorder):
    """A window of text in one prefill, every position scored."""
    tokens = golden.inputs["tokens"]
    logits = generator.prefill_forward(tokens.int(), all_logits=True)
    scores = score(golden.output, logits, tokens, generator.tokenizer.decode)
    judge(recorder, golden.output, logits, scores)


@pytest.mark.tt_golden("teacher_forced", phase="decode", seq_len=PREFILL, steps=80, batch=8)
def test_teacher_forced_decode(generator, golden, recorder):
    """Prefill half a page, then feed the true tokens one by one and score what each step predicts."""
    judge_teacher_forced(generator, golden, recorder)


@pytest.mark.slow
@pytest.mark.tt_golden("teacher_forced", phase="decode", seq_len=PREFILL, steps=256, batch=4)
def test_long_teacher_forced_decode(generator, golden, recorder):
    """The same over three times as many steps, for errors that only build up in the cache."""
    judge_teacher_forced(generator, golden, recorder)


def judge_teacher_forced(generator, golden, recorder):
    tokens, (users, steps) = golden.inputs["tokens"], golden.output.shape[:2]
    assert tokens.shape[1] == PREFILL + steps
    rows = [generator.prefill_forward(tokens[:, :PREFILL].int())]
    for at in range(PREFILL, PREFILL + steps - 1):
        positions = torch.full((users,), at, dtype=torch.int32)
        rows.append(generator.decode_forward(tokens[:, at : at + 1].int(), positions))
    logits = torch.cat(rows, dim=1)
    # Row i of the logits predicts token PREFILL + i, so the tokens before them start one earlier.
    scores = score(golden.output, logits, tokens[:, PREFILL - 1 : -1], generator.tokenizer.decode)
    judge(recorder, golden.output, logits, scores)
