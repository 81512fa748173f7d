"""The same model in plain bf16 PyTorch: what bf16 alone costs, beside which a device's figures are read."""

from __future__ import annotations

import pytest

from goldens import GoldenSpec
from harness.metrics import compare_tensors
from harness.results.schema import REFERENCE_TARGET
from harness.run.text_scores import score

from .test_text import WINDOW, WINDOWS


@pytest.mark.tt_golden("model", seq_len=WINDOW, batch=WINDOWS, reference_dtype="bfloat16")
def test_plain_bf16(tt_session, golden, recorder):
    """Files the floor's figures for the report; they are PyTorch's, so no gate is held against them."""
    reference = tt_session.golden(GoldenSpec("model", seq_len=WINDOW, batch=WINDOWS))
    logits = golden.output.float()
    tokenizer = tt_session.reference("float32").tokenizer
    scores = score(reference.output, logits, golden.inputs["tokens"], tokenizer.decode)
    comparison = compare_tensors(logits, reference.output)
    torch_row = {"target": REFERENCE_TARGET, "precision": "bf16"}
    recorder.note(scores.values, scores.n, details=scores.details, **torch_row)
    recorder.note(
        {"pcc": comparison.pcc, "worst_row_pcc": comparison.worst_row_pcc}, comparison.n, **torch_row
    )
    assert comparison.state == "ok"
