"""Greedy text from real prompts."""

from __future__ import annotations

import pytest

from harness.metrics import agreement_length, edit_distance, flip_cost

NEW_TOKENS = 32


@pytest.mark.tt_golden("generate", phase="decode", steps=NEW_TOKENS)
def test_greedy_continuation(generator, golden, recorder):
    """The tokens that follow each prompt, all prompts in one batch, against the golden's.

    Where they part, the golden must have been near a tie. For how long they agree only the first prompt is judged:
    the others come near a tie early.
    """
    prompts = prompts_of(golden)
    judge(generator, golden, recorder, prompts, generator.generate(prompts, NEW_TOKENS, stop_at_eos=False))


@pytest.mark.slow
@pytest.mark.tt_golden("generate", phase="decode", steps=16, batch=32)
def test_a_full_batch_of_prompts(generator, golden, recorder):
    """Thirty-two prompts of one word to a page, code, chat and other languages, in one batch."""
    prompts = prompts_of(golden)
    steps = golden.output.shape[1]
    judge(generator, golden, recorder, prompts, generator.generate(prompts, steps, stop_at_eos=False))


@pytest.mark.slow
@pytest.mark.tt_golden("generate", phase="decode", steps=16, batch=32)
def test_prompts_alone(generator, golden, recorder):
    """Every fourth of the same prompts by itself: the same golden, and bit for bit the text it has in the batch."""
    prompts = prompts_of(golden)
    steps = golden.output.shape[1]
    together = generator.generate(prompts, steps, stop_at_eos=False)
    costs = []
    for i in range(0, len(prompts), 4):
        (alone,) = generator.generate([prompts[i]], steps, stop_at_eos=False)
        assert alone == together[i], f"prompt {i} goes on otherwise alone than in a batch of {len(prompts)}"
        costs.append(flip_cost(golden.outputs["logits"][i], golden.output[i], alone))
    recorder.judge({"flip_cost": max(costs)}, len(costs), "model", details={"costs": str(costs)})


def prompts_of(golden) -> list[list[int]]:
    lens = golden.inputs["prompt_lens"].tolist()
    return [row[:length].tolist() for row, length in zip(golden.inputs["tokens"], lens, strict=True)]


def judge(generator, golden, recorder, prompts, generated):
    decode = generator.tokenizer.decode
    costs = []
    for i, (device, reference) in enumerate(zip(generated, golden.output.tolist(), strict=True)):
        details = {
            "prompt": decode(prompts[i]),
            "text": decode(device),
            "golden_text": decode(reference),
            "edit_distance": float(edit_distance(reference, device)),
        }
        agreement = {"agreement_length": float(agreement_length(reference, device))}
        file = recorder.judge if i == 0 else recorder.note
        file(agreement, len(reference), "model", details=details)
        costs.append(flip_cost(golden.outputs["logits"][i], reference, device))
    recorder.judge({"flip_cost": max(costs)}, len(costs), "model", details={"costs": str(costs)})
