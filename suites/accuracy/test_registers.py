"""Texts of nine registers, from law to log files, each through rolling windows."""

from __future__ import annotations

import pytest
import torch

from goldens import REGISTERS
from harness.metrics import (
    kl_bounds,
    paired_accuracy_test,
    perplexity,
    sketched_agreement,
    sketched_perplexity,
)
from harness.run.text_scores import paired_tests
from harness.run.time_shares import clocked

WINDOW = 320


@pytest.mark.slow
@pytest.mark.tt_golden("text", seq_len=WINDOW, kept="sketch")
def test_registers(generator, golden, recorder):
    """Over 4,096 tokens scored, each once: enough for a change of perplexity of half a percent.

    The golden's logits are kept as a sketch: agreement and perplexity are exact, of KL the upper bound is judged.
    """
    tokens, scored = golden.inputs["tokens"], golden.inputs["scored"]
    each = len(tokens) // len(REGISTERS)
    before, after, low, high, right, tops = [], [], [], [], ([], []), ([], [])
    details: dict[str, float | str] = {}
    for at, register in enumerate(REGISTERS):
        windows = slice(at * each, (at + 1) * each)
        rows = scored[windows]
        sketch = {name: tensor[windows] for name, tensor in golden.outputs.items()}
        logits = generator.prefill_forward(tokens[windows].int(), all_logits=True)
        if recorder.no_numbers is not None:
            continue
        with clocked("metrics"):
            bounds = kl_bounds(sketch, logits)
            low.append(bounds.low_per_token[rows.reshape(-1)])
            high.append(bounds.high_per_token[rows.reshape(-1)])
            before.append(sketched_perplexity(sketch, rows).nll)
            after.append(perplexity(logits, tokens[windows]).nll[rows[:, :-1]])
            true = tokens[windows][:, 1:][rows[:, :-1]]
            right[0].append(sketch["top_ids"][..., 0][rows] == true)
            right[1].append(logits.argmax(-1)[rows] == true)
            agreement = sketched_agreement({name: t[rows] for name, t in sketch.items()}, logits[rows])
            tops[0].append(agreement.top1 * agreement.n)
            tops[1].append(agreement.top5 * agreement.n)
            details[f"kl_{register}"] = float(high[-1].mean())
            details[f"change_{register}"] = float(torch.expm1((after[-1] - before[-1]).mean()))

    if recorder.no_numbers is not None:
        recorder.judge({}, 0, "text")  # files that nothing was compared, and why
        return
    golden_nll, device_nll = torch.cat(before), torch.cat(after)
    answers = [torch.cat(side) for side in right]
    n = golden_nll.numel()
    change = float(torch.expm1((device_nll - golden_nll).mean()))
    values = {
        "top1": sum(tops[0]) / n,
        "top5": sum(tops[1]) / n,
        "kl": float(torch.cat(high).mean()),
        "perplexity_error": abs(change),
        "top1_loss": paired_accuracy_test(*answers).loss,
    }
    details |= {
        "tokens_scored": float(n),
        "kl_low": float(torch.cat(low).mean()),
        "perplexity": float(device_nll.mean().exp()),
        "golden_perplexity": float(golden_nll.mean().exp()),
        "change": change,
    }
    tests = paired_tests(golden_nll, device_nll, *answers)
    recorder.judge(values, n, "text", details=details, paired=tests)
