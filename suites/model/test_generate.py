"""Greedy text from real prompts."""

from __future__ import annotations

import pytest

from harness.metrics import agreement_length, flip_cost

NEW_TOKENS = 32


@pytest.mark.tt_golden("generate", phase="decode", steps=NEW_TOKENS)
def test_greedy_continuation(generator, golden, recorder):
    """The tokens that follow each prompt, all prompts in one batch, against the golden's.

    Where they part, the golden must have been near a tie. For how long they agree only the first prompt is judged:
    the others come near a tie early.
    """
    tokens, lens = golden.inputs["tokens"], golden.inputs["prompt_lens"].tolist()
    prompts = [row[:length].tolist() for row, length in zip(tokens, lens, strict=True)]
    generated = generator.generate(prompts, NEW_TOKENS, stop_at_eos=False)
    decode = generator.tokenizer.decode
    costs = []
    for i, (device, reference) in enumerate(zip(generated, golden.output.tolist(), strict=True)):
        details = {"prompt": decode(prompts[i]), "text": decode(device), "golden_text": decode(reference)}
        agreement = {"agreement_length": float(agreement_length(reference, device))}
        file = recorder.judge if i == 0 else recorder.note
        file(agreement, NEW_TOKENS, "model", details=details)
        costs.append(flip_cost(golden.outputs["logits"][i], reference, device))
    recorder.judge({"flip_cost": max(costs)}, len(costs), "model", details={"costs": str(costs)})
