"""Greedy text from real prompts."""

from __future__ import annotations

import pytest

from harness.metrics import agreement_length

NEW_TOKENS = 32


@pytest.mark.tt_golden("generate", phase="decode", steps=NEW_TOKENS)
def test_greedy_continuation(generator, golden, recorder):
    """The tokens that follow each prompt, all prompts in one batch, against the golden's: how long they agree."""
    tokens, lens = golden.inputs["tokens"], golden.inputs["prompt_lens"].tolist()
    prompts = [row[:length].tolist() for row, length in zip(tokens, lens, strict=True)]
    generated = generator.generate(prompts, NEW_TOKENS, stop_at_eos=False)
    decode = generator.tokenizer.decode
    failures = []
    for prompt, device, reference in zip(prompts, generated, golden.output.tolist(), strict=True):
        details = {"prompt": decode(prompt), "text": decode(device), "golden_text": decode(reference)}
        try:
            recorder.judge(
                {"agreement_length": float(agreement_length(reference, device))},
                NEW_TOKENS,
                "model",
                details=details,
            )
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)
